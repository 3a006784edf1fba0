"""Identity of an Azure resource as this system uses it: type, resource group, name; no SDK, no I/O.

The types are a closed list, because each one needs a client method, a place in the order of deletion and a test. An
ARM id is compared without regard to case: the platform returns ids in whatever case it likes (see the alert schema and
the path casing of the SDKs: `resourceGroups` beside `resourcegroups`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Body = dict[str, Any]
"""A resource in ARM's own JSON (camelCase wire names)."""


class ResourceType(StrEnum):
    GROUP = "Microsoft.Resources/resourceGroups"
    PUBLIC_IP = "Microsoft.Network/publicIPAddresses"
    SECURITY_GROUP = "Microsoft.Network/networkSecurityGroups"
    NAT_GATEWAY = "Microsoft.Network/natGateways"
    VIRTUAL_NETWORK = "Microsoft.Network/virtualNetworks"
    LOAD_BALANCER = "Microsoft.Network/loadBalancers"
    NETWORK_INTERFACE = "Microsoft.Network/networkInterfaces"
    DISK = "Microsoft.Compute/disks"
    AVAILABILITY_SET = "Microsoft.Compute/availabilitySets"
    PROXIMITY_GROUP = "Microsoft.Compute/proximityPlacementGroups"
    VIRTUAL_MACHINE = "Microsoft.Compute/virtualMachines"
    VM_EXTENSION = "Microsoft.Compute/virtualMachines/extensions"


_BY_LOWER: Final = {kind.value.lower(): kind for kind in ResourceType}
_ID: Final = re.compile(
    r"^/subscriptions/[^/]+/resourcegroups/(?P<group>[^/]+)"
    r"(?:/providers/(?P<type>[^/]+/[^/]+)/(?P<name>[^/]+)(?:/(?P<child_type>[^/]+)/(?P<child>[^/]+))?)?$",
    re.IGNORECASE,
)


@dataclass(frozen=True, order=True, slots=True)
class ResourceRef:
    """One resource. For a resource group, `name` equals `group`; a child is named `parent/child`, as in ARM's lists."""

    type: ResourceType
    group: str
    name: str

    def __str__(self) -> str:
        return f"{self.type.value.rsplit('/', 1)[1]}/{self.name}"

    @property
    def key(self) -> tuple[str, str, str]:
        """For comparing with what ARM returns: it changes the case of names as it likes."""
        return self.type.value.lower(), self.group.lower(), self.name.lower()

    def id(self, subscription_id: str) -> str:
        group = f"/subscriptions/{subscription_id}/resourceGroups/{self.group}"
        if self.type is ResourceType.GROUP:
            return group
        namespace, *kinds = self.type.value.split("/")
        path = "/".join(f"{kind}/{name}" for kind, name in zip(kinds, self.name.split("/"), strict=True))
        return f"{group}/providers/{namespace}/{path}"


@dataclass(frozen=True, slots=True)
class ListedResource:
    """A row of "resources of a group": `ref` is None when the type is not one of ours."""

    id: str
    type: str
    name: str
    tags: dict[str, str]
    ref: ResourceRef | None


def known_type(type_name: str) -> ResourceType | None:
    return _BY_LOWER.get(type_name.lower())


def parse_id(resource_id: str) -> ResourceRef | None:
    """The reference of an ARM id; None if the type is not one of `ResourceType`."""
    match = _ID.match(resource_id)
    if match is None:
        return None
    group = match["group"]
    if match["type"] is None:
        return ResourceRef(ResourceType.GROUP, group, group)
    child_type, child = match["child_type"], match["child"]
    kind = known_type(match["type"] if child_type is None else f"{match['type']}/{child_type}")
    name = match["name"] if child is None else f"{match['name']}/{child}"
    return None if kind is None else ResourceRef(kind, group, name)
