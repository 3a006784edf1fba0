"""The operators' journal in a table: a partition per day, newest first. There are few entries and they are all kept
long, so a cluster's are found by reading past the others."""

from __future__ import annotations

from datetime import UTC, date
from typing import Final

from shared.model.journal import JournalEntry
from shared.store.keys import day_text, digest, reverse_ticks
from shared.store.ports import Page
from shared.store.rows import Row, Rows, document, parse_all

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

    async def purge(self, before: date, limit: int) -> int:
        pairs = await self._rows.scan_keys(JOURNAL, "day-", _day(before), max(limit, 0))
        for partition, key in pairs:
            await self._rows.delete(JOURNAL, partition, [key])
        return len(pairs)


def _day(day: date) -> str:
    return f"day-{day_text(day)}"
