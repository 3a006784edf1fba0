"""Virtual networks with their subnets, and network security groups.

Rules and codes: Azure's documented limits (five reserved addresses per subnet, priorities 100–4096) and error codes
seen in public issue threads; see docs/lab-arm.md.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from typing import Any, ClassVar

from lab.arm.errors import ArmError
from lab.arm.graph import Reference, children, referrers
from lab.arm.ids import ResourceId, parse_resource_id, same
from lab.arm.kinds.base import Kind, check_prefix
from lab.arm.state import Resource, State

SERVICE_TAGS = frozenset({"*", "any", "internet", "virtualnetwork", "azureloadbalancer"})
_PORTS = re.compile(r"^(\d{1,5})(?:-(\d{1,5}))?$")


class VirtualNetwork(Kind):
    type = "Microsoft.Network/virtualNetworks"
    model = "VirtualNetwork"
    children = ("subnets",)
    child_models: ClassVar[dict[str, str]] = {"subnets": "Subnet"}
    reference_types: ClassVar[dict[str, str]] = {
        "networkSecurityGroup": "Microsoft.Network/networkSecurityGroups",
        "natGateway": "Microsoft.Network/natGateways",
    }
    not_modelled = frozenset(
        {
            "virtualNetworkPeerings",
            "dhcpOptions",
            "ddosProtectionPlan",
            "routeTable",
            "delegations",
            "serviceEndpoints",
            "ipAllocations",
            "ipamPoolPrefixAllocations",
            "applicationGatewayIPConfigurations",
        }
    )

    def complete(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        for subnet in children(wish, "subnets"):
            properties = subnet["properties"]
            plural = properties.pop("addressPrefixes", None)
            if plural and "addressPrefix" not in properties:
                if len(plural) > 1:
                    raise ArmError(400, "NotModelledByTheLab", f"Subnet {subnet['name']}: one address prefix only.")
                properties["addressPrefix"] = plural[0]
            properties.setdefault("privateEndpointNetworkPolicies", "Disabled")
            properties.setdefault("privateLinkServiceNetworkPolicies", "Enabled")

    def validate(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        prefixes = (wish["properties"].get("addressSpace") or {}).get("addressPrefixes") or []
        if not prefixes:
            raise ArmError(
                400, "InvalidAddressSpace", f"Virtual network {rid.name} must have at least one address prefix."
            )
        space = [check_prefix(prefix, str(rid)) for prefix in prefixes]
        seen: list[tuple[str, ipaddress.IPv4Network]] = []
        for subnet in children(wish, "subnets"):
            name, text = subnet["name"], subnet["properties"].get("addressPrefix")
            if not text:
                raise ArmError(400, "MissingAddressPrefix", f"Subnet {name} of {rid.name} has no address prefix.")
            network = check_prefix(text, f"{rid}/subnets/{name}")
            if network.prefixlen > 29 or not any(network.subnet_of(prefix) for prefix in space):
                raise ArmError(
                    400, "NetcfgInvalidSubnet", f"Subnet '{name}' is not valid in virtual network '{rid.name}'."
                )
            for other, range_ in seen:
                if network.overlaps(range_):
                    raise ArmError(
                        400,
                        "NetcfgSubnetRangesOverlap",
                        f"Subnet '{name}' is not valid because its IP address range overlaps with that of an existing "
                        f"subnet in virtual network '{rid.name}'. ('{other}')",
                    )
            seen.append((name, network))
            self._keep_used_prefix(rid, name, text, old, state)

    @staticmethod
    def _keep_used_prefix(rid: ResourceId, name: str, prefix: str, old: Resource | None, state: State) -> None:
        before = next((c for c in children(old.wish, "subnets") if same(c["name"], name)), None) if old else None
        if before is None or before["properties"]["addressPrefix"] == prefix:
            return
        uses = [r for r in referrers(state, f"{rid}/subnets/{name}") if r.property == "subnet"]
        if uses:
            raise ArmError(
                400,
                "InUsePrefixCannotBeDeleted",
                f"IpPrefix {before['properties']['addressPrefix']} on Subnet {name} has active allocations and cannot "
                "be deleted.",
            )

    def assign(self, resource: Resource, state: State) -> None:
        resource.assigned.setdefault("resourceGuid", str(uuid.uuid4()))

    def show(self, resource: Resource, body: dict[str, Any], state: State) -> None:
        body["properties"]["resourceGuid"] = resource.assigned["resourceGuid"]
        body["properties"].setdefault("virtualNetworkPeerings", [])
        body["properties"].setdefault("enableDdosProtection", False)
        for subnet in body["properties"]["subnets"]:
            uses = [{"id": r.source} for r in referrers(state, subnet["id"]) if r.property == "subnet"]
            if uses:
                subnet["properties"]["ipConfigurations"] = uses

    def refuse_if_used(self, resource: Resource, state: State) -> None:
        for subnet in children(resource.wish, "subnets"):
            child_id = f"{resource.id}/subnets/{subnet['name']}"
            uses = referrers(state, child_id)
            if uses:
                raise self.refuse_removed_child(child_id, uses)

    def refuse_removed_child(self, child_id: str, uses: list[Reference]) -> ArmError:
        return ArmError(
            400,
            "InUseSubnetCannotBeDeleted",
            f"Subnet {parse_resource_id(child_id).name} is in use by {uses[0].source} and cannot be deleted. In order "
            "to delete the subnet, delete all the resources within the subnet. See aka.ms/deletesubnet.",
        )


def default_rules() -> list[dict[str, Any]]:
    """The six rules every security group ends with (learn.microsoft.com: network security groups, default rules)."""

    def rule(name: str, priority: int, direction: str, access: str, source: str, destination: str) -> dict[str, Any]:
        return {
            "name": name,
            "properties": {
                "protocol": "*",
                "sourcePortRange": "*",
                "destinationPortRange": "*",
                "sourceAddressPrefix": source,
                "destinationAddressPrefix": destination,
                "access": access,
                "priority": priority,
                "direction": direction,
            },
        }

    return [
        rule("AllowVnetInBound", 65000, "Inbound", "Allow", "VirtualNetwork", "VirtualNetwork"),
        rule("AllowAzureLoadBalancerInBound", 65001, "Inbound", "Allow", "AzureLoadBalancer", "*"),
        rule("DenyAllInBound", 65500, "Inbound", "Deny", "*", "*"),
        rule("AllowVnetOutBound", 65000, "Outbound", "Allow", "VirtualNetwork", "VirtualNetwork"),
        rule("AllowInternetOutBound", 65001, "Outbound", "Allow", "*", "Internet"),
        rule("DenyAllOutBound", 65500, "Outbound", "Deny", "*", "*"),
    ]


class NetworkSecurityGroup(Kind):
    type = "Microsoft.Network/networkSecurityGroups"
    model = "NetworkSecurityGroup"
    children = ("securityRules",)
    needs_properties = frozenset({"securityRules"})
    child_models: ClassVar[dict[str, str]] = {"securityRules": "SecurityRule"}
    not_modelled = frozenset({"sourceApplicationSecurityGroups", "destinationApplicationSecurityGroups"})

    def validate(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        taken: dict[tuple[str, int], str] = {}
        for rule in children(wish, "securityRules"):
            name, properties = rule["name"], rule["properties"]
            priority = properties["priority"]
            if not 100 <= priority <= 4096:
                raise ArmError(
                    400,
                    "SecurityRuleInvalidPriority",
                    f"Security rule has invalid Priority. Value provided: {priority} Allowed range 100-4096.",
                )
            other = taken.setdefault((properties["direction"], priority), name)
            if other != name:
                raise ArmError(
                    400,
                    "SecurityRuleConflict",
                    f"Security rule {other} conflicts with rule {name}. Rules cannot have the same Priority and "
                    "Direction.",
                )
            for side in ("source", "destination"):
                self._check_side(name, properties, side)

    @staticmethod
    def _check_side(name: str, properties: dict[str, Any], side: str) -> None:
        prefixes = values(properties, f"{side}AddressPrefix", f"{side}AddressPrefixes")
        ports = values(properties, f"{side}PortRange", f"{side}PortRanges")
        if not prefixes or not ports:
            raise ArmError(
                400,
                "SecurityRuleParameterMissing",
                f"Security rule {name} needs {side}AddressPrefix(es) and {side}PortRange(s).",
            )
        for prefix in prefixes:
            if prefix.lower() in SERVICE_TAGS:
                continue
            try:
                ipaddress.ip_network(prefix, strict=False)
            except ValueError as error:
                raise ArmError(
                    400,
                    "SecurityRuleInvalidAddressPrefix",
                    f"Security rule {name} has invalid Address prefix. Value provided: {prefix} (the lab knows the "
                    "service tags Internet, VirtualNetwork and AzureLoadBalancer)",
                ) from error
        for port in ports:
            match = _PORTS.match(port)
            low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if port != "*" and not low <= high <= 65535:
                raise ArmError(
                    400,
                    "SecurityRuleInvalidPortRange",
                    f"Security rule {name} has invalid Port range. Value provided: {port}. Value should be an integer "
                    "OR integer range with '-' delimiter. Valid range 0-65535.",
                )

    def assign(self, resource: Resource, state: State) -> None:
        resource.assigned.setdefault("resourceGuid", str(uuid.uuid4()))

    def show(self, resource: Resource, body: dict[str, Any], state: State) -> None:
        properties = body["properties"]
        properties["resourceGuid"] = resource.assigned["resourceGuid"]
        properties["defaultSecurityRules"] = [
            rule | {"id": f"{resource.id}/defaultSecurityRules/{rule['name']}"} for rule in default_rules()
        ]
        uses = [r.source for r in referrers(state, resource.id)]
        for name, part in (("subnets", "/subnets/"), ("networkInterfaces", "/networkinterfaces/")):
            found = [{"id": source} for source in uses if part in source.lower()]
            if found:
                properties[name] = found

    def refuse_if_used(self, resource: Resource, state: State) -> None:
        uses = referrers(state, resource.id)
        if uses:
            raise ArmError(
                400,
                "InUseNetworkSecurityGroupCannotBeDeleted",
                f"Network security group {resource.id} cannot be deleted because it is in use by the following "
                f"resources: {', '.join(use.source for use in uses)}. In order to delete the Network security "
                "group, remove "
                "the association with the resource(s). To learn how to do this, see aka.ms/deletensg.",
            )


def values(properties: dict[str, Any], singular: str, plural: str) -> list[str]:
    """Both spellings of a rule's prefixes or ports as one list."""
    found = list(properties.get(plural) or [])
    if properties.get(singular):
        found.insert(0, properties[singular])
    return found
