"""All resources of a cluster, as a graph: who needs whom, and in which step of the operation each one is shown.

Steps follow the resources' nature; order follows `needs` alone, so independent resources of different steps are
issued together (the data disks are made while the network still grows). Deletion goes by type, dependants first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from shared.azure.resources import ResourceRef, ResourceType
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.brought import brought_group, brought_network, brought_proximity_group
from shared.provisioning.specs.disk import data_disk
from shared.provisioning.specs.extension import extension
from shared.provisioning.specs.load_balancer import load_balancer
from shared.provisioning.specs.nat_gateway import nat_gateway
from shared.provisioning.specs.network_interface import network_interface
from shared.provisioning.specs.placement import availability_set, proximity_group
from shared.provisioning.specs.public_ip import nat_ip, node_ip, virtual_ip
from shared.provisioning.specs.resource_group import resource_group
from shared.provisioning.specs.security_group import security_group
from shared.provisioning.specs.spec import Spec
from shared.provisioning.specs.virtual_machine import virtual_machine
from shared.provisioning.specs.virtual_network import virtual_network

STEP_GROUP: Final = "resourceGroup"
STEP_NETWORK: Final = "network"
STEP_BALANCER: Final = "loadBalancer"
STEP_NICS: Final = "nics"
STEP_DISKS: Final = "disks"
STEP_MACHINES: Final = "machines"
RESOURCE_STEPS: Final = (STEP_GROUP, STEP_NETWORK, STEP_BALANCER, STEP_NICS, STEP_DISKS, STEP_MACHINES)

STEP_OF_TYPE: Final[Mapping[ResourceType, str]] = MappingProxyType(
    {
        ResourceType.GROUP: STEP_GROUP,
        ResourceType.PUBLIC_IP: STEP_NETWORK,
        ResourceType.SECURITY_GROUP: STEP_NETWORK,
        ResourceType.NAT_GATEWAY: STEP_NETWORK,
        ResourceType.VIRTUAL_NETWORK: STEP_NETWORK,
        ResourceType.LOAD_BALANCER: STEP_BALANCER,
        ResourceType.NETWORK_INTERFACE: STEP_NICS,
        ResourceType.DISK: STEP_DISKS,
        ResourceType.AVAILABILITY_SET: STEP_MACHINES,
        ResourceType.PROXIMITY_GROUP: STEP_MACHINES,
        ResourceType.VIRTUAL_MACHINE: STEP_MACHINES,
        ResourceType.VM_EXTENSION: STEP_MACHINES,
    }
)

# A rank is deleted when all lower ranks are gone. A VNet holds its NSG and NAT gateway, a gateway holds its address.
DELETE_RANK: Final[Mapping[ResourceType, int]] = MappingProxyType(
    {
        ResourceType.VIRTUAL_MACHINE: 0,
        ResourceType.NETWORK_INTERFACE: 1,
        ResourceType.DISK: 1,
        ResourceType.AVAILABILITY_SET: 1,
        ResourceType.LOAD_BALANCER: 2,
        ResourceType.PROXIMITY_GROUP: 2,
        ResourceType.VIRTUAL_NETWORK: 3,
        ResourceType.NAT_GATEWAY: 4,
        ResourceType.SECURITY_GROUP: 4,
        ResourceType.PUBLIC_IP: 5,
        ResourceType.GROUP: 6,
    }
)
# Gone with the resource they belong to, never deleted by themselves.
DELETED_WITH_PARENT: Final = frozenset({ResourceType.VM_EXTENSION})


def cluster_specs(plan: ClusterPlan) -> tuple[Spec, ...]:
    """Every resource, dependants after what they need. The VMs are without boot documents: see `creating`."""
    specs = [brought_group(plan) if plan.brought_group else resource_group(plan), security_group(plan)]
    if plan.brought_subnet is not None:
        specs.append(brought_network(plan, plan.brought_subnet))
    else:
        specs += [nat_ip(plan), nat_gateway(plan), virtual_network(plan)]
    if plan.proximity_group is not None:
        own = plan.proximity == "own"
        specs.append((proximity_group if own else brought_proximity_group)(plan, plan.proximity_group))
    if plan.availability_set:
        specs.append(availability_set(plan))
    if plan.frontend == "public":
        specs.append(virtual_ip(plan))
    specs.append(load_balancer(plan))
    for node in plan.nodes:
        if plan.node_public_addresses:
            specs.append(node_ip(plan, node))
        specs += [
            network_interface(plan, node),
            data_disk(plan, node),
            virtual_machine(plan, node, custom_data=None),
        ]
        if plan.image.os == "windows":
            specs.append(extension(plan, node, command=None))
    return tuple(specs)


def ready(specs: Iterable[Spec], done: frozenset[ResourceRef]) -> tuple[Spec, ...]:
    """Specs that can be worked on now: not done, and everything they need is."""
    return tuple(spec for spec in specs if spec.ref not in done and spec.needs <= done)


def step_of(ref: ResourceRef) -> str:
    return STEP_OF_TYPE[ref.type]


assert set(STEP_OF_TYPE) == set(DELETE_RANK) | DELETED_WITH_PARENT == set(ResourceType), (
    "a resource type has no step or no rank"
)
assert set(STEP_OF_TYPE.values()) == set(RESOURCE_STEPS), "a step of no resource, or a resource of no step"
