"""`assess(facts, history, now)`: the verdict on one cluster and its nodes. Pure; every branch is a named rule.

Guarantees
- Facts may come in any order and twice; a node's clock is not among them.
- `sick` never holds a node that serves by any fresh fact, that the safety record names, or whose peer is not shown to
  serve by the record and a fresh fact together (`serving-is-sacred`); and it is empty while the observer abstains.
- With fewer than two independent fresh facts the answer is `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from mirror_agent.contract import NodeName, Role

from shared.health.evidence import Evidence, gather
from shared.health.facts import Availability, Fact, FactKind, Latest, Notice, OperatorWish, WitnessSeen, latest
from shared.health.history import History, Track
from shared.health.judge_node import Judgement, judge_node
from shared.health.limits import ABSTAIN_S, LOOK_FRESH_S, NOTICE_FRESH_S, SLOW_PLATFORM_FRESH_S
from shared.health.rules import CLUSTER_RULES
from shared.health.settle import settle_cluster, settle_node
from shared.health.verdict import ClusterVerdict, Health, NodeVerdict
from shared.model.cluster import NODES
from shared.model.node_state import ProbeOutcome

LOW_AVAILABILITY_PERCENT: Final = 50.0
SCHEDULED_EVENT: Final = "scheduled-event"  # of a Notice: the platform is about to act on a VM


def assess(
    cluster: str, cluster_id: str, facts: Iterable[Fact], history: History, now: datetime
) -> tuple[ClusterVerdict, History]:
    """The verdict, and the history to remember for the next look."""
    known = tuple(facts)
    abstains = abstaining(history.watching_since, now)
    of_each = latest(known)
    evidence = {node: gather(of_each, node, history.silent_after_s, now) for node in NODES}
    tracks: dict[NodeName, Track] = {}
    nodes: dict[NodeName, NodeVerdict] = {}
    for node in NODES:
        seen = judge_node(evidence[node], abstains=abstains)
        track = settle_node(seen, history.nodes.get(node), now)
        tracks[node] = track
        nodes[node] = NodeVerdict(
            node, track.state, track.rule, track.sentence, track.since, evidence[node].used, seen.state is Health.DOWN
        )
    record = _record(of_each, now)
    claims = tuple(node for node in NODES if (beat := evidence[node].beat) is not None and beat.serves)
    answering = tuple(node for node in NODES if _answers_as_serving(evidence[node]))
    serving = _serving(claims, answering, evidence, record)
    sacred = _sacred(claims, answering, record)
    looked = _judge_cluster(of_each, evidence, tracks, serving, claims, abstains, now)
    track = settle_cluster(looked, history.cluster, now)
    verdict = ClusterVerdict(
        cluster=cluster,
        cluster_id=cluster_id,
        state=track.state,
        rule=track.rule,
        sentence=track.sentence,
        since=track.since,
        at=now,
        nodes=nodes,
        facts=_used(known, evidence),
        serving=serving,
        sick=() if abstains else _sick(tracks, serving, sacred, record, claims),
        sacred=sacred,
        paused_by=_pauses(known, now),
    )
    return verdict, History(history.watching_since, history.silent_after_s, track, tracks)


def _used(facts: tuple[Fact, ...], evidence: dict[NodeName, Evidence]) -> tuple[Fact, ...]:
    """Those about the nodes that were fresh, and everything that is a reason or an excuse."""
    found = {id(fact): fact for node in NODES for fact in evidence[node].used}
    beside = (FactKind.FRONTEND, FactKind.NOTICE, FactKind.OPERATOR, FactKind.COLLECTOR_FAILED)
    found |= {id(fact): fact for fact in facts if fact.kind in beside}
    return tuple(found.values())


def abstaining(watching_since: datetime | None, now: datetime) -> bool:
    return watching_since is None or (now - watching_since).total_seconds() < ABSTAIN_S


def _record(facts: Latest, now: datetime) -> WitnessSeen | None:
    fact = facts.get((FactKind.WITNESS, None))
    if fact is None or fact.age_s(now) > LOOK_FRESH_S or not isinstance(fact.value, WitnessSeen):
        return None
    return fact.value


def _answers_as_serving(found: Evidence) -> bool:
    return found.probe is not None and found.probe.outcome is ProbeOutcome.SERVING


def _serving(
    claims: tuple[NodeName, ...],
    answering: tuple[NodeName, ...],
    evidence: dict[NodeName, Evidence],
    record: WitnessSeen | None,
) -> NodeName | None:
    """Of two claims the recorded one counts, otherwise the one of the greater epoch."""
    candidates = claims or answering
    for node in candidates:
        if len(candidates) == 1 or (record is not None and record.primary == node):
            return node
    return max(candidates, key=lambda claim: _epoch(evidence[claim]), default=None)


def _epoch(found: Evidence) -> int:
    return -1 if found.beat is None else found.beat.epoch


def _sacred(
    claims: tuple[NodeName, ...], answering: tuple[NodeName, ...], record: WitnessSeen | None
) -> tuple[NodeName, ...]:
    """Without a record, nobody can be told from the primary: both are sacred."""
    return tuple(
        node for node in NODES if node in claims or node in answering or record is None or record.primary in (node, "")
    )


def _sick(
    tracks: dict[NodeName, Track],
    serving: NodeName | None,
    sacred: tuple[NodeName, ...],
    record: WitnessSeen | None,
    claims: tuple[NodeName, ...],
) -> tuple[NodeName, ...]:
    if serving is None or record is None or record.primary != serving or claims != (serving,):
        return ()
    if tracks[serving].state not in (Health.HEALTHY, Health.EXPOSED, Health.DEGRADED):
        return ()
    return tuple(node for node in NODES if node not in sacred and tracks[node].state is Health.DOWN)


def _judge_cluster(
    facts: Latest,
    evidence: dict[NodeName, Evidence],
    tracks: dict[NodeName, Track],
    serving: NodeName | None,
    claims: tuple[NodeName, ...],
    abstains: bool,
    now: datetime,
) -> Judgement:
    if all(track.rule == "never-seen" for track in tracks.values()):
        return _said(Health.UNKNOWN, "cluster-never-seen")
    if abstains and any(track.state is Health.UNKNOWN for track in tracks.values()):
        return _said(Health.UNKNOWN, "cluster-observer-just-started")
    if serving is None:
        return _nobody_serves(evidence, tracks)
    if len(claims) > 1:
        return _said(Health.DEGRADED, "two-claims", f"the verdict takes {serving} as serving")
    return _served(facts, evidence, tracks, serving, now)


def _nobody_serves(evidence: dict[NodeName, Evidence], tracks: dict[NodeName, Track]) -> Judgement:
    if all(track.state is Health.DOWN for track in tracks.values()):
        return _said(Health.DOWN, "both-nodes-down", "; ".join(f"{node}: {tracks[node].rule}" for node in NODES))
    beats = [evidence[node].beat for node in NODES]
    if all(beat is not None and beat.role is Role.STOP for beat in beats):
        return _said(Health.DOWN, "stopped-by-operator")
    if all(evidence[node].beat is not None or tracks[node].state is Health.DOWN for node in NODES):
        return _said(Health.DOWN, "nobody-serves", "; ".join(f"{node}: {tracks[node].rule}" for node in NODES))
    return _said(Health.UNKNOWN, "cluster-unknown", "; ".join(f"{node}: {tracks[node].rule}" for node in NODES))


def _served(
    facts: Latest,
    evidence: dict[NodeName, Evidence],
    tracks: dict[NodeName, Track],
    serving: NodeName,
    now: datetime,
) -> Judgement:
    peer: NodeName = "b" if serving == "a" else "a"
    if tracks[serving].state in (Health.UNKNOWN, Health.DOWN):
        return _said(Health.UNKNOWN, "cluster-unknown", f"{serving}: {tracks[serving].rule}")
    if tracks[peer].state is Health.DOWN:
        return _said(Health.EXPOSED, "replica-down", f"{serving} serves; {peer}: {tracks[peer].rule}")
    beat = evidence[serving].beat
    if beat is not None and (beat.role is Role.ALONE or peer not in beat.in_sync):
        return _said(Health.EXPOSED, "runs-alone", f"{serving} serves; {peer}: {tracks[peer].rule}")
    frontend = facts.get((FactKind.FRONTEND, None))
    available = frontend.value if frontend is not None and frontend.age_s(now) <= SLOW_PLATFORM_FRESH_S else None
    if isinstance(available, Availability) and available.percent < LOW_AVAILABILITY_PERCENT:
        return _said(Health.DEGRADED, "virtual-ip-unreachable", f"{available.percent:.0f} % available")
    if tracks[peer].state is Health.UNKNOWN and beat is None:
        return _said(Health.UNKNOWN, "cluster-unknown", f"{peer}: {tracks[peer].rule}")
    odd = [node for node in NODES if tracks[node].state is not Health.HEALTHY]
    if odd:
        return _said(Health.DEGRADED, "node-degraded", "; ".join(f"{node}: {tracks[node].rule}" for node in odd))
    return _said(Health.HEALTHY, "in-sync", f"{serving} serves")


def _pauses(facts: tuple[Fact, ...], now: datetime) -> tuple[str, ...]:
    """Every reason to keep still that holds now; a removed one leaves the others in force."""
    reasons = {fact.value.reason for fact in facts if isinstance(fact.value, OperatorWish)}
    for fact in facts:
        if isinstance(fact.value, Notice) and fact.age_s(now) <= NOTICE_FRESH_S:
            if fact.value.customer_initiated:
                reasons.add("customer-initiated")
            elif fact.value.type == SCHEDULED_EVENT:
                reasons.add("platform-knows")
    return tuple(sorted(reasons))


def _said(state: Health, rule: str, detail: str = "") -> Judgement:
    sentence = CLUSTER_RULES[rule]
    return Judgement(state, rule, f"{sentence} ({detail})" if detail else sentence)
