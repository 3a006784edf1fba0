"""Alerts, groups and silences in tables.

Open alerts lie in a partition for each cluster, so that the page of one cluster reads its own alone, a storm is not
held up by the 2,000 writes per second of one partition, and the audit reads all of them as one range, a thousand a
query. An alert is also found by its key alone (a link, an acknowledgement): then the keys of the range are read.
Resolved ones also lie in month partitions, newest first, so that retention drops whole months.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date
from typing import Final

from shared.model.alert import Alert, AlertState, Group, Silence
from shared.store.keys import reverse_ticks
from shared.store.ports import Page, Versioned
from shared.store.rows import Row, Rows, document, parse, parse_all

ALERTS: Final = "alerts"
GROUPS: Final = "alertgroups"
SILENCES: Final = "silences"
MAX_OPEN: Final = 80_000
MAX_OPEN_PER_CLUSTER: Final = 1000
MAX_SILENCES_READ: Final = 1000
_OPEN: Final = "open|"
_BEYOND_OPEN: Final = "open}"
_GROUP: Final = "group"
_SILENCE: Final = "silence"


class TableAlerts:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def open(self) -> list[Versioned[Alert]]:
        rows = await self._rows.scan_range(ALERTS, _OPEN, _BEYOND_OPEN, MAX_OPEN)
        return [Versioned(alert, row.etag) for alert, row in parse_all(Alert, rows)]

    async def open_of(self, cluster: str) -> list[Versioned[Alert]]:
        rows = await self._rows.scan(ALERTS, _open_partition(cluster), MAX_OPEN_PER_CLUSTER)
        return [Versioned(alert, row.etag) for alert, row in parse_all(Alert, rows)]

    async def get(self, key: str) -> Versioned[Alert] | None:
        pairs = await self._rows.scan_keys(ALERTS, _OPEN, _BEYOND_OPEN, MAX_OPEN)
        partition = next((partition for partition, found in pairs if found == key), None)
        row = None if partition is None else await self._rows.get(ALERTS, partition, key)
        return None if row is None else Versioned(parse(Alert, row), row.etag)

    async def create(self, alert: Alert) -> Versioned[Alert]:
        return Versioned(alert, await self._rows.insert(ALERTS, _open_row(alert)))

    async def replace(self, alert: Alert, etag: str) -> Versioned[Alert]:
        changed = Versioned(alert, await self._rows.replace(ALERTS, _open_row(alert), etag))
        if alert.state is AlertState.RESOLVED:
            await self._remember(alert)
        return changed

    async def remove(self, alert: Alert, etag: str) -> None:
        if alert.state is AlertState.RESOLVED:
            await self._remember(alert)  # again: a crash after the change may have left it out
        await self._rows.delete_if(ALERTS, _open_partition(alert.cluster), alert.key, etag)

    async def history(self, month: date, after: str | None, limit: int) -> Page[Alert]:
        found = await self._rows.scan(ALERTS, _month(month), limit + 1, after=after or "")
        more = found[limit - 1].key if len(found) > limit else None
        return Page(tuple(alert for alert, _ in parse_all(Alert, found[:limit])), more)

    async def purge_history(self, before: date, limit: int) -> int:
        return await remove_range(self._rows, ALERTS, "history-", _month(before), limit)

    async def _remember(self, alert: Alert) -> None:
        if alert.resolved_at is None:
            raise ValueError(f"alert {alert.key} is resolved without a time")
        key = f"{reverse_ticks(alert.resolved_at)}-{alert.key}"
        partition = _month(alert.resolved_at.astimezone(UTC).date())
        await self._rows.upsert(ALERTS, [Row(partition, key, document(alert))])


class TableGroups:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def get(self, key: str) -> Versioned[Group] | None:
        row = await self._rows.get(GROUPS, _GROUP, key)
        return None if row is None else Versioned(parse(Group, row), row.etag)

    async def put(self, group: Group, etag: str | None) -> Versioned[Group]:
        row = Row(_GROUP, group.key, document(group))
        written = self._rows.insert(GROUPS, row) if etag is None else self._rows.replace(GROUPS, row, etag)
        return Versioned(group, await written)


class TableSilences:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def all(self) -> Sequence[Silence]:
        rows = await self._rows.scan(SILENCES, _SILENCE, MAX_SILENCES_READ)
        return [silence for silence, _ in parse_all(Silence, rows)]

    async def get(self, silence_id: str) -> Versioned[Silence] | None:
        row = await self._rows.get(SILENCES, _SILENCE, silence_id)
        return None if row is None else Versioned(parse(Silence, row), row.etag)

    async def create(self, silence: Silence) -> None:
        await self._rows.insert(SILENCES, Row(_SILENCE, silence.id, document(silence)))

    async def replace(self, silence: Silence, etag: str) -> None:
        await self._rows.replace(SILENCES, Row(_SILENCE, silence.id, document(silence)), etag)

    async def delete(self, silence_id: str) -> None:
        await self._rows.delete(SILENCES, _SILENCE, [silence_id])


async def remove_range(rows: Rows, table: str, first: str, beyond: str, limit: int) -> int:
    """Removes at most `limit` rows of the partitions from `first` to before `beyond`; returns how many."""
    by_partition: dict[str, list[str]] = defaultdict(list)
    pairs = await rows.scan_keys(table, first, beyond, max(limit, 0))
    for partition, key in pairs:
        by_partition[partition].append(key)
    for partition, keys in by_partition.items():
        await rows.delete(table, partition, keys)
    return len(pairs)


def _open_partition(cluster: str) -> str:
    return f"{_OPEN}{cluster}"


def _month(day: date) -> str:
    return f"history-{day:%Y%m}"


def _open_row(alert: Alert) -> Row:
    return Row(_open_partition(alert.cluster), alert.key, document(alert))
