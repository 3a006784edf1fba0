"""What the audit calls after its verdicts: keep every sick cluster's history, decide, write down. It acts on nothing.

Only clusters with a sick node, or with an open incident or action, cost a read; a healthy fleet costs one query.
Two audits at once: the row is replaced conditionally, the loser's decision is dropped, and both would have computed
the same action id. Killed anywhere: the next look finds the row as it was before or after, never in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from shared.api.plane import ControlPlane
from shared.health.verdict import ClusterVerdict, Fleet
from shared.model.cluster import ClusterRecord
from shared.model.remediation import RemediationRecord, Tracked
from shared.remediation.journal import news
from shared.remediation.model import History
from shared.remediation.plan import plan
from shared.remediation.policy import policy_of, zone_of
from shared.remediation.settle import decided
from shared.remediation.watch import watched
from shared.store.ports import Changed, Exists, StoreError
from shared.structured_log import Log

MAX_AT_ONCE: Final = 20
log = Log("mirrorplane.remediation")


async def remediate(plane: ControlPlane, verdicts: Sequence[ClusterVerdict], fleet: Fleet, now: datetime) -> int:
    """Decides for every cluster that needs it; returns for how many. Raises StoreError if the index is unreadable."""
    tracked = await plane.store.remediations.tracked()
    known = {entry.cluster_id for entry in tracked}
    gate = asyncio.Semaphore(MAX_AT_ONCE)

    async def look(verdict: ClusterVerdict) -> None:
        async with gate:
            busy = frozenset(entry.zone for entry in tracked if entry.zone and entry.cluster_id != verdict.cluster_id)
            try:
                await _decide(plane, verdict, fleet, busy, now)
            except StoreError as error:
                log.failure("remediation_failed", error, cluster=verdict.cluster)

    concerned = [verdict for verdict in verdicts if verdict.sick or verdict.cluster_id in known]
    await asyncio.gather(*(look(verdict) for verdict in concerned))
    return len(concerned)


async def _decide(
    plane: ControlPlane, verdict: ClusterVerdict, fleet: Fleet, busy_zones: frozenset[str], now: datetime
) -> None:
    found = await plane.store.clusters.get(verdict.cluster)
    if found is None or found.value.id != verdict.cluster_id:
        return
    cluster, policy = found.value, policy_of(found.value, now)
    stored = await plane.store.remediations.get(cluster.id)
    before = (
        RemediationRecord(cluster_id=cluster.id, cluster=cluster.name, generation=cluster.generation)
        if stored is None
        else stored.value
    )
    if before.looked_at is not None and before.looked_at >= now:
        return  # a doubled audit was faster
    record = watched(verdict, before, policy, now)
    decision = plan(verdict, History(record, busy_zones), policy, fleet, now)
    after = decided(record, decision, policy, now)
    if needs_attention(after):
        await plane.store.remediations.track(tracked_entry(cluster, after))
    try:
        await plane.store.remediations.put(after, None if stored is None else stored.etag)
    except (Exists, Changed):
        return  # the other audit's decision stands
    if before.rule != after.rule:
        log.info("decision", cluster=cluster.name, node=decision.node, rule=after.rule, sentence=after.sentence)
    for event in news(before, after, verdict.sentence, now):
        await plane.store.events.record(event)


def needs_attention(record: RemediationRecord) -> bool:
    return record.open_action is not None or any(ladder.incident is not None for ladder in record.nodes.values())


def tracked_entry(cluster: ClusterRecord, record: RemediationRecord) -> Tracked:
    action = record.open_action
    zone = "" if action is None else zone_of(cluster, action.node)
    return Tracked(cluster_id=cluster.id, cluster=cluster.name, zone=zone)
