"""The stored record of a cluster: desired state, what was observed, and which operation is at work.

The record is the one truth. It is written first, by a conditional write; the operation row and the queue message are
derived from it (`operation` names them), so that a crash between any two writes is repaired by looking at the record.
`generation` grows with every accepted change of the desired state and is what callers see in the ETag: observations
(addresses, states) never invalidate a caller's ETag.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from mirror_agent.contract import ClusterKind, CommandAction, NodeName
from pydantic import AwareDatetime, Field

from shared.model.authority import ClusterTrust
from shared.model.cluster_spec import ClusterSpec
from shared.model.document import Document
from shared.model.operation import OperationKind
from shared.model.rollout import Rollout


class ProvisioningState(StrEnum):
    CREATING = "Creating"
    UPDATING = "Updating"
    DELETING = "Deleting"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


SETTLED: Final = frozenset({ProvisioningState.SUCCEEDED, ProvisioningState.FAILED})


class OperationRef(Document):
    """Enough of an operation to write its row again if a crash prevented that."""

    id: str
    kind: OperationKind
    generation: int
    requested_at: AwareDatetime
    requested_by: str
    action: CommandAction | None = None
    node: NodeName | None = None
    reason: str = ""


class ObservedNode(Document):
    """What the reconciler saw of a node's resources."""

    vm_id: str | None = None
    private_address: str | None = None
    public_address: str | None = None


class ObservedResources(Document):
    """What the reconciler saw in Azure. `facts` is the reconciler's own notebook (small strings only)."""

    resource_group_id: str | None = None
    virtual_ip_address: str | None = None
    virtual_ip_fqdn: str | None = None
    nodes: dict[NodeName, ObservedNode] = Field(default_factory=dict)
    facts: dict[str, str] = Field(default_factory=dict)


class ClusterRecord(Document):
    id: str
    name: str
    spec: ClusterSpec
    generation: int
    state: ProvisioningState
    operation: OperationRef
    action: OperationRef | None = None
    ever_succeeded: bool = False
    revoked_serials: tuple[str, ...] = ()
    """Certificates of people that the nodes must refuse; told to them in every heartbeat answer."""
    trust: ClusterTrust | None = None
    """Set by the first rotation of the cluster's authority; without it there is one, made at first use."""
    rollout: Rollout | None = None
    """Of the operation that is at work, while it changes the nodes one after another."""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    resources: ObservedResources = ObservedResources()

    @property
    def group(self) -> str:
        """The resource group of the cluster's resources: its own, or the one that was brought."""
        return self.spec.resource_group or resource_group_name(self.name)

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        return self.spec.node_names

    @property
    def is_farm(self) -> bool:
        return self.spec.kind is ClusterKind.FARM

    @property
    def etag(self) -> str:
        """The ETag callers see, quoted: identity and generation of the desired state."""
        return f'"{self.id}-{self.generation}"'


def resource_group_name(cluster: str) -> str:
    """The group that is made for a cluster which brings none."""
    return f"mirrorplane-{cluster}"


def settled(record: ClusterRecord, state: ProvisioningState, now: AwareDatetime) -> ClusterRecord:
    """The record after its operation ended in Succeeded or Failed (a deleted cluster's record is removed instead)."""
    if state not in SETTLED:
        raise ValueError(f"{state.value} is no settled state")
    return record.model_copy(
        update={
            "state": state,
            "updated_at": now,
            "ever_succeeded": record.ever_succeeded or state is ProvisioningState.SUCCEEDED,
        }
    )
