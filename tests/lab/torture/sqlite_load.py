"""SQLite under torture: one file per journal mode, one client process each, killed with the machine it runs on."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from tests.lab.torture.loads import LoadError, judge_numbers, row_text
from tests.lab.torture.sqlite_client import SCHEMA, connect

_REPOSITORY = Path(__file__).resolve().parents[3]


class SqliteLoad:
    """`journal` is "wal" or "delete" (SQLite's rollback journal)."""

    def __init__(self, journal: str) -> None:
        self.name = "sqlite-wal" if journal == "wal" else "sqlite-rollback"
        self._journal = journal
        self._last = 0
        self._began_at = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    def _path(self, root: Path) -> Path:
        return root / self.name / "data.db"

    async def create(self, root: Path) -> None:
        def make() -> None:
            self._path(root).parent.mkdir()
            with contextlib.closing(connect(str(self._path(root)), self._journal)) as connection:
                connection.executescript(SCHEMA)

        await asyncio.to_thread(make)

    async def verify(self, root: Path) -> int:
        self._last = await asyncio.to_thread(self._judge, root)
        return self._last

    def _judge(self, root: Path) -> int:
        with contextlib.closing(connect(str(self._path(root)), self._journal)) as connection:
            problems = [line for (line,) in connection.execute("pragma integrity_check")]
            if problems != ["ok"]:
                raise LoadError(f"{self.name}: integrity_check says {problems[:5]}")
            one = connection.execute("select n, v from one order by n").fetchall()
            two = connection.execute("select n, v from two order by n").fetchall()
            (balance,) = connection.execute("select sum(balance) from account").fetchone()
            (pruned_to,) = connection.execute("select to_n from pruned").fetchone()
        if one != two:
            raise LoadError(f"{self.name}: {len(one)} rows in one table, {len(two)} in the other, or not the same")
        if balance != 0:
            raise LoadError(f"{self.name}: the accounts add up to {balance}")
        wrong = [number for number, text in one if text != row_text(0, number)]
        if wrong:
            raise LoadError(f"{self.name}: rows {wrong[:10]} hold something else than was written")
        return judge_numbers(self.name, [number for number, _ in one], self._last, pruned_to)

    async def go(self, root: Path) -> None:
        self._began_at = self._last
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.lab.torture.sqlite_client",
            str(self._path(root)),
            self._journal,
            str(self._last + 1),
            cwd=_REPOSITORY,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while (line := await process.stdout.readline()).endswith(b"\n"):
            self._last = int(line)

    def acknowledged(self) -> int:
        return self._last - self._began_at

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it met the dead mount first
                self._process.kill()

    async def gone(self) -> None:
        """The pipe outlives the process: what it said before its death is read to the end."""
        if self._process is not None and self._reading is not None:
            await self._process.wait()
            await self._reading
            self._process = self._reading = None

    async def stop(self, root: Path) -> None:
        self.kill()
        await self.gone()
