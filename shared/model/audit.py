"""What the audit stores: one row per cluster with its verdict and what must be remembered, one row for the fleet.

Both are written conditionally. A cluster's row is written when something about it changed, so `audited_at` is the time
of the verdict's last change, not of the last look; that one is the fleet's (`FleetRecord.ended_at`).
"""

from __future__ import annotations

from enum import StrEnum

from mirror_agent.contract import NodeName
from pydantic import AwareDatetime, Field

from shared.model.document import Document


class NodeHealth(StrEnum):
    """A node in a view: the short word of an interface, where the audit's verdict has five."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class TrackRecord(Document):
    """See `shared.health.history.Track`; `rule` names the branch that decided, `sentence` says it to a person."""

    state: str
    rule: str
    sentence: str
    since: AwareDatetime
    seen: str
    seen_since: AwareDatetime
    changes: tuple[AwareDatetime, ...] = ()


class AuditRecord(Document):
    """`run_id` identifies the audit that wrote the row; `audited_at` never moves backwards."""

    cluster_id: str
    cluster: str
    audited_at: AwareDatetime
    run_id: str
    verdict: TrackRecord | None = None
    nodes: dict[NodeName, TrackRecord] = Field(default_factory=dict)
    serving: NodeName | None = None
    up: tuple[NodeName, ...] = ()
    sick: tuple[NodeName, ...] = ()
    paused_by: tuple[str, ...] = ()


class FleetRecord(Document):
    """The audit of the whole fleet. `run_id` holds it until `held_until`; whoever finds that passed may take it over.
    `watching_since` begins anew when no audit ended for three periods."""

    run_id: str = ""
    held_until: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    watching_since: AwareDatetime | None = None
    storm: bool = False
    entered_at: AwareDatetime | None = None
    calm_since: AwareDatetime | None = None
    left_at: AwareDatetime | None = None
    storms: int = 0
    sentence: str = ""
    suspects: int = 0
    clusters: int = 0
    names: tuple[str, ...] = ()


class TurnKind(StrEnum):
    """What an entry of the verdict history is about."""

    CLUSTER = "cluster"
    NODE = "node"
    STORM = "storm"
    ROLE = "role"  # the node's own words: its role, by which rule of its decision core


class VerdictTurn(Document):
    """One change of a verdict or of a node's role, kept as history: from which to which, by which rule."""

    cluster_id: str
    cluster: str
    kind: TurnKind
    node: NodeName | None = None
    at: AwareDatetime
    before: str
    after: str
    rule: str
    sentence: str
