"""Network interfaces: the joint between subnet, security group, public address, load-balancer pool and VM."""

from __future__ import annotations

import secrets
import uuid
from typing import Any, ClassVar

from lab.arm.errors import ArmError, network_format, not_modelled
from lab.arm.graph import children, referrers
from lab.arm.ids import ResourceId, same
from lab.arm.kinds.addresses import refuse_taken_address
from lab.arm.kinds.allocation import allocate, check_static
from lab.arm.kinds.base import Kind
from lab.arm.state import Resource, State

VM_TYPE = "microsoft.compute/virtualmachines"


class NetworkInterface(Kind):
    """One IPv4 configuration each. The MAC address is Azure's vendor prefix 00-0D-3A with a random rest."""

    type = "Microsoft.Network/networkInterfaces"
    model = "NetworkInterface"
    children = ("ipConfigurations",)
    reference_types: ClassVar[dict[str, str]] = {
        "subnet": "Microsoft.Network/virtualNetworks/subnets",
        "publicIPAddress": "Microsoft.Network/publicIPAddresses",
        "networkSecurityGroup": "Microsoft.Network/networkSecurityGroups",
        "loadBalancerBackendAddressPools": "Microsoft.Network/loadBalancers/backendAddressPools",
    }
    not_modelled = frozenset(
        {
            "applicationSecurityGroups",
            "applicationGatewayBackendAddressPools",
            "loadBalancerInboundNatRules",
            "gatewayLoadBalancer",
            "virtualNetworkTaps",
            "privateLinkService",
            "dnsServers",
        }
    )

    def complete(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        configs = children(wish, "ipConfigurations")
        for config in configs:
            properties = config["properties"]
            properties.setdefault("privateIPAllocationMethod", "Dynamic")
            properties.setdefault("privateIPAddressVersion", "IPv4")
            properties.setdefault("primary", len(configs) == 1)
            if properties["privateIPAllocationMethod"] == "Dynamic":
                properties.pop("privateIPAddress", None)  # the assigned one, sent back by GET-change-PUT
        wish["properties"].setdefault("enableAcceleratedNetworking", False)
        wish["properties"].setdefault("enableIPForwarding", False)

    def validate(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        configs = children(wish, "ipConfigurations")
        if not configs:
            raise network_format(
                "NetworkInterfaceMustHaveIpConfiguration", f"Network interface {rid} must have an IP configuration."
            )
        if len(configs) > 1:
            raise not_modelled("A second IP configuration of an interface", "properties.ipConfigurations[1]")
        properties = configs[0]["properties"]
        source = f"{rid}/ipConfigurations/{configs[0]['name']}"
        if properties["privateIPAddressVersion"] != "IPv4":
            raise not_modelled("IPv6", "properties.ipConfigurations[0].properties.privateIPAddressVersion")
        if "subnet" not in properties:
            raise network_format(
                "MissingJsonReferenceId",
                "Value for reference id is missing. Path properties.ipConfigurations[0].properties.subnet.",
            )
        if properties["privateIPAllocationMethod"] == "Static":
            address = properties.get("privateIPAddress")
            if not address:
                raise network_format(
                    "PrivateIPAddressMissing", f"{source} uses static allocation: privateIPAddress is required."
                )
            check_static(state, str(rid), source, properties["subnet"]["id"], address)
        if "publicIPAddress" in properties:
            refuse_taken_address(properties["publicIPAddress"]["id"], source, state)
        if old is not None and vm_of(state, old.id) is not None:
            self._keep_subnet(old, properties["subnet"]["id"])

    @staticmethod
    def _keep_subnet(old: Resource, subnet_id: str) -> None:
        before = children(old.wish, "ipConfigurations")[0]["properties"]["subnet"]["id"]
        if not same(before, subnet_id):
            raise not_modelled("Moving the interface of a VM to another subnet", "properties.ipConfigurations[0]")

    def assign(self, resource: Resource, state: State) -> None:
        resource.assigned.setdefault("resourceGuid", str(uuid.uuid4()))
        if "macAddress" not in resource.assigned:
            tail = secrets.token_hex(3).upper()
            resource.assigned["macAddress"] = f"00-0D-3A-{tail[:2]}-{tail[2:4]}-{tail[4:]}"
        allocate(resource, "ipConfigurations", state)

    def show(self, resource: Resource, body: dict[str, Any], state: State) -> None:
        properties = body["properties"]
        properties["resourceGuid"] = resource.assigned["resourceGuid"]
        properties["macAddress"] = resource.assigned["macAddress"]
        for config in properties["ipConfigurations"]:
            config["properties"]["privateIPAddress"] = resource.assigned["addresses"][config["name"]]
        vm = vm_of(state, resource.id)
        if vm is not None:
            properties["virtualMachine"] = {"id": vm}
            properties["primary"] = True

    def refuse_if_used(self, resource: Resource, state: State) -> None:
        vm = vm_of(state, resource.id)
        if vm is not None:
            raise ArmError(
                400,
                "NicInUse",
                f"Network Interface {resource.id} is used by existing resource {vm}. In order to delete the network "
                "interface, it must be dissociated from the resource. To learn more, see aka.ms/deletenic.",
            )


def vm_of(state: State, nic_id: str) -> str | None:
    """Id of the VM that uses the interface."""
    return next((r.owner for r in referrers(state, nic_id) if f"/{VM_TYPE.split('/')[1]}/" in r.owner.lower()), None)


def pools_of(wish: dict[str, Any]) -> set[str]:
    """Ids of the load balancers (not pools) whose backends this interface's body joins."""
    found = set()
    for config in children(wish, "ipConfigurations"):
        for pool in config["properties"].get("loadBalancerBackendAddressPools") or []:
            found.add(pool["id"].lower().split("/backendaddresspools/")[0])
    return found
