"""Facts from what the tables and our own probes know: cheap, and taken of every cluster at every audit.

Arrival times are ours. A heartbeat's own time of sending does not get past this module (a node's clock never matters).
What could not be looked at becomes a `CollectorFailed` fact with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirror_agent.contract import MIRROR_NODES, NodeName

from shared.api.commands import time_limit
from shared.api.probe import Probed, Prober
from shared.health.facts import (
    Beat,
    CollectorFailed,
    Fact,
    FactKind,
    OperatorWish,
    ProbeSeen,
    Trust,
    WitnessSeen,
)
from shared.model.cluster import SETTLED, ClusterRecord
from shared.model.cluster_spec import Frontend
from shared.model.node_state import NodeState, ProbeOutcome, ProbeResult
from shared.store.ports import ClusterRows, WitnessRecord

PROBE_DEADLINE_S: Final = 5.0  # above the prober's own time-out: the guard against a prober that hangs


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look at a cluster brought: facts, and the probe results for the log."""

    facts: tuple[Fact, ...]
    probes: tuple[ProbeResult, ...]


async def look(record: ClusterRecord, rows: ClusterRows, prober: Prober, now: datetime) -> Looked:
    """Never raises: whatever fails is a fact. `now` is the audit's time, which every look of it bears."""
    probed = await asyncio.gather(*(_probe(record, node, prober) for node in record.nodes))
    results = tuple(_result(record, node, now, answer) for node, answer in zip(record.nodes, probed, strict=True))
    facts = [
        *(_probe_fact(result) for result in results),
        *(beat_fact(state) for state in rows.states.values()),
        *(() if record.is_farm else (witness_fact(rows.witness, now),)),
        *operator_facts(record, now),
    ]
    return Looked(tuple(facts), results)


def beat_fact(state: NodeState) -> Fact:
    beat = state.heartbeat
    mirror = beat.mirror
    value = Beat(
        role=beat.role,
        phase=beat.phase,
        epoch=beat.epoch,
        in_sync=beat.in_sync,
        application=beat.application,
        probe_ok=beat.probe_ok,
        boot_id=beat.boot_id,
        agent_start_id=beat.agent_start_id,
        sequence=beat.sequence,
        sentence=beat.sentence,
        link="none" if mirror is None else mirror.link,
        failing_checkers=tuple(checker.name for checker in beat.checkers if checker.healthy is False),
        mirror_error=None if mirror is None else mirror.error,
        differences=0 if mirror is None or mirror.verify is None else mirror.verify.differences,
        peers_up=beat.peers_up,
        replica_slow=mirror is not None and mirror.replica_rule == "slow",
    )
    source = f"agent-{state.node}"
    return Fact(FactKind.HEARTBEAT, state.node, source, state.received_at, Trust.SELF_REPORT, value)


def witness_fact(record: WitnessRecord | None, now: datetime) -> Fact:
    if record is None:
        value = CollectorFailed("witness", "there is no safety record of this cluster")
        return Fact(FactKind.COLLECTOR_FAILED, None, "witness", now, Trust.RECORD, value)
    in_sync = tuple(node for node in MIRROR_NODES if node in record.in_sync)
    return Fact(
        FactKind.WITNESS, None, "witness", now, Trust.RECORD, WitnessSeen(record.epoch, record.primary, in_sync)
    )


def operator_facts(record: ClusterRecord, now: datetime) -> list[Fact]:
    """Every reason to keep still that the cluster's own record holds."""
    reasons: dict[str, str] = {}
    if record.state not in SETTLED:
        reasons[f"operation-{record.operation.kind.value}"] = record.operation.requested_by
    if record.action is not None and now - record.action.requested_at <= time_limit(record):
        reasons["operation-action"] = record.action.requested_by
    policy = record.spec.remediation
    reasons |= {f"pause: {reason}": "cluster spec" for reason in policy.pause_reasons}
    for window in policy.maintenance:
        if window.begins <= now < window.ends:
            reasons[f"maintenance: {window.reason}"] = "cluster spec"
    return [
        Fact(FactKind.OPERATOR, None, "operator", now, Trust.OPERATOR, OperatorWish(reason, by))
        for reason, by in sorted(reasons.items())
    ]


def failures(collector: str, subjects: Mapping[NodeName | None, str], now: datetime) -> list[Fact]:
    """A collector's failure as facts, one for each subject it could not look at."""
    return [
        Fact(FactKind.COLLECTOR_FAILED, subject, collector, now, Trust.OWN_LOOK, CollectorFailed(collector, reason))
        for subject, reason in subjects.items()
    ]


async def _probe(record: ClusterRecord, node: NodeName, prober: Prober) -> Probed:
    seen = record.resources.nodes.get(node)
    if record.spec.network.frontend is Frontend.PRIVATE:
        return Probed(ProbeOutcome.IMPOSSIBLE, reason="private frontend: the control plane has no way into the network")
    if not record.spec.network.node_public_addresses:
        return Probed(ProbeOutcome.IMPOSSIBLE, reason="nodes without public addresses: the control plane has no way in")
    if seen is None or seen.public_address is None:
        return Probed(ProbeOutcome.IMPOSSIBLE, reason="the node has no public address yet")
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            return await prober.probe(seen.public_address)
    except TimeoutError:
        return Probed(ProbeOutcome.IMPOSSIBLE, reason=f"our own prober did not end within {PROBE_DEADLINE_S:g} s")


def _probe_fact(result: ProbeResult) -> Fact:
    if result.outcome is ProbeOutcome.IMPOSSIBLE:
        failed = CollectorFailed("probe", result.reason)
        return Fact(FactKind.COLLECTOR_FAILED, result.node, "probe", result.at, Trust.OWN_LOOK, failed)
    seen = ProbeSeen(result.outcome, result.reason, result.latency_ms)
    return Fact(FactKind.PROBE, result.node, "probe", result.at, Trust.OWN_LOOK, seen)


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
