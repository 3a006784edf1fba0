"""What is known of a cluster at one moment: facts, each with its source, our time of seeing it, and its trust.

Guarantee: a fact is frozen and carries no clock of a node. `observed_at` is always the control plane's own time: the
arrival of a heartbeat, the end of a probe, the moment Azure answered. A collector that failed is a fact too
(`CollectorFailed`): "nobody could look" and "there is nothing" are different.

`source` names the channel, and independence is judged by it: two facts of one source never confirm each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mirror_agent.contract import ApplicationState, NodeName, Phase, Role

from shared.model.node_state import ProbeOutcome


class FactKind(StrEnum):
    HEARTBEAT = "heartbeat"
    PROBE = "probe"
    POWER = "power"
    BACKEND = "backend"
    FRONTEND = "frontend"
    RESOURCE_HEALTH = "resource-health"
    WITNESS = "witness"
    NOTICE = "notice"
    OPERATOR = "operator"
    COLLECTOR_FAILED = "collector-failed"


class Trust(StrEnum):
    """Who speaks. Bad news a node tells of itself is believed at once; good news needs a second source."""

    OWN_LOOK = "own-look"  # the control plane saw it itself
    SELF_REPORT = "self-report"  # the node says it of itself
    PLATFORM = "platform"  # Azure says it
    RECORD = "record"  # the safety record, written by the nodes under a condition
    OPERATOR = "operator"  # a person decided it


@dataclass(frozen=True, slots=True)
class Beat:
    """The newest heartbeat of a node. Its own time of sending is left out on purpose: a node's clock never matters."""

    role: Role
    phase: Phase
    epoch: int
    in_sync: tuple[NodeName, ...]
    application: ApplicationState
    probe_ok: bool
    boot_id: str
    agent_start_id: str
    sequence: int
    sentence: str
    link: str = "none"
    failing_checkers: tuple[str, ...] = ()
    mirror_error: str | None = None
    # Between the copies, of the last verify, and still there.
    differences: int = 0
    replica_slow: bool = False
    # Of a farm: the others it sees serving; None when it has not asked.
    peers_up: tuple[NodeName, ...] | None = None

    @property
    def serves(self) -> bool:
        return self.role in (Role.PRIM, Role.ALONE) or (self.role is Role.UP and self.phase is Phase.READY)


@dataclass(frozen=True, slots=True)
class ProbeSeen:
    outcome: ProbeOutcome
    reason: str = ""
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Power:
    """The VM as ARM shows it: `running`, `stopped`, `deallocated`…; `absent` when there is no VM of that name."""

    state: str
    agent_ready: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Availability:
    """The load balancer's metric of the last minutes, 0 to 100: DipAvailability (a node) or VipAvailability."""

    percent: float


@dataclass(frozen=True, slots=True)
class ResourceHealthSeen:
    """`state`: Available, Unavailable, Degraded, Unknown. `customer_initiated`: a person did it; nothing to repair."""

    state: str
    customer_initiated: bool = False
    summary: str = ""


@dataclass(frozen=True, slots=True)
class WitnessSeen:
    epoch: int
    primary: str
    in_sync: tuple[NodeName, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """A platform event that was recorded (deleted, deallocated, annotated, scheduled): a hint where to look."""

    type: str
    event_id: str
    summary: str = ""
    customer_initiated: bool = False


@dataclass(frozen=True, slots=True)
class OperatorWish:
    """A reason to keep still: `maintenance`, `operation`, `stopped-by-operator`… Several may hold; each is one fact."""

    reason: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class CollectorFailed:
    """`collector` could not look; `reason` says why and, where there is one, the remedy."""

    collector: str
    reason: str


FactValue = (
    Beat | ProbeSeen | Power | Availability | ResourceHealthSeen | WitnessSeen | Notice | OperatorWish | CollectorFailed
)


@dataclass(frozen=True, slots=True)
class Fact:
    """`subject` is the node a fact is about, or None for the cluster as a whole."""

    kind: FactKind
    subject: NodeName | None
    source: str
    observed_at: datetime
    trust: Trust
    value: FactValue

    def age_s(self, now: datetime) -> float:
        """Never negative: instances of the control plane may differ by a little."""
        return max(0.0, (now - self.observed_at).total_seconds())


def newest(facts: Iterable[Fact], kind: FactKind, subject: NodeName | None) -> Fact | None:
    """The newest fact of a kind about a subject; facts may come in any order and twice."""
    found = [fact for fact in facts if fact.kind is kind and fact.subject == subject]
    return max(found, key=lambda fact: fact.observed_at, default=None)


Latest = Mapping[tuple[FactKind, NodeName | None], Fact]


def latest(facts: Iterable[Fact]) -> Latest:
    """`newest` of every kind and subject, found in one pass: an audit asks for a dozen of each of 10,000 clusters."""
    found: dict[tuple[FactKind, NodeName | None], Fact] = {}
    for fact in facts:
        before = found.get((fact.kind, fact.subject))
        if before is None or before.observed_at < fact.observed_at:
            found[fact.kind, fact.subject] = fact
    return found
