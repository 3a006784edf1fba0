"""The body of PUT /api/clusters/{name}: what a caller wants a cluster to be.

Every rule that can be checked without Azure is checked here, before anything is stored, with a message that names
the value and the remedy. What an existing cluster cannot change any more is `refused_changes` (Azure fixes zone,
image, administrator and address range of a VM at its creation).
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Self

from mirror_agent.contract import ALL_NODES, MAX_FARM_NODES, Application, ClusterKind, NodeName, Timing, unfit
from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from shared.model.brought import proximity_group_id, subnet_id
from shared.model.cluster_compute import OWN_PROXIMITY_GROUP, Compute
from shared.model.cluster_kind import misfits
from shared.model.cluster_network import Frontend as Frontend
from shared.model.cluster_network import Network, check_addresses, node_address
from shared.model.document import ApiModel, FieldError, is_stored
from shared.model.remediation_policy import ManagementPolicy, RemediationPolicy
from shared.model.timing_change import mixed_timing

# `<name>-a` is a host name and a VM name (64; a Windows VM's computer name is cut to 15), `mirrorplane-<name>` a
# resource group (90), `<name>-vip` a DNS label of at most 63; 24 leaves room in all of them and stays readable.
NAME_PATTERN: Final = r"^[a-z](?:[a-z0-9-]{0,22}[a-z0-9])$"
MAX_NAME_CHARS: Final = 24
MAX_TAGS: Final = 40  # Azure allows 50 per resource; ours need some
OWNED_TAG_PREFIX: Final = "mirrorplane-"


def check_name(name: str) -> str:
    """The cluster name, if it is one. Raises ValueError with the rule."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(
            f"{name!r} is no cluster name: 2 to {MAX_NAME_CHARS} characters, lower-case letters, digits and '-', "
            "beginning with a letter, not ending with '-'"
        )
    return name


class ClusterSpec(ApiModel):
    """A cluster as a caller asks for it."""

    location: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{2,29}$")]
    kind: ClusterKind = ClusterKind.MIRROR
    resource_group: Annotated[str, StringConstraints(pattern=r"^[-\w.()]{0,89}[-\w()]$")] | None = None
    """An existing group for the cluster's resources; without it `mirrorplane-<name>` is made and removed."""
    tags: dict[
        Annotated[str, StringConstraints(pattern=r"^[^<>%&\\?/\x00-\x1f]{1,128}$")],
        Annotated[str, StringConstraints(max_length=256)],
    ] = Field(default_factory=dict, max_length=MAX_TAGS)
    compute: Compute
    network: Network = Network()
    application: Application
    timing: Timing = Timing()
    failover: bool = True
    default_primary: NodeName | None = None
    minimum_healthy: Annotated[int, Field(ge=1, lt=MAX_FARM_NODES)] | None = None
    """Of a farm: nothing is repaired on a node while fewer of the others are healthy; 1 if not given."""
    remediation: RemediationPolicy = RemediationPolicy()
    management_policy: ManagementPolicy = ManagementPolicy.FULL

    @field_validator("resource_group")
    @classmethod
    def _brought(cls, value: str | None) -> str | None:
        if value is not None and value.lower().startswith(OWNED_TAG_PREFIX):
            raise ValueError(
                f"{value!r}: groups beginning with {OWNED_TAG_PREFIX!r} are made by this system; name one of your own"
            )
        return value

    @field_validator("tags")
    @classmethod
    def _not_ours(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:
            if key.lower().startswith(OWNED_TAG_PREFIX):
                raise ValueError(f"tag {key!r}: tags beginning with {OWNED_TAG_PREFIX!r} mark our ownership; rename it")
        return value

    @model_validator(mode="after")
    def _of_one_kind(self, info: ValidationInfo) -> Self:
        if is_stored(info):
            return self
        for target, reason in misfits(self):
            raise FieldError(target, reason)
        for target, reason in unfit(self.compute.os, self.application):
            raise FieldError(f"application.{target}", reason)
        check_addresses(self.network, self.node_names)
        return self

    @property
    def node_names(self) -> tuple[NodeName, ...]:
        return ALL_NODES[: self.compute.nodes]

    @property
    def healthy_needed(self) -> int:
        """How many other nodes must be healthy before one is repaired or changed."""
        return self.minimum_healthy or 1


def node_private_address(spec: ClusterSpec, node: NodeName) -> str:
    return node_address(spec.network, node)


def brought_elsewhere(spec: ClusterSpec, subscription_id: str) -> list[tuple[str, str]]:
    """(target, reason) for every brought resource that lies in another subscription than the control plane's."""
    brought = []
    if spec.network.subnet_id is not None:
        brought.append(("network.subnetId", subnet_id(spec.network.subnet_id)))
    group = spec.compute.proximity_placement_group
    if group is not None and group != OWN_PROXIMITY_GROUP:
        brought.append(("compute.proximityPlacementGroup", proximity_group_id(group)))
    return [
        (target, f"{found.id} is in another subscription; the control plane works in {subscription_id} only")
        for target, found in brought
        if found.subscription != subscription_id.lower()
    ]


_FIXED: Final = (
    ("kind", "a mirror cannot become a farm or the other way round; make a new cluster"),
    ("compute.nodes", "a farm keeps the number of nodes it was made with; growing one is not offered yet"),
    ("location", "a VM cannot move to another region"),
    ("resource_group", "resources stay in the group they were made in"),
    ("compute.os", "the operating system of a VM is fixed at its creation"),
    ("compute.image", "the image of a VM is fixed at its creation"),
    ("compute.vm_size", "a resize restarts the serving node; rolling changes are not offered yet"),
    ("compute.data_disk_gb", "growing a disk needs a step inside the node that is not offered yet"),
    ("compute.zones", "a VM cannot move to another zone"),
    ("compute.data_disk_sku", "the kind of a disk cannot change while a VM uses it"),
    ("compute.availability_set", "a VM enters an availability set at its creation only"),
    ("compute.proximity_placement_group", "a VM enters a proximity placement group at its creation only"),
    ("compute.image_id", "the image of a VM is fixed at its creation"),
    ("compute.admin_username", "the administrator of a VM is fixed at its creation"),
    ("compute.ssh_public_key", "the first key of a VM is fixed at its creation"),
    ("network.address_space", "nodes hold static addresses in it"),
    ("network.subnet", "nodes hold static addresses in it"),
    ("network.subnet_id", "nodes live in the subnet they were made in"),
    ("network.node_addresses", "the address of a node is fixed at its creation"),
    ("network.private_address", "clients hold the virtual IP"),
    ("network.node_public_addresses", "a node's public address is given at its creation"),
    ("network.control_plane_url", "nodes learn it at their first boot"),
    ("network.proxy", "nodes learn it at their first boot"),
    ("network.frontend", "the frontend of a load balancer cannot change its kind"),
)


def refused_changes(old: ClusterSpec, new: ClusterSpec) -> list[tuple[str, str]]:
    """(target, reason) for every field that differs and cannot be changed on an existing cluster."""
    refused: list[tuple[str, str]] = []
    for path, reason in _FIXED:
        before: object = old
        after: object = new
        for part in path.split("."):
            before, after = getattr(before, part), getattr(after, part)
        if before != after:
            words = [re.sub(r"_([a-z])", lambda match: match.group(1).upper(), part) for part in path.split(".")]
            refused.append((".".join(words), reason))
    if [path.path for path in old.application.replicated_paths] != [
        path.path for path in new.application.replicated_paths
    ]:
        reason = "the nodes agree on the directories before a replica is taken; only a directory's mode can change"
        refused.append(("application.replicatedPaths", reason))
    if reason := mixed_timing(old.timing, new.timing):
        refused.append(("timing", reason))
    return refused
