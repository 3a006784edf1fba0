"""What the specs are computed from: one frozen, already validated description of a cluster's resources.

The plan knows neither tables nor requests; `shared.provisioning.records` derives it from the stored cluster and the
settings of the control plane. Names and addresses of all resources are decided here, and only here.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from mirror_agent.contract import NodeName

from shared.azure.resources import ResourceRef, ResourceType
from shared.model.cluster import NODES
from shared.provisioning.images import Image

TAG_OWNED: Final = "mirrorplane-owned"
TAG_CLUSTER: Final = "mirrorplane-cluster"
TAG_CLUSTER_ID: Final = "mirrorplane-cluster-id"

# Azure keeps the first four addresses and the last one of a subnet (network, gateway, two of DNS, broadcast).
_NODE_HOST: Final = MappingProxyType({"a": 4, "b": 5})
_VIP_HOST: Final = 6


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
    location: str
    image: Image
    vm_size: str
    zones: tuple[str, ...]
    """Zone of node a, zone of node b; empty in a region without zones."""
    data_disk_gb: int
    admin_username: str
    ssh_public_key: str
    address_space: str
    subnet: str
    frontend: Literal["public", "private"]
    admin_addresses: tuple[str, ...]
    control_plane_addresses: tuple[str, ...]
    dns_label: str | None
    rules: tuple[ForwardingRule, ...]
    probe_interval_s: int
    probe_threshold: int
    tags: dict[str, str] = field(default_factory=dict)
    admin_password: str | None = field(default=None, repr=False)
    """Windows only; never stored, generated for the one PUT that creates the VM."""

    @property
    def owner(self) -> Owner:
        return Owner(self.cluster, self.cluster_id)

    @property
    def all_tags(self) -> dict[str, str]:
        """The user's tags, and ours over them."""
        return {**self.tags, **self.owner.tags}

    @property
    def group(self) -> str:
        return resource_group_name(self.cluster)

    def ref(self, kind: ResourceType, suffix: str) -> ResourceRef:
        return ResourceRef(kind, self.group, f"{self.cluster}-{suffix}")

    def id(self, ref: ResourceRef) -> str:
        return ref.id(self.subscription_id)

    @property
    def group_ref(self) -> ResourceRef:
        return ResourceRef(ResourceType.GROUP, self.group, self.group)

    @property
    def vnet(self) -> ResourceRef:
        return self.ref(ResourceType.VIRTUAL_NETWORK, "vnet")

    @property
    def subnet_id(self) -> str:
        return f"{self.id(self.vnet)}/subnets/{SUBNET_NAME}"

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

    def nic(self, node: NodeName) -> ResourceRef:
        return self.ref(ResourceType.NETWORK_INTERFACE, f"{node}-nic")

    def node_ip(self, node: NodeName) -> ResourceRef:
        return self.ref(ResourceType.PUBLIC_IP, f"{node}-ip")

    def data_disk(self, node: NodeName) -> ResourceRef:
        return self.ref(ResourceType.DISK, f"{node}-data")

    def os_disk_name(self, node: NodeName) -> str:
        return f"{self.cluster}-{node}-os"

    def zone(self, node: NodeName) -> list[str] | None:
        return [self.zones[NODES.index(node)]] if self.zones else None

    def private_address(self, node: NodeName) -> str:
        return node_address(self.subnet, node)

    @property
    def private_vip(self) -> str:
        return str(ipaddress.ip_network(self.subnet)[_VIP_HOST])


SUBNET_NAME: Final = "nodes"


def resource_group_name(cluster: str) -> str:
    return f"mirrorplane-{cluster}"


def node_address(subnet: str, node: NodeName) -> str:
    """Static private address of a node: .4 for a, .5 for b, the first ones Azure leaves to us."""
    return str(ipaddress.ip_network(subnet)[_NODE_HOST[node]])
