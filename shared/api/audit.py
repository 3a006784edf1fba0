"""The health audit: our own look at every node, and the verdict that follows.

Correct if skipped, doubled or killed: probes are appended under their own time; the verdict row of a cluster is
replaced only if it is the one that was read and older than this look, so of two audits at once one is dropped; the
fleet's `last run` moves forward only, and only after the whole fleet was looked at. An audit that was away itself
accuses nobody (rule `observer-just-started`).
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Final

from mirror_agent.contract import NodeName

from shared.api.dispatch import repair_cluster
from shared.api.plane import ControlPlane
from shared.api.probe import Probed
from shared.health.assess import Assessment, NodeFacts, assess
from shared.model.audit import AuditRecord, NodeVerdict
from shared.model.cluster import NODES, ClusterRecord, ProvisioningState
from shared.model.cluster_spec import Frontend
from shared.model.node_state import NodeState, ProbeOutcome, ProbeResult
from shared.store.ports import Changed, Exists, StoreError
from shared.structured_log import Log

MAX_CLUSTERS_AT_ONCE: Final = 20
PAGE: Final = 100
log = Log("mirrorplane.audit")


async def audit_fleet(plane: ControlPlane) -> int:
    """Looks at every cluster; returns how many. One cluster's damaged row does not keep the others from being seen."""
    run_id, started = plane.new_id(), plane.clock()
    last = await plane.store.audits.last_run()
    gap_s = None if last is None else (started - last).total_seconds()
    gate = asyncio.Semaphore(MAX_CLUSTERS_AT_ONCE)

    async def look(record: ClusterRecord) -> None:
        async with gate:
            try:
                await audit_cluster(plane, record, run_id, gap_s)
            except StoreError as error:
                log.failure("audit_failed", error, cluster=record.name)

    count = 0
    after: str | None = None
    while True:
        page = await plane.store.clusters.page(after, PAGE)
        records = [entry.value for entry in page.items if entry.value.state is not ProvisioningState.DELETING]
        await asyncio.gather(*(look(record) for record in records))
        count += len(records)
        after = page.next
        if after is None:
            break
    await plane.store.audits.note_run(started)
    return count


async def audit_cluster(plane: ControlPlane, record: ClusterRecord, run_id: str, observer_gap_s: float | None) -> None:
    probed = dict(zip(NODES, await asyncio.gather(*(_probe(plane, record, node) for node in NODES)), strict=True))
    now = plane.clock()
    await plane.store.probes.append([_result(record, node, now, probed[node]) for node in NODES])
    states = await plane.store.node_states.of_cluster(record.id)
    before = await plane.store.audits.get(record.id)
    if before is not None and before.value.audited_at >= now:
        return  # a doubled run was faster
    old = {} if before is None else before.value.nodes
    verdicts: dict[NodeName, NodeVerdict] = {}
    for node in NODES:
        found = _assess(record, states.get(node), probed[node].outcome, observer_gap_s, now)
        verdicts[node] = _verdict(found, old.get(node), now)
    audit = AuditRecord(cluster_id=record.id, cluster=record.name, audited_at=now, run_id=run_id, nodes=verdicts)
    try:
        await plane.store.audits.put(audit, None if before is None else before.etag)
    except (Exists, Changed):
        return  # the other run's verdict stands
    for node, verdict in verdicts.items():
        previous = old.get(node)
        if previous is None or previous.rule != verdict.rule:
            log.info(
                "verdict",
                cluster=record.name,
                node=node,
                health=verdict.health.value,
                rule=verdict.rule,
                sentence=verdict.sentence,
            )


async def repair_fleet(plane: ControlPlane) -> int:
    """Finds operations and actions that a crash or a lost message left behind; returns how many were repaired."""
    repaired = 0
    after: str | None = None
    while True:
        page = await plane.store.clusters.page(after, PAGE)
        for entry in page.items:
            words = await repair_cluster(plane.store, entry.value, plane.clock())
            if words:
                log.warning("repaired", cluster=entry.value.name, what=words)
            repaired += len(words)
        after = page.next
        if after is None:
            return repaired


async def _probe(plane: ControlPlane, record: ClusterRecord, node: NodeName) -> Probed:
    seen = record.resources.nodes.get(node)
    if record.spec.network.frontend is Frontend.PRIVATE:
        return Probed(ProbeOutcome.IMPOSSIBLE, reason="private frontend: the control plane has no way into the network")
    if seen is None or seen.public_address is None:
        return Probed(ProbeOutcome.IMPOSSIBLE, reason="the node has no public address yet")
    return await plane.prober.probe(seen.public_address)


def _result(record: ClusterRecord, node: NodeName, at: datetime, probed: Probed) -> ProbeResult:
    return ProbeResult(
        cluster_id=record.id,
        node=node,
        at=at,
        outcome=probed.outcome,
        status_code=probed.status_code,
        latency_ms=probed.latency_ms,
        reason=probed.reason,
    )


def _assess(
    record: ClusterRecord,
    state: NodeState | None,
    probe: ProbeOutcome,
    observer_gap_s: float | None,
    now: datetime,
) -> Assessment:
    return assess(
        NodeFacts(
            heartbeat=None if state is None else state.heartbeat,
            heartbeat_age_s=None if state is None else (now - state.received_at).total_seconds(),
            control_plane_heartbeat_s=record.spec.timing.control_plane_heartbeat_s,
            probe=probe,
            observer_gap_s=observer_gap_s,
        )
    )


def _verdict(found: Assessment, old: NodeVerdict | None, now: datetime) -> NodeVerdict:
    since = old.since if old is not None and old.health is found.health else now
    return NodeVerdict(health=found.health, rule=found.rule, sentence=found.sentence, since=since)
