"""What flows in and out of alerting, in tables: facts of events, deliveries, dead letters."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from typing import Final

from shared.model.alert import DeadLetter, DeadLetterKind, Delivery
from shared.model.event_fact import EventFact, newer
from shared.store.alerts import remove_range
from shared.store.keys import digest, reverse_ticks
from shared.store.ports import Changed, Exists, Page, Unavailable, Versioned
from shared.store.rows import Row, Rows, StoredRow, document, parse, parse_all

EVENT_FACTS: Final = "eventfacts"
DELIVERIES: Final = "deliveries"
DEAD_LETTERS: Final = "deadletters"
MAX_FACTS_OF_CLUSTER: Final = 1000
MAX_OPEN_FACTS: Final = 20_000
MAX_MERGE_ATTEMPTS: Final = 20
_OPEN: Final = "!open"  # no cluster is called so
_WAITING: Final = "waiting"


class TableEventFacts:
    """One row per fact in its cluster's partition, and for an open one a pointer in a partition of its own, so that an
    audit finds the open facts of 10,000 clusters with one scan.

    A pointer is only a hint: it is written after its fact and removed (conditionally, so that a pointer written
    meanwhile stays) by the reader that finds its fact closed. A crash between fact and pointer is healed by the
    redelivery of the event, as the handler did not answer then."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def merge(self, fact: EventFact) -> EventFact:
        for _ in range(MAX_MERGE_ATTEMPTS):
            row = await self._rows.get(EVENT_FACTS, fact.cluster, fact.key)
            stored = None if row is None else parse(EventFact, row)
            kept = fact if stored is None else newer(stored, fact)
            try:
                if row is None:
                    await self._rows.insert(EVENT_FACTS, Row(fact.cluster, fact.key, document(fact)))
                elif kept is not stored:
                    await self._rows.replace(EVENT_FACTS, Row(fact.cluster, fact.key, document(fact)), row.etag)
            except (Exists, Changed):
                continue
            if kept.open:
                pointer = {"cluster": kept.cluster, "key": kept.key}
                await self._rows.upsert(EVENT_FACTS, [Row(_OPEN, digest(kept.cluster, kept.key), pointer)])
            return kept
        raise Unavailable(f"the fact {fact.subject!r} of {fact.cluster} is written by too many at once")

    async def of_cluster(self, cluster: str) -> list[EventFact]:
        rows = await self._rows.scan(EVENT_FACTS, cluster, MAX_FACTS_OF_CLUSTER)
        return [fact for fact, _ in parse_all(EventFact, rows)]

    async def open(self) -> list[EventFact]:
        pointers = await self._rows.scan(EVENT_FACTS, _OPEN, MAX_OPEN_FACTS)
        found = await asyncio.gather(*(self._pointed_at(pointer) for pointer in pointers))
        return [fact for fact in found if fact is not None]

    async def purge(self, cluster: str) -> int:
        rows = await self._rows.scan(EVENT_FACTS, cluster, MAX_FACTS_OF_CLUSTER)
        await self._rows.delete(EVENT_FACTS, cluster, [row.key for row in rows])
        return len(rows)

    async def _pointed_at(self, pointer: StoredRow) -> EventFact | None:
        row = await self._rows.get(EVENT_FACTS, str(pointer.properties["cluster"]), str(pointer.properties["key"]))
        fact = None if row is None else parse(EventFact, row)
        if fact is not None and fact.open:
            return fact
        try:
            await self._rows.delete_if(EVENT_FACTS, _OPEN, pointer.key, pointer.etag)
        except Changed:
            return None  # written again meanwhile: the next look follows it
        return None


class TableDeliveries:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def add(self, delivery: Delivery) -> bool:
        if await self._rows.get(DELIVERIES, _done(delivery), _key(delivery)) is not None:
            return False
        try:
            await self._rows.insert(DELIVERIES, Row(_WAITING, _key(delivery), document(delivery)))
        except Exists:
            return False
        return True

    async def waiting(self, limit: int) -> list[Versioned[Delivery]]:
        rows = await self._rows.scan(DELIVERIES, _WAITING, limit)
        return [Versioned(delivery, row.etag) for delivery, row in parse_all(Delivery, rows)]

    async def replace(self, delivery: Delivery, etag: str) -> Versioned[Delivery]:
        row = Row(_WAITING, _key(delivery), document(delivery))
        return Versioned(delivery, await self._rows.replace(DELIVERIES, row, etag))

    async def finish(self, delivery: Delivery, etag: str) -> None:
        await self._rows.upsert(DELIVERIES, [Row(_done(delivery), _key(delivery))])
        await self._rows.delete_if(DELIVERIES, _WAITING, _key(delivery), etag)

    async def purge_done(self, before: date, limit: int) -> int:
        return await remove_range(self._rows, DELIVERIES, "done-", f"done-{before:%Y%m}", limit)


class TableDeadLetters:
    """Two rows per letter: `seen` decides under which key it is listed, so that a repetition lists it once."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def record(self, letter: DeadLetter) -> None:
        identity = digest(letter.kind.value, letter.id)
        key = f"{reverse_ticks(letter.at)}-{identity}"
        partition = f"seen-{letter.kind.value}"
        try:
            await self._rows.insert(DEAD_LETTERS, Row(partition, identity, {"key": key}))
        except Exists:
            first = await self._rows.get(DEAD_LETTERS, partition, identity)
            if first is not None:
                key = str(first.properties["key"])
                if await self._rows.get(DEAD_LETTERS, letter.kind.value, key) is not None:
                    return
        await self._rows.upsert(DEAD_LETTERS, [Row(letter.kind.value, key, document(letter))])

    async def page(self, kind: DeadLetterKind, after: str | None, limit: int) -> Page[DeadLetter]:
        found = await self._rows.scan(DEAD_LETTERS, kind.value, limit + 1, after=after or "")
        more = found[limit - 1].key if len(found) > limit else None
        return Page(tuple(letter for letter, _ in parse_all(DeadLetter, found[:limit])), more)

    async def purge(self, before: datetime, limit: int) -> int:
        removed = 0
        for kind in DeadLetterKind:
            oldest = reverse_ticks(before)
            rows = await self._rows.scan(DEAD_LETTERS, kind.value, max(limit - removed, 0), after=oldest)
            keys = [row.key for row in rows]
            await self._rows.delete(DEAD_LETTERS, f"seen-{kind.value}", [key.rpartition("-")[2] for key in keys])
            await self._rows.delete(DEAD_LETTERS, kind.value, keys)
            removed += len(keys)
        return removed


def _key(delivery: Delivery) -> str:
    return digest(delivery.id, delivery.channel)


def _done(delivery: Delivery) -> str:
    """By the month the notice was made in, which a repetition knows too."""
    return f"done-{delivery.notice.made_at.astimezone(UTC):%Y%m}"
