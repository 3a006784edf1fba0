"""Public IP addresses and NAT gateways."""

from __future__ import annotations

import re
import uuid
from typing import Any, ClassVar

from lab.arm.errors import ArmError, network_format, not_modelled
from lab.arm.graph import referrers
from lab.arm.ids import ResourceId
from lab.arm.kinds.base import Kind
from lab.arm.state import Resource, State

STANDARD_SKUS = ("Standard", "StandardV2")  # Basic was retired on 2025-09-30
_LABEL = re.compile(r"^[a-z][a-z0-9-]{1,61}[a-z0-9]$")  # REST documentation of publicIPAddresses, domainNameLabel


class PublicIpAddress(Kind):
    """Standard SKUs: static, from the lab's Internet range. The fqdn is shown as Azure forms it; nobody resolves it."""

    type = "Microsoft.Network/publicIPAddresses"
    model = "PublicIPAddress"
    not_modelled = frozenset(
        {"publicIPPrefix", "servicePublicIPAddress", "linkedPublicIPAddress", "ddosSettings", "reverseFqdn"}
    )

    def complete(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        properties = wish["properties"]
        for shown in ("ipAddress", "natGateway"):  # filled by the service, sent back by GET-change-PUT
            properties.pop(shown, None)
        sku = wish.setdefault("sku", {})
        sku.setdefault("name", "Standard")
        sku.setdefault("tier", "Regional")
        properties.setdefault("publicIPAddressVersion", "IPv4")
        properties.setdefault("publicIPAllocationMethod", "Dynamic" if sku["name"] == "Basic" else "Static")
        properties.setdefault("idleTimeoutInMinutes", 4)
        dns = properties.get("dnsSettings")
        if dns:
            dns.pop("fqdn", None)

    def validate(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        properties = wish["properties"]
        if wish["sku"]["name"] not in STANDARD_SKUS:
            raise not_modelled(f"Public IP SKU '{wish['sku']['name']}'", "sku.name")
        if properties["publicIPAddressVersion"] != "IPv4":
            raise not_modelled("IPv6", "properties.publicIPAddressVersion")
        if properties["publicIPAllocationMethod"] != "Static":
            raise network_format(
                "PublicIPAddressWithStandardSkuMustBeStatic",
                f"Public IP {rid} has a Standard sku: publicIPAllocationMethod must be Static.",
            )
        label = (properties.get("dnsSettings") or {}).get("domainNameLabel")
        if label is None:
            return
        if not _LABEL.match(label):
            raise ArmError(
                400,
                "InvalidDomainNameLabel",
                f"The domain name label {label} is invalid. It must conform to the following regular expression: "
                f"{_LABEL.pattern}.",
            )
        for other in state.of_type(self.type):
            dns = other.properties.get("dnsSettings") or {}
            if other.id.lower() != str(rid).lower() and dns.get("domainNameLabel") == label:
                raise ArmError(400, "DnsRecordInUse", f"DNS record {_fqdn(label, wish['location'])} is already used.")

    def assign(self, resource: Resource, state: State) -> None:
        resource.assigned.setdefault("resourceGuid", str(uuid.uuid4()))

    def show(self, resource: Resource, body: dict[str, Any], state: State) -> None:
        properties = body["properties"]
        properties["resourceGuid"] = resource.assigned["resourceGuid"]
        if "ipAddress" in resource.assigned:
            properties["ipAddress"] = resource.assigned["ipAddress"]
        dns = properties.get("dnsSettings")
        if dns and "domainNameLabel" in dns:
            dns["fqdn"] = _fqdn(dns["domainNameLabel"], resource.location)
        for use in referrers(state, resource.id):
            if use.property == "publicIpAddresses":
                properties["natGateway"] = {"id": use.owner}
            else:
                properties["ipConfiguration"] = {"id": use.source}

    def refuse_if_used(self, resource: Resource, state: State) -> None:
        uses = referrers(state, resource.id)
        if uses:
            raise ArmError(
                400,
                "PublicIPAddressCannotBeDeleted",
                f"Public IP address {resource.id} can not be deleted since it is still allocated to resource "
                f"{uses[0].source}. In order to delete the public IP, disassociate/detach the Public IP address from "
                "the resource. To learn how to do this, see aka.ms/deletepublicip.",
            )


def _fqdn(label: str, location: str) -> str:
    return f"{label}.{location}.cloudapp.azure.com"


def refuse_taken_address(public_ip: str, source: str, state: State) -> None:
    """A public address serves one interface, frontend or NAT gateway. Raises `ArmError` PublicIPAddressInUse."""
    for use in referrers(state, public_ip):
        if use.source.lower() != source.lower():
            raise ArmError(
                400,
                "PublicIPAddressInUse",
                f"Resource {source} is referencing public IP address {public_ip} that is already allocated to resource "
                f"{use.source}.",
            )


class NatGateway(Kind):
    type = "Microsoft.Network/natGateways"
    model = "NatGateway"
    reference_types: ClassVar[dict[str, str]] = {"publicIpAddresses": "Microsoft.Network/publicIPAddresses"}
    not_modelled = frozenset(
        {
            "publicIpPrefixes",
            "publicIpPrefixesV6",
            "publicIpAddressesV6",
            "sourceVirtualNetwork",
            "serviceGateway",
            "nat64",
        }
    )

    def complete(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        sku = wish.setdefault("sku", {})
        sku.setdefault("name", "Standard")
        wish["properties"].setdefault("idleTimeoutInMinutes", 4)

    def validate(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        if not 4 <= wish["properties"]["idleTimeoutInMinutes"] <= 120:
            raise network_format("InvalidIdleTimeout", "idleTimeoutInMinutes of a NAT gateway must be 4 to 120.")
        for address in wish["properties"].get("publicIpAddresses") or []:
            refuse_taken_address(address["id"], str(rid), state)
            found = state.find(address["id"])
            if found is not None and found.wish["sku"]["name"] != wish["sku"]["name"]:
                # learn.microsoft.com, NAT gateway SKUs: each takes addresses of its own SKU only.
                raise network_format(
                    "NatGatewayAndPublicIPAddressSkuMismatch",
                    f"{wish['sku']['name']} NAT gateway {rid} cannot use "
                    f"{found.wish['sku']['name']} address {found.id}.",
                )

    def assign(self, resource: Resource, state: State) -> None:
        resource.assigned.setdefault("resourceGuid", str(uuid.uuid4()))

    def show(self, resource: Resource, body: dict[str, Any], state: State) -> None:
        body["properties"]["resourceGuid"] = resource.assigned["resourceGuid"]
        uses = [{"id": use.source} for use in referrers(state, resource.id)]
        if uses:
            body["properties"]["subnets"] = uses

    def refuse_if_used(self, resource: Resource, state: State) -> None:
        uses = referrers(state, resource.id)
        if uses:
            raise ArmError(
                400,
                "InUseNatGatewayCannotBeDeleted",
                f"Nat gateway {resource.id} is in use by {uses[0].source} and cannot be deleted.",
            )
