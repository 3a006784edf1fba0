"""What a verdict says about one node, for the planner: one place that reads facts.

Doubt is always read in the node's favour: any fresh sign that it serves, or may serve, makes it untouchable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirror_agent.contract import MIRROR_NODES, NodeName, Role

from shared.health.facts import (
    Beat,
    Fact,
    FactKind,
    Notice,
    Power,
    ProbeSeen,
    ResourceHealthSeen,
    WitnessSeen,
    newest,
)
from shared.health.verdict import ClusterVerdict, Health
from shared.model.node_state import ProbeOutcome
from shared.remediation.model import FRESH_S

_NO_POWER: Final = frozenset({"stopped", "deallocated"})


@dataclass(frozen=True, slots=True)
class NodeSight:
    """`heard`: heartbeats arrive. `power`: `absent`, `running`, `stopped`…, or "" where nobody looked. `answers`:
    somebody is alive at its address, if only to refuse; None where nobody could look."""

    heard: bool
    answers: bool | None
    power: str
    stopped_by_order: bool
    customer_initiated: bool
    boot_id: str | None

    @property
    def absent(self) -> bool:
        return self.power == "absent"

    @property
    def without_power(self) -> bool:
        return self.power in _NO_POWER


def facts_of(verdict: ClusterVerdict) -> tuple[Fact, ...]:
    return (*verdict.facts, *(fact for node in verdict.nodes.values() for fact in node.facts))


def look_at(verdict: ClusterVerdict, node: NodeName, now: datetime) -> NodeSight:
    facts = facts_of(verdict)
    beat = newest(facts, FactKind.HEARTBEAT, node)
    power = newest(facts, FactKind.POWER, node)
    value = beat.value if beat is not None and isinstance(beat.value, Beat) else None
    heard = beat is not None and value is not None and beat.age_s(now) <= FRESH_S
    return NodeSight(
        heard=heard,
        answers=_answers(facts, node, now),
        power=power.value.state.lower() if power is not None and isinstance(power.value, Power) else "",
        stopped_by_order=heard and value is not None and value.role is Role.STOP,
        customer_initiated=_customer_initiated(facts, node),
        boot_id=None if value is None else value.boot_id,
    )


def _answers(facts: Iterable[Fact], node: NodeName, now: datetime) -> bool | None:
    """A refused connection is an answer of the machine's kernel; a probe that meets nothing at all is not."""
    probe = newest(facts, FactKind.PROBE, node)
    if probe is None or not isinstance(probe.value, ProbeSeen) or probe.age_s(now) > FRESH_S:
        return None
    match probe.value.outcome:
        case ProbeOutcome.SERVING | ProbeOutcome.STANDBY | ProbeOutcome.UNEXPECTED | ProbeOutcome.REFUSED:
            return True
        case ProbeOutcome.TIMEOUT | ProbeOutcome.UNREACHABLE:
            return False
        case ProbeOutcome.IMPOSSIBLE:
            return None


def may_serve(verdict: ClusterVerdict, node: NodeName, now: datetime) -> bool:
    """Whether any verdict, witness, heartbeat or probe gives the node a part in serving."""
    if node == verdict.serving or node in verdict.sacred:
        return True
    for fact in facts_of(verdict):
        match fact.value:
            case WitnessSeen(primary=primary, in_sync=in_sync):
                if primary == node or node in in_sync:
                    return True
            case Beat() as beat if fact.subject == node:
                if beat.serves and fact.age_s(now) <= FRESH_S:
                    return True
            case ProbeSeen(outcome=outcome) if fact.subject == node:
                if outcome is ProbeOutcome.SERVING and fact.age_s(now) <= FRESH_S:
                    return True
    return False


def witness_names(verdict: ClusterVerdict, node: NodeName) -> bool:
    """The safety record was read and names this node the primary."""
    record = newest(facts_of(verdict), FactKind.WITNESS, None)
    return record is not None and isinstance(record.value, WitnessSeen) and record.value.primary == node


def witness_read(verdict: ClusterVerdict) -> bool:
    record = newest(facts_of(verdict), FactKind.WITNESS, None)
    return record is not None and isinstance(record.value, WitnessSeen)


def in_sync(verdict: ClusterVerdict, node: NodeName) -> bool:
    """The safety record was read and holds this node in the in-sync set."""
    record = newest(facts_of(verdict), FactKind.WITNESS, None)
    return record is not None and isinstance(record.value, WitnessSeen) and node in record.value.in_sync


def healthy_others(verdict: ClusterVerdict, node: NodeName) -> tuple[NodeName, ...]:
    """Of a farm: the other nodes that serve by a fresh fact and are called healthy."""
    well = (name for name, judged in verdict.nodes.items() if judged.state is Health.HEALTHY)
    return tuple(name for name in well if name != node and name in verdict.up)


def both_sick(verdict: ClusterVerdict) -> bool:
    return set(MIRROR_NODES) <= set(verdict.sick)


def _customer_initiated(facts: Iterable[Fact], node: NodeName) -> bool:
    """Any such fact that the audit still holds current suppresses; how long one is current is the audit's to say."""
    return any(
        fact.value.customer_initiated
        for fact in facts
        if fact.subject == node and isinstance(fact.value, Notice | ResourceHealthSeen)
    )
