"""PostgreSQL (Debian's) under torture: several clients outside, the server inside the machine that is killed.

Everything that makes it safe stays on as it comes (fsync, full page writes, synchronous commit), data checksums are on,
WAL segments and checkpoints are small, so that files are created, renamed, recycled and flushed all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, Final

import psycopg

from tests.lab.mirror.pair import eventually
from tests.lab.torture.loads import LoadError, judge_numbers, row_text

_USER: Final = "postgres"
_CLIENTS: Final = 3
_START_S: Final = 60.0
_ASK_S: Final = 0.05
_INIT_S: Final = 120.0
_SETTINGS: Final = """
listen_addresses = ''
shared_buffers = 16MB
max_wal_size = 8MB
min_wal_size = 2MB
checkpoint_timeout = 30s
autovacuum_naptime = 1s
max_connections = 20
log_min_messages = fatal
"""
_SCHEMA: Final = """
create table one (client int, n int, v text not null, primary key (client, n));
create table two (client int, n int, v text not null, primary key (client, n));
create index two_v on two (md5(v));
create table account (id int primary key, balance bigint not null);
insert into account select i, 0 from generate_series(0, 9) i;
create extension amcheck;
"""


def program(name: str) -> str:
    """Debian keeps the server's programs out of PATH. Raises `LoadError` when it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        raise LoadError(f"{name} is not installed: tools/setup.sh --app postgres")
    return str(found[-1])


def as_user(*argv: str) -> list[str]:
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--init-groups", "--", *argv]


class _Client(threading.Thread):
    """Commits transactions until its connection breaks. `last` is the last one that was acknowledged."""

    def __init__(self, number: int, connect: dict[str, Any], last: int) -> None:
        super().__init__(name=f"pg-client-{number}", daemon=True)
        self.number = number
        self.last = last
        self.enough = threading.Event()
        self.error: Exception | None = None
        self._connect = connect

    def run(self) -> None:
        try:
            with psycopg.connect(**self._connect) as connection:
                while not self.enough.is_set():
                    self._one(connection, self.last + 1)
                    self.last += 1
        except psycopg.OperationalError:
            return  # the server died, as intended
        except psycopg.Error as error:
            self.error = error

    def _one(self, connection: psycopg.Connection[Any], n: int) -> None:
        text = row_text(self.number, n)
        row = (self.number, n, text)
        first, second = sorted((n % 10, (n * 7 + 1) % 10))
        with connection.transaction():
            connection.execute("insert into one values (%s, %s, %s)", row)
            connection.execute("update account set balance = balance - %s where id = %s", (n, first))
            connection.execute("update account set balance = balance + %s where id = %s", (n, second))
            connection.execute("insert into two values (%s, %s, %s)", row)


class PostgresLoad:
    """`sockets`: a directory outside of the replicated one."""

    name = "postgres"

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets
        self._acknowledged = dict.fromkeys(range(_CLIENTS), 0)
        self._began_at = 0
        self._clients: list[_Client] = []
        self._server: subprocess.Popen[bytes] | None = None
        self._pids: set[int] = set()

    def _data(self, root: Path) -> Path:
        return root / "postgres"

    def _where(self) -> dict[str, Any]:
        return {"host": str(self._sockets), "user": _USER, "dbname": "postgres", "autocommit": True}

    async def create(self, root: Path) -> None:
        await asyncio.to_thread(self._make, root)
        await self._start(root)
        await asyncio.to_thread(self._schema)

    def _make(self, root: Path) -> None:
        self._sockets.mkdir(mode=0o755, exist_ok=True)
        user = pwd.getpwnam(_USER)
        os.chown(self._sockets, user.pw_uid, user.pw_gid)
        data = self._data(root)
        data.mkdir(mode=0o700)
        shutil.chown(data, _USER, _USER)
        # Without its own flushes: in the one order of the mirror the first commit that is flushed covers them.
        initdb = as_user(
            program("initdb"),
            "--no-sync",
            "-D",
            str(data),
            "-A",
            "trust",
            "-U",
            _USER,
            "-k",
            "--wal-segsize=1",
            "--no-instructions",
        )
        subprocess.run(initdb, check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=_INIT_S)
        with (data / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write(_SETTINGS)

    def _schema(self) -> None:
        with psycopg.connect(**self._where()) as connection:
            connection.execute(_SCHEMA)

    def _launch(self, root: Path) -> None:
        command = as_user(program("postgres"), "-D", str(self._data(root)), "-k", str(self._sockets))
        with open(self._sockets / "log", "ab") as log:
            self._server = subprocess.Popen(command, cwd="/", stdout=log, stderr=log)

    async def _start(self, root: Path) -> None:
        await asyncio.to_thread(self._launch, root)
        async with asyncio.timeout(_START_S):
            while True:
                if await asyncio.to_thread(self._answers):
                    return
                await asyncio.sleep(_ASK_S)

    def _answers(self) -> bool:
        assert self._server is not None
        if self._server.poll() is not None:
            log = (self._sockets / "log").read_text(errors="replace")
            raise LoadError(f"PostgreSQL does not start ({self._server.returncode}): {log[-1500:]}")
        try:
            psycopg.connect(**self._where()).close()
        except psycopg.OperationalError:
            return False
        return True

    async def verify(self, root: Path) -> int:
        if self._server is None:
            await self._start(root)
        return await asyncio.to_thread(self._judge)

    def _judge(self) -> int:
        with psycopg.connect(**self._where()) as connection:
            one = connection.execute("select client, n, v from one order by client, n").fetchall()
            two = connection.execute("select client, n, v from two order by client, n").fetchall()
            balance = connection.execute("select sum(balance) from account").fetchone()
            connection.execute("select bt_index_parent_check(i, true) from unnest(%s::regclass[]) i", (_INDEXES,))
            damaged = connection.execute(
                "select * from unnest(%s::regclass[]) t, verify_heapam(t)", (["one", "two", "account"],)
            ).fetchall()
        if damaged:
            raise LoadError(f"postgres: amcheck says {damaged[:5]}")
        if one != two:
            raise LoadError(f"postgres: {len(one)} rows in one table, {len(two)} in the other, or not the same")
        if balance is None or balance[0] != 0:
            raise LoadError(f"postgres: the accounts add up to {balance}")
        wrong = [(client, n) for client, n, text in one if text != row_text(client, n)]
        if wrong:
            raise LoadError(f"postgres: rows {wrong[:10]} hold something else than was written")
        for client in range(_CLIENTS):
            numbers = [n for owner, n, _ in one if owner == client]
            last = judge_numbers(f"postgres, client {client}", numbers, self._acknowledged[client])
            self._acknowledged[client] = last
        return len(one)

    async def go(self, root: Path) -> None:
        self._began_at = sum(self._acknowledged.values())
        self._clients = [_Client(number, self._where(), last) for number, last in self._acknowledged.items()]
        for client in self._clients:
            client.start()

    def acknowledged(self) -> int:
        for client in self._clients:
            if client.error is not None:
                raise LoadError(f"postgres, client {client.number}: {client.error}") from client.error
        return sum(client.last for client in self._clients) - self._began_at

    def kill(self) -> None:
        """The children of a postmaster have sessions of their own, so each is killed by its number."""
        if self._server is None:
            return
        self._pids = _family(self._server.pid)
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # A backend that was being started escaped the list; without its postmaster it starts nothing more itself.
        self._pids |= _family(self._server.pid)

    async def gone(self) -> None:
        for client in self._clients:
            client.enough.set()
            await asyncio.to_thread(client.join, 30)
            if client.is_alive():
                raise LoadError(f"postgres, client {client.number} does not end")
            self._acknowledged[client.number] = client.last
        self._clients = []
        if self._server is not None:
            await asyncio.to_thread(self._server.wait, 30)
            await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in self._pids))
            self._server = None

    async def stop(self, root: Path) -> None:
        for client in self._clients:
            client.enough.set()
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
        await self.gone()

    def check_sums(self, root: Path) -> None:
        """Reads every page of a cluster at rest. Raises `LoadError`."""
        command = as_user(program("pg_checksums"), "--check", "-D", str(self._data(root)))
        done = subprocess.run(command, check=False, cwd="/", capture_output=True, text=True, timeout=_INIT_S)
        if done.returncode != 0:
            raise LoadError(f"pg_checksums on {root}: {done.stdout[-500:]}{done.stderr[-500:]}")


_INDEXES: Final = ["one_pkey", "two_pkey", "two_v", "account_pkey"]


def _family(pid: int) -> set[int]:
    """A process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return {pid}  # it is gone already
    return {pid, *map(int, children.split())}
