"""A client on the team's machine while a test works, and what became of its requests."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lab.demo.api import DemoFailed
from lab.demo.nodes import Nodes
from lab.info import LabInfo
from tests.lab.options.team import CLIENT, TEAM

PROGRAM: Final = Path(__file__).with_name("client_program.py")
PYTHON: Final = "/usr/bin/python3"
DEADLINE_S: Final = 600.0
POLL_S: Final = 0.5


@dataclass(frozen=True)
class Request:
    """Times are of the machine's monotonic clock, which is this one's."""

    began: float
    ended: float
    id: int
    said: str
    failure: str


@dataclass
class InsideClient:
    """`seen` is there after the client has ended; `answered` counts while it works."""

    nodes: Nodes
    journal: str
    seen: list[Request] = field(default_factory=list)

    async def answered(self) -> list[Request]:
        """What was answered until now."""
        return [request for request in await self.requests() if not request.failure]

    async def requests(self) -> list[Request]:
        lines = (await self.nodes.run(CLIENT, "cat", self.journal)).splitlines()
        return [Request(**json.loads(line)) for line in lines if line.endswith("}")]

    async def until_answered(self, count: int, *, since: float, by: str = "") -> None:
        """So many answers to requests that began after `since`, from this node of the cluster."""
        limit = time.monotonic() + DEADLINE_S
        while True:
            found = [one for one in await self.answered() if one.began > since and by in one.said]
            if len(found) >= count:
                return
            assert time.monotonic() < limit, f"only {len(found)} of {count} answers of {by or 'anybody'}"
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def client_inside(lab: LabInfo, state: Path, what: str, url: str) -> AsyncIterator[InsideClient]:
    """It works until the block ends; it writes down what it sees on its own disk."""
    nodes = Nodes(lab, state, TEAM)
    name = secrets.token_hex(4)
    stop, journal = f"/run/client-{name}.stop", f"/var/lib/client-{name}.jsonl"
    await nodes.run(CLIENT, "touch", journal)
    script = f'exec {PYTHON} -c "$0" "$1" "$2" "$3" > "$4"'
    command = ("sh", "-c", script, PROGRAM.read_text(encoding="utf-8"), what, url, stop, journal)
    task = asyncio.create_task(nodes.run(CLIENT, *command), name="client-inside")
    client = InsideClient(nodes, journal)
    try:
        yield client
        assert not task.done(), "the client has ended by itself"
        await nodes.run(CLIENT, "touch", stop)
        await task
        client.seen = await client.requests()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def fetch(nodes: Nodes, url: str) -> Any:
    """What the machine gets from there, as JSON; asked again until there is an answer."""
    limit = time.monotonic() + DEADLINE_S
    while True:
        try:
            return json.loads(await nodes.run(CLIENT, "curl", "-sS", "--fail", "--max-time", "5", url))
        except DemoFailed:
            assert time.monotonic() < limit, f"{url} did not answer within {DEADLINE_S:g} s"
            await asyncio.sleep(POLL_S)


def longest_gap_s(requests: Sequence[Request], since: float = 0.0) -> float:
    """Between two answers of success."""
    ended = sorted(one.ended for one in requests if not one.failure and one.ended > since)
    return max((after - before for before, after in itertools.pairwise(ended)), default=0.0)
