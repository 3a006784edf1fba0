"""The network part of a cluster's spec: address ranges, virtual IP, rules, and the way of the nodes to the outside.

Either a virtual network of the cluster's own (`addressSpace`, `subnet`), or a subnet that somebody else keeps
(`subnetId`; then `subnet` is the range it has, and `addressSpace` means nothing). Node addresses are static in both:
the first ones Azure leaves, or those that `nodeAddresses` names.
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from mirror_agent.contract import ALL_NODES, CONSOLE_PORT, HEARTBEAT_PORT, MIRROR_PORT, PROBE_PORT, NodeName, Port
from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from shared.model.brought import subnet_id
from shared.model.document import ApiModel, FieldError, is_stored

MAX_RULES: Final = 32
MAX_ADMIN_RANGES: Final = 16
MAX_NO_PROXY: Final = 32
SMALLEST_SUBNET_PREFIX: Final = 29  # Azure keeps five addresses of a subnet; /29 leaves three
RESERVED_PORTS: Final = {
    PROBE_PORT: "load-balancer probe",
    CONSOLE_PORT: "node console",
    HEARTBEAT_PORT: "heartbeats between the nodes",
    MIRROR_PORT: "replication between the nodes",
}
CONSOLE_RULE: Final = "console"
# Address ranges Azure does not allow in a virtual network.
_FORBIDDEN_RANGES: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in ("224.0.0.0/4", "255.255.255.255/32", "127.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32", "0.0.0.0/8")
)
# Azure keeps the first four addresses and the last one of a subnet (network, gateway, two of DNS, broadcast).
_FIRST_USABLE: Final = 4
_HOST: Final = re.compile(r"[A-Za-z0-9*.][A-Za-z0-9.:-]{0,252}")


def parse_range(text: str) -> ipaddress.IPv4Network:
    """An IPv4 range in CIDR form. Raises ValueError that shows the corrected form where there is one."""
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length; write for example '10.0.0.0/16', or /32 for one address")
    try:
        return ipaddress.IPv4Network(text)
    except ValueError:
        pass
    try:
        loose = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no IPv4 address range; write for example '10.0.0.0/16'") from None
    raise ValueError(f"{text!r} has host bits set; did you mean {str(loose)!r}?")


class Protocol(StrEnum):
    TCP = "tcp"
    UDP = "udp"


class Rule(ApiModel):
    """A port of the virtual IP that is forwarded to the node where the application runs."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    protocol: Protocol = Protocol.TCP
    frontend_port: Port
    backend_port: Port

    @model_validator(mode="after")
    def _not_ours(self) -> Self:
        if self.name == CONSOLE_RULE:
            raise FieldError(
                "name", f"the rule name {CONSOLE_RULE!r} is taken by the node console; choose another name"
            )
        for field, port in (("frontendPort", self.frontend_port), ("backendPort", self.backend_port)):
            if port in RESERVED_PORTS:
                reserved = ", ".join(str(number) for number in sorted(RESERVED_PORTS))
                raise FieldError(
                    field,
                    f"rule {self.name!r}: port {port} is reserved for the {RESERVED_PORTS[port]} "
                    f"(reserved: {reserved}); choose another port",
                )
        return self


def check_url(text: str, schemes: tuple[str, ...]) -> str:
    """`text` without a trailing slash: scheme, host and port only. Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in schemes or not parts.hostname or parts.username is not None:
        raise ValueError(f"{text!r} is no {' or '.join(schemes)} address; write {schemes[0]}://host or ://host:port")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{text!r} names more than a host and a port; write {parts.scheme}://{parts.netloc}")
    return text.rstrip("/")


class Proxy(ApiModel):
    """The HTTP proxy through which the nodes reach packages, the control plane and the witness. No credentials."""

    url: Annotated[str, StringConstraints(max_length=256)]
    no_proxy: Annotated[tuple[str, ...], Field(max_length=MAX_NO_PROXY)] = ()
    """Hosts reached directly, besides the nodes themselves, the instance metadata and the platform address."""

    @field_validator("url")
    @classmethod
    def _plain(cls, value: str) -> str:
        return check_url(value, ("http", "https"))

    @field_validator("no_proxy")
    @classmethod
    def _hosts(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if not _HOST.fullmatch(value):
                raise ValueError(f"{value!r} is no host; write 'host.example.org' or '.example.org', without a scheme")
        return values


class Frontend(StrEnum):
    PUBLIC = "public"
    PRIVATE = "private"


class Network(ApiModel):
    """The virtual network, the virtual IP and who may reach what."""

    address_space: str = "10.0.0.0/16"
    subnet: str = "10.0.0.0/24"
    frontend: Frontend = Frontend.PUBLIC
    admin_addresses: Annotated[tuple[str, ...], Field(max_length=MAX_ADMIN_RANGES)] = ()
    dns_label: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,61}[a-z0-9]$")] | None = None
    rules: Annotated[tuple[Rule, ...], Field(max_length=MAX_RULES)] = ()
    subnet_id: Annotated[str, StringConstraints(max_length=512)] | None = None
    node_addresses: dict[NodeName, str] = Field(default_factory=dict)
    private_address: str | None = None
    """The virtual IP of a private frontend; the address after the last node's if not given."""
    node_public_addresses: bool = True
    """False: the nodes are reached from inside only, and reach the outside through NAT gateway or proxy."""
    control_plane_url: Annotated[str, StringConstraints(max_length=256)] | None = None
    """Where the nodes find the control plane, e.g. at a private endpoint; its public address if not given."""
    proxy: Proxy | None = None

    @field_validator("address_space", "subnet")
    @classmethod
    def _allowed_range(cls, value: str, info: ValidationInfo) -> str:
        if is_stored(info):  # an audit reads the records of a whole fleet; this is a fifth of its work
            return value
        network = parse_range(value)
        for forbidden in _FORBIDDEN_RANGES:
            if network.overlaps(forbidden):
                raise ValueError(f"{value!r} overlaps {forbidden}, which Azure does not allow; use a private range")
        return str(network)

    @field_validator("admin_addresses")
    @classmethod
    def _bounded(cls, values: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for value in () if is_stored(info) else values:
            if parse_range(value).prefixlen == 0:
                raise ValueError(f"{value!r} opens administration to the whole Internet; name your own ranges")
        return values

    @field_validator("subnet_id")
    @classmethod
    def _a_subnet(cls, value: str | None) -> str | None:
        return None if value is None else subnet_id(value).id

    @field_validator("control_plane_url")
    @classmethod
    def _secure(cls, value: str | None) -> str | None:
        return None if value is None else check_url(value, ("https",))

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        if is_stored(info):
            return self
        space, subnet = parse_range(self.address_space), parse_range(self.subnet)
        if self.subnet_id is None and not subnet.subnet_of(space):
            raise FieldError("subnet", f"subnet {subnet} lies outside addressSpace {space}; choose a part of it")
        if subnet.prefixlen > SMALLEST_SUBNET_PREFIX:
            raise FieldError("subnet", f"subnet {subnet} is too small; Azure needs /{SMALLEST_SUBNET_PREFIX} or larger")
        if space.prefixlen < 8:
            raise FieldError("addressSpace", f"addressSpace {space} is too large; /8 is the largest")
        if self.dns_label is not None and self.frontend is Frontend.PRIVATE:
            raise FieldError("dnsLabel", "dnsLabel needs a public frontend; remove it or set frontend to 'public'")
        if self.private_address is not None and self.frontend is Frontend.PUBLIC:
            raise FieldError("privateAddress", "privateAddress needs a private frontend; remove it, or set frontend")
        for node, text in self.node_addresses.items():
            _check_address(f"nodeAddresses.{node}", text, subnet)
        if self.private_address is not None:
            _check_address("privateAddress", self.private_address, subnet)
        self._no_duplicates()
        return self

    def _no_duplicates(self) -> None:
        names: set[str] = set()
        frontends: dict[tuple[Protocol, int], str] = {}
        backends: dict[tuple[Protocol, int], str] = {}
        for rule in self.rules:
            if rule.name in names:
                raise FieldError("rules", f"two rules are named {rule.name!r}; rule names must differ")
            names.add(rule.name)
            for word, port, seen in (
                ("frontendPort", rule.frontend_port, frontends),
                ("backendPort", rule.backend_port, backends),  # the load balancer refuses a pool port used twice
            ):
                other = seen.setdefault((rule.protocol, port), rule.name)
                if other != rule.name:
                    raise FieldError(
                        "rules",
                        f"rules {other!r} and {rule.name!r} both use {word} {port}/{rule.protocol.value}; "
                        "a port can have one rule",
                    )


def node_address(network: Network, node: NodeName) -> str:
    """The static private address of a node: the named one, or .4 of the subnet for a, .5 for b, and so on."""
    return network.node_addresses.get(node) or _usable(network, ALL_NODES.index(node))


def virtual_address(network: Network, nodes: tuple[NodeName, ...]) -> str:
    """The virtual IP of a private frontend."""
    return network.private_address or _usable(network, len(nodes))


def _usable(network: Network, index: int) -> str:
    return str(parse_range(network.subnet).network_address + _FIRST_USABLE + index)


def check_addresses(network: Network, nodes: tuple[NodeName, ...]) -> None:
    """FieldError unless every node of the cluster, and the virtual IP, has an address of its own that Azure gives."""
    if network.node_addresses and network.node_addresses.keys() != set(nodes):
        raise FieldError("network.nodeAddresses", f"give an address for each node: {', '.join(nodes)}")
    addresses = {f"node {node}": node_address(network, node) for node in nodes}
    if network.frontend is Frontend.PRIVATE:
        addresses["the virtual IP"] = virtual_address(network, nodes)
    subnet, taken = parse_range(network.subnet), dict[str, str]()
    for word, address in addresses.items():
        if ipaddress.IPv4Address(address) >= subnet[-1]:
            raise FieldError("network.subnet", f"subnet {subnet} has no address left for {word}; choose a larger one")
        other = taken.setdefault(address, word)
        if other != word:
            target = "privateAddress" if network.private_address is not None else "nodeAddresses"
            raise FieldError(
                f"network.{target}", f"{other} and {word} both have the address {address}; choose another one"
            )


def _check_address(target: str, text: str, subnet: ipaddress.IPv4Network) -> None:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise FieldError(
            target, f"{text!r} is no IPv4 address; write for example {str(subnet[_FIRST_USABLE])!r}"
        ) from None
    if address not in subnet:
        raise FieldError(target, f"{text} lies outside of subnet {subnet}; choose an address in it")
    if address < subnet[_FIRST_USABLE] or address == subnet[-1]:
        raise FieldError(target, f"{text} is kept by Azure; {subnet[_FIRST_USABLE]} is the first usable address")
