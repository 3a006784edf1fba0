"""The log of our own probes: one row per cluster and look, a hundred rows per transaction, newest first for a node.

Partition `20261122|3` (day, then the first character of the cluster id), key `<cluster id>|<reverse ticks>|ab`.
An audit of thousands of clusters therefore writes few transactions (Table Storage batches within one partition), a
node's log is one key range per day, and retention drops whole days. 16 partitions a day: an audit of 10,000 clusters
writes 625 rows into each, far under the 2,000 rows/s of a partition.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Final

from mirror_agent.contract import NodeName

from shared.model.document import Document
from shared.model.node_state import ProbeResult
from shared.store.keys import checked_key, day_text, reverse_ticks
from shared.store.ports import MAX_PAGE, Page
from shared.store.rows import Row, Rows, document, parse_all

PROBES: Final = "probes"
_PREFIX: Final = 1


class ProbeLook(Document):
    """The probes of one cluster at one moment."""

    results: tuple[ProbeResult, ...]


def probe_partition(cluster_id: str, day: date) -> str:
    return checked_key(f"{day_text(day)}|{cluster_id[:_PREFIX]}")


def probe_key_range(cluster_id: str) -> tuple[str, str]:
    """(after, before): every key of a cluster lies between."""
    return f"{cluster_id}|", f"{cluster_id}}}"


class TableProbes:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def append(self, results: Sequence[ProbeResult]) -> None:
        looks: dict[tuple[str, datetime], dict[NodeName, ProbeResult]] = defaultdict(dict)
        for result in results:
            looks[result.cluster_id, result.at.astimezone(UTC)][result.node] = result
        by_partition: dict[str, list[Row]] = defaultdict(list)
        for (cluster_id, at), by_node in looks.items():
            partition = probe_partition(cluster_id, at.date())
            key = f"{cluster_id}|{reverse_ticks(at)}|{''.join(sorted(by_node))}"
            look = ProbeLook(results=tuple(by_node[node] for node in sorted(by_node)))
            by_partition[partition].append(Row(partition, key, document(look)))
        await asyncio.gather(*(self._rows.upsert(PROBES, rows) for rows in by_partition.values()))

    async def page(
        self, cluster_id: str, node: NodeName, day: date, after: str | None, limit: int
    ) -> Page[ProbeResult]:
        first, last = probe_key_range(cluster_id)
        partition, position = probe_partition(cluster_id, day), after or first
        found: list[ProbeResult] = []
        while len(found) < limit:
            wanted = min(limit - len(found) + 1, MAX_PAGE)
            rows = await self._rows.scan(PROBES, partition, wanted, after=position, before=last)
            for look, row in parse_all(ProbeLook, rows):
                if len(found) == limit:
                    return Page(tuple(found), position)
                found += [result for result in look.results if result.node == node]
                position = row.key
            if len(rows) < wanted:
                return Page(tuple(found), None)
            position = rows[-1].key if not found else position
        return Page(tuple(found), position)
