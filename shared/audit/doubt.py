"""Asking Azure, only where the cheap facts leave doubt, and never for more clusters than ARM's limits bear.

A node that reports and answers needs no second opinion of ARM (12,000 reads an hour and subscription are soon used up
by a large fleet). Doubt is: a node called down or unknown by this look, or a cluster nobody serves. At most
`MAX_DOUBTFUL` clusters are asked about at one audit, a different part of them each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from shared.api.plane import ControlPlane
from shared.health.evidence import gather
from shared.health.facts import Fact, latest
from shared.health.judge_node import judge_node
from shared.health.limits import silent_after_s
from shared.health.looks import abstaining, others_of
from shared.health.verdict import Health
from shared.model.cluster import ClusterRecord
from shared.store.ports import ClusterRows

MAX_DOUBTFUL: Final = 10  # of one range of clusters
AT_ONCE: Final = 5
DEADLINE_S: Final = 12.0
_DOUBT: Final = frozenset({Health.DOWN, Health.UNKNOWN})


async def facts_in_doubt(
    plane: ControlPlane,
    records: Sequence[ClusterRecord],
    facts: Mapping[str, tuple[Fact, ...]],
    rows: Mapping[str, ClusterRows],
    watching_since: datetime | None,
    now: datetime,
) -> dict[str, tuple[Fact, ...]]:
    """The facts of doubtful clusters, with Azure's added."""
    if abstaining(watching_since, now):
        return {}  # nothing will be concluded from silence anyway
    doubtful = [record for record in records if record.id in rows and in_doubt(record, facts[record.id], now)]
    if not doubtful:
        return {}
    start = int(now.timestamp()) // 30 * MAX_DOUBTFUL % len(doubtful)
    asked = [*doubtful[start:], *doubtful[:start]][:MAX_DOUBTFUL]
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(record: ClusterRecord) -> tuple[Fact, ...]:
        async with gate:
            return tuple(await plane.platform.look(record, now))

    found = await asyncio.gather(*(ask(record) for record in asked))
    return {record.id: (*facts[record.id], *more) for record, more in zip(asked, found, strict=True)}


def in_doubt(record: ClusterRecord, facts: tuple[Fact, ...], now: datetime) -> bool:
    limit_s = silent_after_s(record.spec.timing.control_plane_heartbeat_s)
    known = latest(facts)
    nodes = record.nodes
    seen = (gather(known, node, others_of(nodes, node), limit_s, now, farm=record.is_farm) for node in nodes)
    return any(judge_node(found, abstains=False).state in _DOUBT for found in seen if found.last_beat is not None)
