"""What a node is told by the control plane: its cluster, its peers, its application, its durations."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from mirror_agent.contract.application import Application, misplaced
from mirror_agent.contract.basics import MAX_FARM_NODES, MIRROR_NODES, ClusterKind, Contract, NodeName, Seconds
from mirror_agent.core import model as core_model
from mirror_agent.core.budget import budget


def _fits(kind: ClusterKind, application: Application) -> None:
    for field, reason in misplaced(kind, application):
        raise ValueError(f"application.{field}: {reason}")


class Timing(Contract):
    """Durations of the safety protocol, in seconds; `mirror_agent.core.budget` refuses unsafe combinations.

    Defaults: a heartbeat every 0.5 s, a peer is suspected after 2 s of silence, a promise of 4 s. Unplanned outage at
    the virtual IP is then at most promise + margin + witness write + application start + probe (see docs/safety.md).
    """

    heartbeat_s: Seconds = 0.5
    suspect_s: Seconds = 2.0
    promise_s: Seconds = 4.0
    margin_s: Seconds = 0.5
    witness_deadline_s: Seconds = 2.0
    probe_interval_s: Seconds = 5.0
    probe_threshold: Annotated[int, Field(ge=1, le=10)] = 1
    control_plane_heartbeat_s: Seconds = 10.0
    """Between two reports to the control plane when nothing changes; a change is reported at once. Three missed ones
    are silence. The rhythm is most of what a cluster costs there (see docs/audit.md)."""

    @model_validator(mode="after")
    def _safe_together(self) -> Self:
        """Refused where it is asked for, not at three in the morning on a node: see `mirror_agent.core.budget`."""
        durations = self.model_dump(exclude={"control_plane_heartbeat_s"})
        budget(core_model.Timing(**durations))
        return self


class Peer(Contract):
    """The other node. The first address is its private one; heartbeats go to all of them at the same time.

    Every further address must lead to the same machine's first one (a public address with 1:1 translation does).
    """

    name: NodeName
    addresses: Annotated[tuple[str, ...], Field(min_length=1, max_length=4)]


class WitnessAccess(Contract):
    """Where the witness record lives and what lets this cluster change it (a SAS for one partition)."""

    endpoint: str
    table: str
    partition_key: str
    row_key: str
    sas: str = Field(repr=False)


class NodeConfiguration(Contract):
    """Everything a node is told by the control plane at enrolment; renewed when `version` changes."""

    version: int
    cluster_name: str
    cluster_id: str
    node: NodeName
    address: str
    peer: Peer
    witness: WitnessAccess
    application: Application
    timing: Timing = Timing()
    failover: bool = True
    default_primary: NodeName | None = None

    @model_validator(mode="after")
    def _two_nodes(self) -> Self:
        for name in (self.node, self.peer.name, self.default_primary or "a"):
            if name not in MIRROR_NODES:
                raise ValueError(f"a mirror has the nodes a and b, not {name!r}; only a farm has more")
        _fits(ClusterKind.MIRROR, self.application)
        return self


class FarmConfiguration(Contract):
    """What a node of a farm is told: as `NodeConfiguration`, but all of its peers, and nothing to agree on with them.

    There is no safety record: every node decides for itself whether its application runs. Of `timing` only the probe's
    and the report's rhythm mean something. `minimumHealthy` is told so that a node can say what its absence costs; the
    control plane and the load balancer are what keep to it.
    """

    kind: Literal["farm"]
    version: int
    cluster_name: str
    cluster_id: str
    node: NodeName
    address: str
    peers: Annotated[tuple[Peer, ...], Field(min_length=1, max_length=MAX_FARM_NODES - 1)]
    application: Application
    timing: Timing = Timing()
    minimum_healthy: Annotated[int, Field(ge=1, lt=MAX_FARM_NODES)] = 1

    @model_validator(mode="after")
    def _a_farm(self) -> Self:
        names = [self.node, *(peer.name for peer in self.peers)]
        if len(set(names)) != len(names):
            raise ValueError(f"a node is named twice: {names}")
        _fits(ClusterKind.FARM, self.application)
        return self


def _kind(value: object) -> str:
    """Configurations of mirrors say no kind, as they did before there were farms: any agent understands them."""
    return str(value.get("kind", "mirror")) if isinstance(value, dict) else getattr(value, "kind", "mirror")


Configuration = Annotated[
    Annotated[NodeConfiguration, Tag("mirror")] | Annotated[FarmConfiguration, Tag("farm")], Discriminator(_kind)
]
