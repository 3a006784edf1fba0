"""Private addresses of a subnet: which are free, which are whose.

Azure reserves five addresses of every subnet: network, the next three (gateway, two for DNS) and the last one
(learn.microsoft.com: virtual network FAQ). Dynamic allocation takes the lowest free address, as Azure does.
"""

from __future__ import annotations

import ipaddress

from lab.arm.errors import ArmError, MissingResource
from lab.arm.graph import children
from lab.arm.ids import parse_resource_id, same
from lab.arm.state import Resource, State

RESERVED_FIRST = 4
ADDRESS_ARRAYS = ("ipConfigurations", "frontendIPConfigurations")


def subnet_prefix(state: State, subnet_id: str) -> ipaddress.IPv4Network:
    """Raises `MissingResource` for a subnet that is not there (references are checked before)."""
    rid = parse_resource_id(subnet_id)
    network = state.find(str(rid.parent))
    if network is not None:
        for subnet in children(network.wish, "subnets"):
            if same(subnet["name"], rid.name):
                return ipaddress.IPv4Network(subnet["properties"]["addressPrefix"])
    raise MissingResource(f"{subnet_id} is not in the lab's state")


def taken(state: State, subnet_id: str, *, but_for: str) -> dict[str, str]:
    """Address → id of the configuration that holds it, in one subnet, without those of the resource `but_for`."""
    found = {}
    for resource in state.resources.values():
        if same(resource.id, but_for):
            continue
        for array in ADDRESS_ARRAYS:
            for config in children(resource.wish, array):
                subnet = config["properties"].get("subnet")
                address = resource.assigned.get("addresses", {}).get(config["name"])
                if subnet and address and same(subnet["id"], subnet_id):
                    found[address] = f"{resource.id}/{array}/{config['name']}"
    return found


def check_static(state: State, resource_id: str, source: str, subnet_id: str, address: str) -> None:
    """Raises the `ArmError` of an address that is not in the subnet, reserved, or taken."""
    prefix = subnet_prefix(state, subnet_id)
    try:
        parsed = ipaddress.IPv4Address(address)
    except ValueError as error:
        raise ArmError(400, "InvalidIPAddressFormat", f"IP address {address} of {source} is not valid.") from error
    if parsed not in prefix:
        raise ArmError(
            400,
            "PrivateIPAddressNotInSubnet",
            f"Private static IP address {address} does not belong to the range of subnet prefix {prefix}.",
        )
    if parsed in [prefix[index] for index in range(RESERVED_FIRST)] or parsed == prefix[-1]:
        raise ArmError(
            400,
            "PrivateIPAddressInReservedRange",
            f"Private static IP address {address} falls within reserved IP range of subnet prefix {prefix}.",
        )
    holder = taken(state, subnet_id, but_for=resource_id).get(address)
    if holder is not None:
        raise ArmError(
            400,
            "PrivateIPAddressIsAllocated",
            f"IP configuration {source} is using the private IP address {address} which is already allocated to "
            f"resource {holder}.",
        )


def allocate(resource: Resource, array: str, state: State) -> None:
    """Give every configuration of the resource its address; an address once given stays while the subnet does."""
    before: dict[str, str] = resource.assigned.get("addresses", {})
    given: dict[str, str] = {}
    for config in children(resource.wish, array):
        properties = config["properties"]
        subnet = properties.get("subnet")
        if subnet is None:
            continue
        prefix = subnet_prefix(state, subnet["id"])
        address = properties.get("privateIPAddress") or before.get(config["name"])
        if address is None or ipaddress.IPv4Address(address) not in prefix:
            used = set(taken(state, subnet["id"], but_for=resource.id)) | set(given.values())
            address = _lowest_free(prefix, used, subnet["id"])
        given[config["name"]] = address
    resource.assigned["addresses"] = given


def _lowest_free(prefix: ipaddress.IPv4Network, used: set[str], subnet_id: str) -> str:
    for index in range(RESERVED_FIRST, prefix.num_addresses - 1):
        if str(prefix[index]) not in used:
            return str(prefix[index])
    raise ArmError(
        400,
        "SubnetIsFull",
        f"Subnet {subnet_id} with address prefix {prefix} does not have enough capacity for 1 IP addresses.",
    )
