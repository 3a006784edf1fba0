"""What was observed: node states and their history, own probes, platform events, audits, commands under way.

Latest states are single rows, replaced conditionally. Histories are append-only rows in day partitions, newest first.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date
from typing import Final

from mirror_agent.contract import ALL_NODES, NodeName

from shared.model.audit import AuditRecord, FleetRecord, VerdictTurn
from shared.model.event import RecordedEvent
from shared.model.node_state import HistoryEntry, NodeCommand, NodeState
from shared.store.keys import day_text, digest, event_key, events_of, history_key, node_day, reverse_ticks
from shared.store.ports import FLEET, Exists, Page, Versioned
from shared.store.rows import M, Row, Rows, document, parse, parse_all

STATES: Final = "nodestate"
HISTORY: Final = "nodehistory"
EVENTS: Final = "events"
AUDIT: Final = "audit"
TURNS_AT_ONCE: Final = 24
TURNS: Final = "verdicthistory"
COMMANDS: Final = "commands"
MAX_COMMANDS: Final = 100
LATEST: Final = "latest"


async def _day_page(rows: Rows, table: str, model: type[M], partition: str, after: str | None, limit: int) -> Page[M]:
    found = await rows.scan(table, partition, limit + 1, after=after or "")
    more = found[limit - 1].key if len(found) > limit else None
    return Page(tuple(value for value, _ in parse_all(model, found[:limit])), more)


class TableNodeStates:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def get(self, cluster_id: str, node: NodeName) -> Versioned[NodeState] | None:
        row = await self._rows.get(STATES, cluster_id, node)
        return None if row is None else Versioned(parse(NodeState, row), row.etag)

    async def of_cluster(self, cluster_id: str) -> Mapping[NodeName, NodeState]:
        rows = {row.key: row for row in await self._rows.scan(STATES, cluster_id, len(ALL_NODES))}
        return {node: parse(NodeState, rows[node]) for node in ALL_NODES if node in rows}

    async def put(self, state: NodeState, etag: str | None) -> None:
        row = Row(state.cluster_id, state.node, document(state))
        await (self._rows.insert(STATES, row) if etag is None else self._rows.replace(STATES, row, etag))

    async def append_history(self, entries: Sequence[HistoryEntry]) -> None:
        by_partition: dict[str, dict[str, Row]] = defaultdict(dict)
        for entry in entries:
            partition = node_day(entry.cluster_id, entry.node, entry.received_at.astimezone(UTC).date())
            key = history_key(entry.agent_start_seen_at, entry.heartbeat.sequence)
            by_partition[partition][key] = Row(partition, key, document(entry))
        for rows in by_partition.values():
            await self._rows.upsert(HISTORY, list(rows.values()))

    async def history(
        self, cluster_id: str, node: NodeName, day: date, after: str | None, limit: int
    ) -> Page[HistoryEntry]:
        return await _day_page(self._rows, HISTORY, HistoryEntry, node_day(cluster_id, node, day), after, limit)


class TableEvents:
    """Up to three rows per event. `seen` (key from source and id) decides that it is recorded once and says under which
    key; then comes the row in its cluster's list of the day, then the one in everybody's, again at a repetition. The
    last one therefore means that all are there, and a crash between them heals itself."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def record(self, event: RecordedEvent) -> bool:
        identity = digest(event.source, event.id)
        day = event.received_at.astimezone(UTC).date()
        key = event_key(event.received_at, event.source, event.id)
        seen = Row(f"seen-{identity[:2]}", identity, {"day": day_text(day), "key": key})
        try:
            await self._rows.insert(EVENTS, seen)
        except Exists:
            first = await self._rows.get(EVENTS, seen.partition, seen.key)
            if first is not None:
                text, key = str(first.properties["day"]), str(first.properties["key"])
                if await self._rows.get(EVENTS, f"day-{text}", key) is None:
                    await self._list(event, text, key)
            return False
        await self._list(event, day_text(day), key)
        return True

    async def _list(self, event: RecordedEvent, day: str, key: str) -> None:
        properties = document(event)
        if event.cluster is not None:
            await self._rows.upsert(EVENTS, [Row(events_of(event.cluster, day), key, properties)])
        await self._rows.upsert(EVENTS, [Row(f"day-{day}", key, properties)])

    async def page(self, day: date, after: str | None, limit: int) -> Page[RecordedEvent]:
        return await _day_page(self._rows, EVENTS, RecordedEvent, f"day-{day_text(day)}", after, limit)

    async def page_of(self, cluster: str, day: date, after: str | None, limit: int) -> Page[RecordedEvent]:
        partition = events_of(cluster, day_text(day))
        return await _day_page(self._rows, EVENTS, RecordedEvent, partition, after, limit)


class TableAudits:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def get(self, cluster_id: str) -> Versioned[AuditRecord] | None:
        row = await self._rows.get(AUDIT, cluster_id, LATEST)
        return None if row is None else Versioned(parse(AuditRecord, row), row.etag)

    async def put(self, record: AuditRecord, etag: str | None) -> None:
        row = Row(record.cluster_id, LATEST, document(record))
        await (self._rows.insert(AUDIT, row) if etag is None else self._rows.replace(AUDIT, row, etag))

    async def fleet(self) -> Versioned[FleetRecord] | None:
        row = await self._rows.get(AUDIT, FLEET, LATEST)
        return None if row is None else Versioned(parse(FleetRecord, row), row.etag)

    async def put_fleet(self, record: FleetRecord, etag: str | None) -> str:
        row = Row(FLEET, LATEST, document(record))
        return await (self._rows.insert(AUDIT, row) if etag is None else self._rows.replace(AUDIT, row, etag))

    async def append_turns(self, turns: Sequence[VerdictTurn]) -> None:
        by_partition: dict[str, dict[str, Row]] = defaultdict(dict)
        for turn in turns:
            partition = f"{turn.cluster_id}|{day_text(turn.at.astimezone(UTC).date())}"
            key = f"{reverse_ticks(turn.at)}-{turn.kind.value}-{turn.node or ''}"
            by_partition[partition][key] = Row(partition, key, document(turn))
        gate = asyncio.Semaphore(TURNS_AT_ONCE)

        async def write(rows: dict[str, Row]) -> None:
            async with gate:
                await self._rows.upsert(TURNS, list(rows.values()))

        await asyncio.gather(*(write(rows) for rows in by_partition.values()))

    async def turns(self, cluster_id: str, day: date, after: str | None, limit: int) -> Page[VerdictTurn]:
        return await _day_page(self._rows, TURNS, VerdictTurn, f"{cluster_id}|{day_text(day)}", after, limit)


class TableCommands:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def create(self, command: NodeCommand) -> None:
        try:
            await self._rows.insert(COMMANDS, Row(command.cluster_id, command.id, document(command)))
        except Exists:
            return  # ids are derived from the operation: the same command, written by a repetition

    async def of_cluster(self, cluster_id: str) -> list[Versioned[NodeCommand]]:
        rows = await self._rows.scan(COMMANDS, cluster_id, MAX_COMMANDS)
        return [Versioned(command, row.etag) for command, row in parse_all(NodeCommand, rows)]

    async def replace(self, command: NodeCommand, etag: str) -> None:
        await self._rows.replace(COMMANDS, Row(command.cluster_id, command.id, document(command)), etag)

    async def delete(self, cluster_id: str, command_id: str) -> None:
        await self._rows.delete(COMMANDS, cluster_id, [command_id])
