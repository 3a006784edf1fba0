"""What the specs are computed from: one frozen, already validated description of a cluster's resources.

The plan knows neither tables nor requests; `shared.provisioning.records` derives it from the stored cluster and the
settings of the control plane. Names and addresses of all resources are decided here, and only here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from mirror_agent.contract import NodeName

from shared.azure.resources import ResourceRef, ResourceType
from shared.model.brought import BroughtId
from shared.model.cluster_compute import zone_of
from shared.provisioning.images import Image

TAG_OWNED: Final = "mirrorplane-owned"
TAG_CLUSTER: Final = "mirrorplane-cluster"
TAG_CLUSTER_ID: Final = "mirrorplane-cluster-id"


@dataclass(frozen=True, slots=True)
class ForwardingRule:
    """A port of the virtual IP that leads to the application."""

    name: str
    protocol: Literal["tcp", "udp"]
    frontend_port: int
    backend_port: int


@dataclass(frozen=True, slots=True)
class Owner:
    """The cluster a resource must belong to, by its tags, before it may be changed or deleted."""

    cluster: str
    cluster_id: str

    @property
    def tags(self) -> dict[str, str]:
        return {TAG_CLUSTER: self.cluster, TAG_CLUSTER_ID: self.cluster_id, TAG_OWNED: "true"}


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    cluster: str
    cluster_id: str
    subscription_id: str
    group: str
    location: str
    image: Image
    vm_size: str
    zones: tuple[str, ...]
    """The nodes take turns in them; empty in a region without zones."""
    data_disk_gb: int
    admin_username: str
    ssh_public_key: str | None
    address_space: str
    subnet: str
    node_addresses: Mapping[NodeName, str]
    private_vip: str
    """The virtual IP of a private frontend; means nothing for a public one."""
    frontend: Literal["public", "private"]
    admin_addresses: tuple[str, ...]
    control_plane_addresses: tuple[str, ...]
    dns_label: str | None
    rules: tuple[ForwardingRule, ...]
    probe_interval_s: int
    probe_threshold: int
    tags: dict[str, str] = field(default_factory=dict)
    data_disk_sku: str = "Premium_LRS"
    image_id: str | None = None
    availability_set: bool = False
    proximity: Literal["own"] | BroughtId | None = None
    brought_group: bool = False
    brought_subnet: BroughtId | None = None
    node_public_addresses: bool = True
    farm: bool = False
    admin_password: str | None = field(default=None, repr=False)
    """Windows only; never stored, generated for the one PUT that creates the VM."""

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        return tuple(self.node_addresses)

    @property
    def owner(self) -> Owner:
        return Owner(self.cluster, self.cluster_id)

    @property
    def all_tags(self) -> dict[str, str]:
        """The user's tags, and ours over them."""
        return {**self.tags, **self.owner.tags}

    def ref(self, kind: ResourceType, suffix: str) -> ResourceRef:
        return ResourceRef(kind, self.group, f"{self.cluster}-{suffix}")

    def id(self, ref: ResourceRef) -> str:
        return ref.id(self.subscription_id)

    @property
    def group_ref(self) -> ResourceRef:
        return ResourceRef(ResourceType.GROUP, self.group, self.group)

    @property
    def vnet(self) -> ResourceRef:
        brought = self.brought_subnet
        if brought is not None:
            return ResourceRef(ResourceType.VIRTUAL_NETWORK, brought.group, brought.network)
        return self.ref(ResourceType.VIRTUAL_NETWORK, "vnet")

    @property
    def subnet_id(self) -> str:
        if self.brought_subnet is not None:
            return self.brought_subnet.id
        return f"{self.id(self.vnet)}/subnets/{SUBNET_NAME}"

    @property
    def availability_group(self) -> ResourceRef:
        return self.ref(ResourceType.AVAILABILITY_SET, "avset")

    @property
    def proximity_group(self) -> ResourceRef | None:
        if self.proximity is None:
            return None
        if self.proximity == "own":
            return self.ref(ResourceType.PROXIMITY_GROUP, "ppg")
        return ResourceRef(ResourceType.PROXIMITY_GROUP, self.proximity.group, self.proximity.name)

    @property
    def security_group(self) -> ResourceRef:
        return self.ref(ResourceType.SECURITY_GROUP, "nsg")

    @property
    def nat(self) -> ResourceRef:
        return self.ref(ResourceType.NAT_GATEWAY, "nat")

    @property
    def nat_ip(self) -> ResourceRef:
        return self.ref(ResourceType.PUBLIC_IP, "nat-ip")

    @property
    def vip(self) -> ResourceRef:
        return self.ref(ResourceType.PUBLIC_IP, "vip")

    @property
    def load_balancer(self) -> ResourceRef:
        return self.ref(ResourceType.LOAD_BALANCER, "lb")

    def machine(self, node: NodeName) -> ResourceRef:
        return self.ref(ResourceType.VIRTUAL_MACHINE, node)

    def boot_extension(self, node: NodeName) -> ResourceRef:
        """Of Windows nodes: Linux ones boot from their custom data."""
        return self.ref(ResourceType.VM_EXTENSION, f"{node}/bootstrap")

    def nic(self, node: NodeName) -> ResourceRef:
        return self.ref(ResourceType.NETWORK_INTERFACE, f"{node}-nic")

    def node_ip(self, node: NodeName) -> ResourceRef:
        return self.ref(ResourceType.PUBLIC_IP, f"{node}-ip")

    def data_disk(self, node: NodeName) -> ResourceRef:
        return self.ref(ResourceType.DISK, f"{node}-data")

    def os_disk_name(self, node: NodeName) -> str:
        return f"{self.cluster}-{node}-os"

    def zone(self, node: NodeName) -> list[str] | None:
        zone = zone_of(self.zones, node)
        return None if zone is None else [zone]

    def private_address(self, node: NodeName) -> str:
        return self.node_addresses[node]


SUBNET_NAME: Final = "nodes"
