"""Removing what is older than its retention, in bounded bites: a run that is cut short goes on at the next one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Final

from mirror_agent.contract import NodeName

from shared.store.desired import CLUSTERS
from shared.store.identities import CREDENTIALS
from shared.store.journal import JOURNAL
from shared.store.keys import day_text
from shared.store.observed import AUDIT, COMMANDS, EVENTS, HISTORY, STATES, TURNS
from shared.store.probe_log import PROBES, probe_key_range, probe_partition
from shared.store.remediation import REMEDIATION
from shared.store.rows import Rows

_BY_DAY: Final = (HISTORY,)
_MAX_DAYS: Final = 400
_BY_CLUSTER: Final = (STATES, AUDIT, COMMANDS, CREDENTIALS, REMEDIATION, JOURNAL)
assert CLUSTERS not in _BY_CLUSTER


class TableRetention:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def purge_days(self, cluster_id: str, nodes: Sequence[NodeName], before: date, limit: int) -> int:
        removed = 0
        for table in _BY_DAY:
            for node in nodes:
                start = f"{cluster_id}|{node}|"
                removed += await self._remove(table, start, start + day_text(before), limit - removed)
        return removed

    async def purge_cluster(self, cluster_id: str, limit: int) -> int:
        removed = 0
        for table in _BY_DAY:
            removed += await self._remove(table, f"{cluster_id}|", f"{cluster_id}}}", limit - removed)
        removed += await self._remove(TURNS, f"{cluster_id}|", f"{cluster_id}}}", limit - removed)
        removed += await self._remove_probes(cluster_id, limit - removed)
        for table in _BY_CLUSTER:
            removed += await self._remove(table, cluster_id, f"{cluster_id}!", limit - removed)
        return removed

    async def purge_events(self, before: date, limit: int) -> int:
        """The listing rows of old days and, with each, its `seen` row; those of the clusters' own lists first."""
        removed = await self._remove(EVENTS, "of-", f"of-{day_text(before)}", limit)
        limit -= removed
        pairs = await self._rows.scan_keys(EVENTS, "day-", f"day-{day_text(before)}", max(limit, 0))
        for partition, key in pairs:
            identity = key.rpartition("-")[2]
            await self._rows.delete(EVENTS, f"seen-{identity[:2]}", [identity])
            await self._rows.delete(EVENTS, partition, [key])
        return removed + len(pairs)

    async def purge_turns(self, cluster_id: str, before: date, limit: int) -> int:
        return await self._remove(TURNS, f"{cluster_id}|", f"{cluster_id}|{day_text(before)}", limit)

    async def purge_probes(self, before: date, limit: int) -> int:
        return await self._remove(PROBES, "0", day_text(before), limit)

    async def _remove_probes(self, cluster_id: str, limit: int) -> int:
        """Of one cluster: its key range in the partition of each day that is left. Days are skipped by their keys."""
        removed, position, beyond = 0, "0", ":"
        first, last = probe_key_range(cluster_id)
        shard = probe_partition(cluster_id, date.min).partition("|")[2]
        for _ in range(_MAX_DAYS):
            found = await self._rows.scan_keys(PROBES, position, beyond, 1)
            if not found or removed >= limit:
                break
            day = found[0][0].partition("|")[0]
            partition = f"{day}|{shard}"
            rows = await self._rows.scan(PROBES, partition, limit - removed, after=first, before=last)
            await self._rows.delete(PROBES, partition, [row.key for row in rows])
            removed += len(rows)
            position = f"{day}}}"
        return removed

    async def _remove(self, table: str, first: str, beyond: str, limit: int) -> int:
        if limit <= 0:
            return 0
        by_partition: dict[str, list[str]] = defaultdict(list)
        pairs = await self._rows.scan_keys(table, first, beyond, limit)
        for partition, key in pairs:
            by_partition[partition].append(key)
        for partition, keys in by_partition.items():
            await self._rows.delete(table, partition, keys)
        return len(pairs)
