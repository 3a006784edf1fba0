"""The operators' journal in a table: a partition per day, newest first. There are few entries and they are all kept
long, so a cluster's are found by reading past the others. Beside them, in a partition per cluster, how far the orders
of its nodes were taken in."""

from __future__ import annotations

from datetime import UTC, date
from typing import Final

from mirror_agent.contract import NodeName

from shared.model.journal import JournalEntry, NodeOrders
from shared.store.keys import day_text, digest, reverse_ticks
from shared.store.ports import Page, Versioned
from shared.store.rows import Row, Rows, document, parse, parse_all

JOURNAL: Final = "journal"


class TableJournal:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def append(self, entry: JournalEntry) -> None:
        key = f"{reverse_ticks(entry.at)}-{digest(entry.id)}"
        await self._rows.upsert(JOURNAL, [Row(_day(entry.at.astimezone(UTC).date()), key, document(entry))])

    async def page(self, day: date, after: str | None, limit: int) -> Page[JournalEntry]:
        found = await self._rows.scan(JOURNAL, _day(day), limit + 1, after=after or "")
        more = found[limit - 1].key if len(found) > limit else None
        return Page(tuple(entry for entry, _ in parse_all(JournalEntry, found[:limit])), more)

    async def orders(self, cluster_id: str, node: NodeName) -> Versioned[NodeOrders] | None:
        row = await self._rows.get(JOURNAL, cluster_id, _orders_key(node))
        return None if row is None else Versioned(parse(NodeOrders, row), row.etag)

    async def put_orders(self, orders: NodeOrders, etag: str | None) -> None:
        row = Row(orders.cluster_id, _orders_key(orders.node), document(orders))
        await (self._rows.insert(JOURNAL, row) if etag is None else self._rows.replace(JOURNAL, row, etag))

    async def purge(self, before: date, limit: int) -> int:
        pairs = await self._rows.scan_keys(JOURNAL, "day-", _day(before), max(limit, 0))
        for partition, key in pairs:
            await self._rows.delete(JOURNAL, partition, [key])
        return len(pairs)


def _orders_key(node: NodeName) -> str:
    return f"orders-{node}"


def _day(day: date) -> str:
    return f"day-{day_text(day)}"
