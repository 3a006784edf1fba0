"""Writes through the virtual IP without pause and journals every acknowledgement outside the cluster.

A write that is not answered is repeated with the same id until it is; only an answer counts as acknowledged. The
journal is the oracle: whatever stands there must be in the application at the end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, Self

import aiohttp
import psycopg

from lab.demo.api import DemoFailed

ATTEMPT_TIMEOUT_S: Final = 1.0
RETRY_PAUSE_S: Final = 0.05
PAUSE_S: Final = 0.01
WRITERS: Final = 3


class Target(Protocol):
    """One connection's view of the application."""

    async def write(self, number: int) -> None:
        """Returns when the application has acknowledged; raises otherwise."""
        ...

    async def everything(self) -> set[int]: ...

    async def close(self) -> None: ...


FAILURES: Final = (OSError, TimeoutError, aiohttp.ClientError, psycopg.Error)


class LedgerTarget:
    def __init__(self, address: str, port: int) -> None:
        self._url = f"http://{address}:{port}/entries"
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ATTEMPT_TIMEOUT_S, connect=ATTEMPT_TIMEOUT_S / 2)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=1))
        return self._session

    async def write(self, number: int) -> None:
        async with self._open().post(self._url, json={"id": number, "text": f"entry {number}"}) as answer:
            if answer.status not in (200, 201):
                raise OSError(f"the ledger answered {answer.status}")
            await answer.read()

    async def everything(self) -> set[int]:
        async with self._open().get(self._url, timeout=aiohttp.ClientTimeout(total=30)) as answer:
            document: dict[str, Any] = await answer.json()
            return set(document["entries"])

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class PostgresTarget:
    def __init__(self, address: str, port: int, password: Callable[[], Awaitable[str]]) -> None:
        self._where: dict[str, Any] = {
            "host": address,
            "port": port,
            "user": "demo",
            "dbname": "demo",
            "connect_timeout": 2,
        }
        self._password = password
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def _open(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None:
            password = await self._password()
            async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                self._connection = await psycopg.AsyncConnection.connect(
                    **self._where, password=password, autocommit=True
                )
                await self._connection.execute("CREATE TABLE IF NOT EXISTS entry (id bigint PRIMARY KEY, text text)")
        return self._connection

    async def write(self, number: int) -> None:
        connection = await self._open()
        async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
            statement = "INSERT INTO entry VALUES (%s, %s) ON CONFLICT DO NOTHING"
            await connection.execute(statement, (number, f"entry {number}"))

    async def everything(self) -> set[int]:
        cursor = await (await self._open()).execute("SELECT id FROM entry")
        return {int(row[0]) for row in await cursor.fetchall()}

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                    await connection.close()
            except FAILURES:
                return  # the server it talked to is gone; the socket goes with the object


@dataclass
class Writer:
    """`acknowledged`: id → wall-clock time of the acknowledgement, seconds since the epoch. Ids begin at `first`."""

    make_target: Callable[[], Target]
    journal: Path
    first: int = 1
    acknowledged: dict[int, float] = field(default_factory=dict)

    _last_failure: str = field(default="", init=False)

    async def __aenter__(self) -> Self:
        self._file = self.journal.open("w", encoding="utf-8")
        self._numbers = itertools.count(self.first)
        self._tasks = [asyncio.create_task(self._work(), name=f"writer-{index}") for index in range(WRITERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._file.close()

    async def wait_for(self, count: int, *, deadline_s: float) -> None:
        """Wait until `count` further writes were acknowledged. Raises `DemoFailed`."""
        before = len(self.acknowledged)
        try:
            async with asyncio.timeout(deadline_s):
                while len(self.acknowledged) < before + count:
                    self._check()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise DemoFailed(
                f"{len(self.acknowledged) - before} of {count} writes were acknowledged within {deadline_s:.0f} s; "
                f"the last one that failed: {self._last_failure or 'none failed'}"
            ) from None

    def _check(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise RuntimeError("a writer of the demo died") from error

    async def _work(self) -> None:
        target = self.make_target()
        try:
            for number in self._numbers:
                while not await self._attempt(target, number):
                    await target.close()
                    await asyncio.sleep(RETRY_PAUSE_S)
                await asyncio.sleep(PAUSE_S)
        finally:
            await target.close()

    async def _attempt(self, target: Target, number: int) -> bool:
        try:
            await target.write(number)
        except FAILURES as error:
            self._last_failure = f"{type(error).__name__} {error}".strip()
            return False
        at = time.time()
        self._file.write(json.dumps({"id": number, "acknowledged": at}) + "\n")
        self._file.flush()
        self.acknowledged[number] = at
        return True

    def outage_s(self, since: float, until: float) -> float:
        """The longest time without an acknowledgement that touches the interval [since, until]."""
        times = sorted(self.acknowledged.values())
        return max((b - a for a, b in itertools.pairwise(times) if b >= since and a <= until), default=0.0)

    def first_after(self, moment: float) -> float | None:
        return min((at for at in self.acknowledged.values() if at > moment), default=None)
