"""The storage emulator's cost model: every query goes through all rows of its table, one request at a time.

That is how Azurite works (Table Storage itself seeks). The four prices (`QUIET`) were measured on Azurite 3.35 with two
idle cores; `calibrated` measures them anew, for comparison: on a busy machine they come out many times greater. The
rows are in memory. With it the audit is measured without the emulator beside it, and histories can be asked about that
would take the emulator an hour to take in.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from shared.store.azure_rows import AzureRows
from shared.store.memory_rows import MemoryRows
from shared.store.ports import MAX_PAGE
from shared.store.rows import MAX_BATCH_ROWS, Row, StoredRow

TABLE: Final = "rowscan"
BATCHES: Final = 50
TRIES: Final = 15
TEXT: Final = {"doc0": "x" * 1200}


@dataclass(frozen=True)
class Prices:
    """Seconds, as measured."""

    request_s: float
    scanned_row_s: float
    returned_row_s: float
    written_row_s: float

    def shown(self) -> dict[str, float]:
        return {name.removesuffix("_s") + "_us": round(value * 1e6, 3) for name, value in asdict(self).items()}


QUIET: Final = Prices(request_s=0.0013, scanned_row_s=0.2e-6, returned_row_s=40e-6, written_row_s=350e-6)


async def calibrated(rows: AzureRows) -> Prices:
    """The best of some tries of each: what the emulator needs when nobody disturbs it."""
    empty = await _best(lambda: rows.scan(f"{TABLE}0", "none", MAX_PAGE))
    written = []
    for number in range(BATCHES):
        batch = [Row(f"p{number:02d}", f"{key:04d}", TEXT) for key in range(MAX_BATCH_ROWS)]
        begun = time.perf_counter()
        await rows.upsert(TABLE, batch)
        written.append(time.perf_counter() - begun)
    one = await _best(lambda: rows.get(TABLE, "p00", "0000"))
    missed = await _best(lambda: rows.scan(TABLE, "none", MAX_PAGE))
    page = await _best(lambda: rows.scan_range(TABLE, "p00", "p10", MAX_PAGE))
    scanned_s = max(0.0, missed - empty) / (BATCHES * MAX_BATCH_ROWS)
    return Prices(
        request_s=one,
        scanned_row_s=scanned_s,
        returned_row_s=max(0.0, page - missed) / MAX_PAGE,
        written_row_s=max(0.0, statistics.median(written) - one) / MAX_BATCH_ROWS,
    )


async def _best(request: Callable[[], Awaitable[Any]]) -> float:
    taken = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        await request()
        taken.append(time.perf_counter() - begun)
    return min(taken)


class RowScan(MemoryRows):
    """`Rows` at a price: each request waits its turn and then its cost. `asked`: requests so far."""

    def __init__(self, prices: Prices = QUIET) -> None:
        super().__init__()
        self._prices = prices
        self._turn = asyncio.Lock()
        self._keys: dict[str, dict[str, list[str]]] = {}
        self.charged = False
        self.asked = 0

    async def get(self, table: str, partition: str, key: str) -> StoredRow | None:
        await self._pay()
        return await super().get(table, partition, key)

    async def insert(self, table: str, row: Row) -> str:
        await self._pay(written=1)
        self._keys.pop(table, None)
        return await super().insert(table, row)

    async def replace(self, table: str, row: Row, etag: str) -> str:
        await self._pay(written=1)
        return await super().replace(table, row, etag)

    async def upsert(self, table: str, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), MAX_BATCH_ROWS):
            await self._pay(written=len(rows[start : start + MAX_BATCH_ROWS]))
        self._keys.pop(table, None)
        await super().upsert(table, rows)

    async def scan(
        self, table: str, partition: str, limit: int, *, after: str = "", before: str | None = None
    ) -> list[StoredRow]:
        keys = self._sorted(table).get(partition, [])
        begin = bisect_right(keys, after)
        found = [key for key in keys[begin : begin + max(limit, 0)] if before is None or key < before]
        await self._pay_for_pages(table, len(found))
        rows = self._tables[table]
        return [rows[partition, key] for key in found]

    async def scan_keys(self, table: str, first: str, beyond: str, limit: int) -> list[tuple[str, str]]:
        found = await super().scan_keys(table, first, beyond, limit)
        await self._pay_for_pages(table, len(found))
        return found

    async def scan_range(self, table: str, first: str, beyond: str, limit: int) -> list[StoredRow]:
        found = await super().scan_range(table, first, beyond, limit)
        await self._pay_for_pages(table, len(found))
        return found

    def _sorted(self, table: str) -> dict[str, list[str]]:
        """Keys by partition. The model pays for the scan; it need not do it."""
        known = self._keys.get(table)
        if known is None:
            known = self._keys[table] = defaultdict(list)
            for partition, key in self._tables.setdefault(table, {}):
                known[partition].append(key)
            for keys in known.values():
                keys.sort()
        return known

    async def _pay_for_pages(self, table: str, returned: int) -> None:
        rows = len(self._tables.get(table, {}))
        while True:
            await self._pay(scanned=rows, returned=min(returned, MAX_PAGE))
            returned -= MAX_PAGE
            if returned <= 0:
                return

    async def _pay(self, *, scanned: int = 0, returned: int = 0, written: int = 0) -> None:
        self.asked += 1
        if not self.charged:
            return
        prices = self._prices
        cost_s = prices.request_s + scanned * prices.scanned_row_s
        cost_s += returned * prices.returned_row_s + written * prices.written_row_s
        async with self._turn:
            await asyncio.sleep(cost_s)
