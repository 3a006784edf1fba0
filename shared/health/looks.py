"""What the assessments of mirrors and farms have in common: each node judged and settled, and what lies beside them.

Pure. How the nodes' verdicts add up to one of the cluster is `assess` for a mirror and `assess_farm` for a farm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirror_agent.contract import NodeName

from shared.health.evidence import Evidence, gather
from shared.health.facts import Availability, Fact, FactKind, Latest, Notice, OperatorWish, latest
from shared.health.history import History, Track
from shared.health.judge_node import Judgement, judge_node
from shared.health.limits import ABSTAIN_S, NOTICE_FRESH_S, SLOW_PLATFORM_FRESH_S
from shared.health.rules import CLUSTER_RULES
from shared.health.settle import settle_node
from shared.health.verdict import Health, NodeVerdict
from shared.model.node_state import ProbeOutcome

LOW_AVAILABILITY_PERCENT: Final = 50.0
SCHEDULED_EVENT: Final = "scheduled-event"  # of a Notice: the platform is about to act on a VM


@dataclass(frozen=True, slots=True)
class Looks:
    """One look at every node. `known`: the facts as they came, `latest`: the newest of each kind and subject."""

    known: tuple[Fact, ...]
    latest: Latest
    abstains: bool
    evidence: Mapping[NodeName, Evidence]
    tracks: Mapping[NodeName, Track]
    nodes: Mapping[NodeName, NodeVerdict]

    def each(self) -> str:
        return "; ".join(f"{node}: {track.rule}" for node, track in self.tracks.items())


def look(
    facts: Iterable[Fact], nodes: tuple[NodeName, ...], history: History, now: datetime, *, farm: bool = False
) -> Looks:
    """`nodes`: all of the cluster."""
    known = tuple(facts)
    abstains = abstaining(history.watching_since, now)
    of_each = latest(known)
    evidence = {
        node: gather(of_each, node, others_of(nodes, node), history.silent_after_s, now, farm=farm) for node in nodes
    }
    tracks: dict[NodeName, Track] = {}
    verdicts: dict[NodeName, NodeVerdict] = {}
    for node, found in evidence.items():
        seen = judge_node(found, abstains=abstains)
        track = settle_node(seen, history.nodes.get(node), now)
        tracks[node] = track
        verdicts[node] = NodeVerdict(
            node, track.state, track.rule, track.sentence, track.since, found.used, seen.state is Health.DOWN
        )
    return Looks(known, of_each, abstains, evidence, tracks, verdicts)


def others_of(nodes: tuple[NodeName, ...], node: NodeName) -> tuple[NodeName, ...]:
    return tuple(name for name in nodes if name != node)


def nothing_to_judge(looks: Looks) -> Judgement | None:
    """Why nothing can be said of the cluster yet, if so."""
    if all(track.rule == "never-seen" for track in looks.tracks.values()):
        return said(Health.UNKNOWN, "cluster-never-seen")
    if looks.abstains and any(track.state is Health.UNKNOWN for track in looks.tracks.values()):
        return said(Health.UNKNOWN, "cluster-observer-just-started")
    return None


def unreachable(facts: Latest, now: datetime) -> Judgement | None:
    """What the load balancer's own metric has against a cluster that serves."""
    frontend = facts.get((FactKind.FRONTEND, None))
    available = frontend.value if frontend is not None and frontend.age_s(now) <= SLOW_PLATFORM_FRESH_S else None
    if isinstance(available, Availability) and available.percent < LOW_AVAILABILITY_PERCENT:
        return said(Health.DEGRADED, "virtual-ip-unreachable", f"{available.percent:.0f} % available")
    return None


def used_facts(facts: tuple[Fact, ...], evidence: Mapping[NodeName, Evidence]) -> tuple[Fact, ...]:
    """Those about the nodes that were fresh, and everything that is a reason or an excuse."""
    found = {id(fact): fact for node in evidence for fact in evidence[node].used}
    beside = (FactKind.FRONTEND, FactKind.NOTICE, FactKind.OPERATOR, FactKind.COLLECTOR_FAILED)
    found |= {id(fact): fact for fact in facts if fact.kind in beside}
    return tuple(found.values())


def abstaining(watching_since: datetime | None, now: datetime) -> bool:
    return watching_since is None or (now - watching_since).total_seconds() < ABSTAIN_S


def answers_as_serving(found: Evidence) -> bool:
    return found.probe is not None and found.probe.outcome is ProbeOutcome.SERVING


def pauses(facts: tuple[Fact, ...], now: datetime) -> tuple[str, ...]:
    """Every reason to keep still that holds now; a removed one leaves the others in force."""
    reasons = {fact.value.reason for fact in facts if isinstance(fact.value, OperatorWish)}
    for fact in facts:
        if isinstance(fact.value, Notice) and fact.age_s(now) <= NOTICE_FRESH_S:
            if fact.value.customer_initiated:
                reasons.add("customer-initiated")
            elif fact.value.type == SCHEDULED_EVENT:
                reasons.add("platform-knows")
    return tuple(sorted(reasons))


def said(state: Health, rule: str, detail: str = "") -> Judgement:
    sentence = CLUSTER_RULES[rule]
    return Judgement(state, rule, f"{sentence} ({detail})" if detail else sentence)
