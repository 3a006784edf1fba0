"""Clients that write without pause, each value once, and journal what was sent and what was acknowledged.

Two write through the virtual IP: one keeps its connection while it works, one makes a new connection for every write,
because the load balancer treats them differently. One more for each node talks to that node's application directly,
from inside the VM's network (`watch`): the load balancer keeps old flows alive, so a deposed primary may still be asked
something. Whatever is acknowledged, by whomever, must be in the application at the end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO

import aiohttp

from lab.faults.model import Ack

ATTEMPT_TIMEOUT_S: Final = 1.0
CONNECT_TIMEOUT_S: Final = 0.5
RETRY_PAUSE_S: Final = 0.05
PAUSE_S: Final = 0.02
KEPT: Final = "virtual IP, one connection"
FRESH: Final = "virtual IP, new connections"
THROUGH_VIRTUAL_IP: Final = (KEPT, FRESH)


class Journal:
    """Every id, its value and its acknowledgements; in memory for the judge, in a file for people. Thread-safe."""

    def __init__(self, path: Path, first_id: int) -> None:
        self._ids = itertools.count(first_id)
        self._lock = threading.Lock()
        self._file: TextIO = path.open("a", encoding="utf-8")
        self.values: dict[int, str] = {}
        self.acks: list[Ack] = []
        self.first_id = first_id
        self.next_id = first_id

    def attempt(self) -> tuple[int, str]:
        """A new id and its value, written down before anybody hears of them."""
        with self._lock:
            number = next(self._ids)
            value = f"{number}-{secrets.token_hex(8)}"
            self.values[number] = value
            self.next_id = number + 1
            self._write({"id": number, "value": value})
        return number, value

    def acknowledge(self, ack: Ack) -> None:
        with self._lock:
            self.acks.append(ack)
            self._write({"id": ack.id, "node": ack.node, "through": ack.through, "at": ack.received_at})

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        self._file.close()

    def count(self, through: str) -> int:
        return sum(1 for ack in self.acks if ack.through == through)


class Writers:
    """`async with Writers(journal, address, port)`: they write until the block ends."""

    def __init__(self, journal: Journal, address: str, port: int, *, pause_s: float = PAUSE_S) -> None:
        """`pause_s`: between two writes of a client."""
        self._journal = journal
        self._pause_s = pause_s
        self._url = f"http://{address}:{port}/entries"
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work(through), name=through) for through in THROUGH_VIRTUAL_IP]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for task, outcome in zip(self._tasks, await asyncio.gather(*self._tasks, return_exceptions=True), strict=True):
            if isinstance(outcome, Exception):
                raise RuntimeError(f"{task.get_name()} of the fault matrix died") from outcome

    async def wait_for(self, count: int, *, deadline_s: float) -> None:
        """Wait for `count` further acknowledgements to each writer; TimeoutError."""
        wanted = {through: self._journal.count(through) + count for through in THROUGH_VIRTUAL_IP}
        async with asyncio.timeout(deadline_s):
            while True:
                if all(self._journal.count(through) >= number for through, number in wanted.items()):
                    return
                await asyncio.sleep(RETRY_PAUSE_S)

    async def _work(self, through: str) -> None:
        while True:
            async with self._session(through) as session:
                while True:
                    if not await self._write(session, through):
                        break
                    await asyncio.sleep(self._pause_s)
            await asyncio.sleep(RETRY_PAUSE_S)

    def _session(self, through: str) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=ATTEMPT_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=1, force_close=through == FRESH)
        return aiohttp.ClientSession(timeout=timeout, connector=connector)

    async def _write(self, session: aiohttp.ClientSession, through: str) -> bool:
        """One value, tried once; False when the connection should be made anew."""
        number, value = self._journal.attempt()
        sent_at = time.monotonic()
        try:
            async with session.post(self._url, json={"id": number, "text": value}) as answer:
                if answer.status not in (200, 201):
                    return False
                document = await answer.json()
        except (OSError, TimeoutError, aiohttp.ClientError):
            return False
        self._journal.acknowledge(Ack(number, str(document["node"]), sent_at, time.monotonic(), through))
        return True
