"""The resource types the lab knows, in the order in which a resource group has to be emptied."""

from __future__ import annotations

from lab.arm.errors import ArmError
from lab.arm.kinds.addresses import NatGateway, PublicIpAddress
from lab.arm.kinds.balancer import LoadBalancer
from lab.arm.kinds.base import Kind
from lab.arm.kinds.disk import Disk
from lab.arm.kinds.extension import VmExtension
from lab.arm.kinds.interface import NetworkInterface
from lab.arm.kinds.machine import VirtualMachine
from lab.arm.kinds.network import NetworkSecurityGroup, VirtualNetwork
from lab.arm.kinds.placement import AvailabilitySet, ProximityPlacementGroup

KINDS: tuple[Kind, ...] = (  # users before what they use
    VirtualMachine(),  # takes its extensions along
    VmExtension(),
    AvailabilitySet(),
    ProximityPlacementGroup(),
    Disk(),
    LoadBalancer(),
    NetworkInterface(),
    VirtualNetwork(),
    NatGateway(),
    NetworkSecurityGroup(),
    PublicIpAddress(),
)
_BY_TYPE = {kind.type.lower(): kind for kind in KINDS}


def kind_of(type_name: str) -> Kind:
    """Raises `ArmError` for a type the lab does not know; the text lists those it does."""
    found = _BY_TYPE.get(type_name.lower())
    if found is None:
        namespace, _, rest = type_name.partition("/")
        known = ", ".join(kind.type for kind in KINDS)
        raise ArmError(
            404,
            "InvalidResourceType",
            f"The resource type '{rest}' could not be found in the namespace '{namespace}'. The lab has: {known}.",
        )
    return found
