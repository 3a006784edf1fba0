"""A line to the witness that was given up for another signature is closed, by its last call if one is under way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from mirror_agent.contract import WitnessAccess
from mirror_agent.net.witness import Found, TableWitness

DEADLINE_S = 30.0
ROW = json.dumps(
    {"PartitionKey": "c", "RowKey": "record", "odata.etag": "e"}
    | {"epoch": 1, "primary": "a", "in_sync": "a", "nonce": "n", "rule": "r"}
).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nETag: e\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ROW) + ROW


@dataclass
class Store:
    """Answers with one row, as soon as `may_answer`, and keeps connections open."""

    url: str = ""
    open: int = 0
    asked: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def access(self, sas: str) -> WitnessAccess:
        return WitnessAccess(endpoint=self.url, table="witness", partition_key="c", row_key="record", sas=sas)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                await self.may_answer.wait()
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@contextlib.asynccontextmanager
async def store() -> AsyncIterator[Store]:
    made = Store()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 - the fact is on another thread's socket
            await asyncio.sleep(0.01)


async def test_another_signature_closes_the_line_that_nobody_uses() -> None:
    async with store() as there:
        there.may_answer.set()
        witness = TableWitness(there.access("sig=old"))
        assert isinstance(await witness.read(deadline_s=DEADLINE_S), Found)
        assert there.open == 1
        witness.renew(there.access("sig=new"))
        await until(lambda: there.open == 0)
        assert isinstance(await witness.read(deadline_s=DEADLINE_S), Found)
        await witness.close()
        await until(lambda: there.open == 0)


async def test_a_call_under_way_ends_with_the_old_line_and_closes_it() -> None:
    async with store() as there:
        witness = TableWitness(there.access("sig=old"))
        calling = asyncio.create_task(witness.read(deadline_s=DEADLINE_S))
        await until(lambda: there.asked == 1)
        witness.renew(there.access("sig=new"))
        there.may_answer.set()
        assert isinstance(await calling, Found)
        await until(lambda: there.open == 0)
        await witness.close()
