"""The production store over Azurite, with every request to the table service counted (a batch is one request)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables.aio import TableServiceClient

from lab.azurite.server import ACCOUNT, KEY, Azurite
from shared.store.azure_rows import AzureRows
from shared.store.connect import assemble
from shared.store.memory_rows import MemoryRows
from shared.store.ports import Store
from shared.store.queue import MemoryReconcileQueue
from shared.store.witness import TableWitness
from tests.control_plane_samples import Clock

IDLE_S: Final = 2.0


class Counted(AioHttpTransport):  # type: ignore[misc]  # azure-core exports it lazily, without types
    """Requests by method, as they leave for the service. Azurite closes an idle connection after 5 s, and a busy
    machine may notice too late: connections are not kept as long as that."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S)
        super().__init__(session=aiohttp.ClientSession(connector=connector), session_owner=True)
        self.requests: Counter[str] = Counter()

    async def send(self, request: Any, **config: Any) -> Any:
        self.requests[str(request.method)] += 1
        return await super().send(request, **config)

    @property
    def total(self) -> int:
        return self.requests.total()


@dataclass(frozen=True)
class Bench:
    rows: AzureRows | MemoryRows
    store: Store
    counted: Counted | None


@asynccontextmanager
async def on_azurite(storage: Azurite) -> AsyncIterator[Bench]:
    counted = Counted()
    service = TableServiceClient.from_connection_string(storage.connection_string, transport=counted)
    rows = AzureRows(service)
    witness = TableWitness(rows, service.url, ACCOUNT, KEY)
    try:
        yield Bench(rows, assemble(rows, MemoryReconcileQueue(Clock()), witness, rows), counted)
    finally:
        await rows.close()


def bench_over(rows: MemoryRows) -> Bench:
    witness = TableWitness(rows, "https://witness.invalid", "witness", "aW52ZW50ZWQ=")
    return Bench(rows, assemble(rows, MemoryReconcileQueue(Clock()), witness, rows), None)
