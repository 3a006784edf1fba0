"""What the audit concludes: a verdict per node, per cluster, and the state of the storm guard over the fleet.

`sick` lists only nodes whose repair can harm nobody: judged down, not serving by any fresh fact, not the recorded
primary, while the peer demonstrably serves. It is empty whenever one of these is in doubt (rule `serving-is-sacred`).
A verdict is a conclusion about one moment; whoever acts on it looks again first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mirror_agent.contract import NodeName

from shared.health.facts import Fact as Fact
from shared.health.facts import FactKind as FactKind
from shared.health.facts import Trust as Trust


class Health(StrEnum):
    """Of a node, `exposed` is: serves alone; `down` is: sick. Of a cluster, `down` is: nobody serves."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    EXPOSED = "exposed"
    DOWN = "down"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """`suspect`: this very look, without hysteresis, saw the node down (what the storm guard counts)."""

    node: NodeName
    state: Health
    rule: str
    sentence: str
    since: datetime
    facts: tuple[Fact, ...] = ()
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class ClusterVerdict:
    """`facts` are those used. `serving` is the node that serves, as far as known. `sacred`: nodes that nobody touches.
    `up`: of a farm, where `serving` says nothing, all nodes that serve. `paused_by`: reasons to keep still (operation
    under way, maintenance, platform event); any one of them is enough."""

    cluster: str
    cluster_id: str
    state: Health
    rule: str
    sentence: str
    since: datetime
    at: datetime
    nodes: Mapping[NodeName, NodeVerdict]
    facts: tuple[Fact, ...] = ()
    serving: NodeName | None = None
    sick: tuple[NodeName, ...] = ()
    sacred: tuple[NodeName, ...] = ()
    up: tuple[NodeName, ...] = ()
    paused_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fleet:
    """The storm guard. While `storm` holds nobody acts, wherever. `entered_at` survives restarts of the control plane;
    `calm_since` is when the share of suspects last fell under the limit."""

    storm: bool = False
    entered_at: datetime | None = None
    calm_since: datetime | None = None
    left_at: datetime | None = None
    suspects: int = 0
    clusters: int = 0
    sentence: str = ""
    names: tuple[str, ...] = field(default=())
