"""What a virtual network lets pass, as one nftables ruleset: security groups, NAT, partitions. Pure text out of values.

Every packet between VMs, from the Internet and from the load balancer crosses the router, so one table decides:

1. partitions and frozen VMs drop before anything else, established or not;
2. established flows pass (security groups are stateful);
3. the outbound groups of the sender, then the inbound groups of the receiver, rule by rule in priority order.

Semantics follow Azure: with two groups (subnet and interface) both must allow; an interface without any group accepts
the virtual network and the load balancer's probes, not the Internet (Standard addresses are closed by default). The
load balancer keeps the client's address, so a group sees clients; probes come from 168.63.129.16, the tag
AzureLoadBalancer. Outbound goes through the NAT gateway, else the instance's public address, else the default outbound
address if the subnet has one, else nowhere. Limits: IPv4; service tags VirtualNetwork, AzureLoadBalancer, Internet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from typing import Final

from lab.arm.provider import Interface, SecurityGroup, SecurityRule, Subnet

PROBE_SOURCE: Final = "168.63.129.16"
METADATA: Final = "169.254.169.254"
TABLE: Final = "mirrorplane"
EXTERNAL: Final = "ext"
TRANSPARENT_MARK: Final = 1
ESTABLISHED: Final = "ct state established,related accept"
# HAProxy speaks to the VMs with the client's address; their answers must come to it, not be routed to the client.
REPLIES_TO_THE_PROXY: Final = f"socket transparent 1 meta mark set {TRANSPARENT_MARK}"
PROTOCOLS: Final = {"tcp": "tcp", "udp": "udp", "icmp": "icmp", "*": ""}


class RuleUnsupported(ValueError):
    """A security rule the lab cannot enforce; naming it beats ignoring it."""


@dataclass(frozen=True, slots=True)
class Frontend:
    """One load-balancing rule as the packet filter sees it."""

    address: str
    port: int
    backend_port: int
    backends: tuple[str, ...]  # private addresses


@dataclass(frozen=True, slots=True)
class Cut:
    """Packets between `one` and `other` (host or network) vanish, both ways; `port`: only that TCP port of `other`."""

    one: str
    other: str
    port: int | None = None


@dataclass(frozen=True, slots=True)
class View:
    """All a router knows when it draws up its rules."""

    address: str  # the router's own, source of default outbound traffic
    prefixes: tuple[str, ...]
    subnets: tuple[Subnet, ...]
    interfaces: tuple[Interface, ...]
    groups: Mapping[str, SecurityGroup]  # by lower-case id
    frontends: tuple[Frontend, ...]
    cuts: tuple[Cut, ...] = ()
    isolated: frozenset[str] = frozenset()


def render(view: View) -> str:
    """The ruleset; loading it replaces the one before in one transaction. Raises `RuleUnsupported`."""
    used = {group for interface in view.interfaces for group in _groups_of(view, interface)}
    chains: list[str] = []
    for group_id in sorted(used):
        for direction in ("Inbound", "Outbound"):
            chains.append(_chain(_group_chain(view, group_id, direction), _group_rules(view, group_id, direction)))
    for number, interface in enumerate(view.interfaces):
        chains.append(_chain(f"in_{number}", _interface_rules(view, interface, "Inbound")))
        chains.append(_chain(f"out_{number}", _interface_rules(view, interface, "Outbound")))
    for number, frontend in enumerate(view.frontends):
        chains += _frontend_chains(view, number, frontend)
    chains += [
        _chain("cuts", list(_cut_rules(view))),
        _chain("to_vm", _dispatch(view, "daddr", "in")),
        _chain("from_vm", _dispatch(view, "saddr", "out")),
        _chain("transparent", _hook("filter", "prerouting", "mangle", [REPLIES_TO_THE_PROXY])),
        _chain("passing", _hook("filter", "forward", "filter", _passing(view), "drop")),
        _chain("arriving", _hook("filter", "input", "filter", _arriving(view))),
        _chain("leaving", _hook("filter", "output", "filter", ["jump cuts", ESTABLISHED, "jump to_vm"])),
        _chain("to_private", _hook("nat", "prerouting", "dstnat", _to_private(view))),
        _chain("to_public", _hook("nat", "postrouting", "srcnat", _to_public(view))),
    ]
    body = "\n".join(chains)
    return f"table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{body}\n}}\n"


def _chain(name: str, rules: Sequence[str]) -> str:
    return f"  chain {name} {{\n" + "".join(f"    {rule}\n" for rule in rules) + "  }"


def _hook(kind: str, hook: str, priority: str, rules: Sequence[str], policy: str = "accept") -> list[str]:
    return [f"type {kind} hook {hook} priority {priority}; policy {policy};", *rules]


# --- hooks ---------------------------------------------------------------------------------------------------------
def _passing(view: View) -> list[str]:
    return [
        "jump cuts",
        ESTABLISHED,
        f'iifname "{EXTERNAL}" ct status dnat jump to_vm',
        f'iifname "{EXTERNAL}" ct status dnat accept',
        f'iifname "{EXTERNAL}" drop',
        "jump from_vm",
        *(f'oifname "{EXTERNAL}" ip saddr {address} accept' for address in sorted(_outbound(view))),
        f'oifname "{EXTERNAL}" drop',
        "jump to_vm",
        "accept",
    ]


def _arriving(view: View) -> list[str]:
    dispatch = [
        f"ip daddr {frontend.address} tcp dport {frontend.port} jump front_{number}"
        for number, frontend in enumerate(view.frontends)
    ]
    return [
        "jump cuts",
        ESTABLISHED,
        *dispatch,
        f"ip daddr {METADATA} tcp dport 80 accept",
        "meta l4proto icmp accept",
        'iifname "lo" accept',
        "drop",
    ]


def _to_private(view: View) -> list[str]:
    pairs = [(item.public_address, item.private_address) for item in view.interfaces if item.public_address]
    return [f"ip daddr {public} dnat ip to {private}" for public, private in pairs]


def _to_public(view: View) -> list[str]:
    pairs = sorted(_outbound(view).items())
    return [f'oifname "{EXTERNAL}" ip saddr {private} snat ip to {public}' for private, public in pairs]


def _outbound(view: View) -> dict[str, str]:
    """Private address → the source its outbound traffic gets; absent when there is no way out."""
    subnets = {subnet.id.lower(): subnet for subnet in view.subnets}
    result: dict[str, str] = {}
    for interface in view.interfaces:
        subnet = subnets.get(interface.subnet_id.lower())
        if subnet is not None and subnet.nat_addresses:
            result[interface.private_address] = subnet.nat_addresses[0]
        elif interface.public_address:
            result[interface.private_address] = interface.public_address
        elif subnet is not None and subnet.default_outbound_access:
            result[interface.private_address] = view.address
    return result


# --- partitions ----------------------------------------------------------------------------------------------------
def _cut_rules(view: View) -> Iterator[str]:
    for address in sorted(view.isolated):
        yield f"ip saddr {address} drop"
        yield f"ip daddr {address} drop"
    for cut in view.cuts:
        to_port = "" if cut.port is None else f" tcp dport {cut.port}"
        from_port = "" if cut.port is None else f" tcp sport {cut.port}"
        yield f"ip saddr {cut.one} ip daddr {cut.other}{to_port} drop"
        yield f"ip saddr {cut.other} ip daddr {cut.one}{from_port} drop"


# --- security groups -----------------------------------------------------------------------------------------------
def _dispatch(view: View, side: str, chain: str) -> list[str]:
    return [f"ip {side} {item.private_address} jump {chain}_{number}" for number, item in enumerate(view.interfaces)]


def _groups_of(view: View, interface: Interface) -> tuple[str, ...]:
    return tuple(dict.fromkeys(g.lower() for g in interface.security_group_ids if g.lower() in view.groups))


def _group_chain(view: View, group_id: str, direction: str) -> str:
    return f"group_{sorted(view.groups).index(group_id)}_{direction.lower()}"


def _interface_rules(view: View, interface: Interface, direction: str) -> list[str]:
    groups = _groups_of(view, interface)
    if groups:
        return [f"jump {_group_chain(view, group, direction)}" for group in groups]
    if direction == "Outbound":
        return ["return"]
    return [f"ip saddr != {_set((*view.prefixes, PROBE_SOURCE))} drop"]


def _group_rules(view: View, group_id: str, direction: str) -> list[str]:
    rules = [rule for rule in view.groups[group_id].rules if rule.direction == direction]
    lines = [line for rule in rules for line in _rule(view, rule)]
    return [*lines, "drop"]


def _rule(view: View, rule: SecurityRule) -> Iterator[str]:
    verdict = _verdict(rule)
    protocol = _protocol(rule)
    ports = _ports(rule, protocol, "sport", rule.source_ports) + _ports(rule, protocol, "dport", rule.destination_ports)
    match = ports or ([f"meta l4proto {protocol}"] if protocol else [])
    for source in _places(view, rule, "saddr", rule.source_prefixes):
        for destination in _places(view, rule, "daddr", rule.destination_prefixes):
            yield " ".join([*filter(None, (source, destination)), *match, verdict])


def _frontend_chains(view: View, number: int, frontend: Frontend) -> Iterator[str]:
    """The members' inbound groups, asked for the backend port before HAProxy answers the client's first packet.

    Members of one pool are in one subnet and share its group; with different groups the first one's decide here, and
    each one's own again when the flow is passed on.
    """
    members = [item for item in view.interfaces if item.private_address in frontend.backends]
    if not members:
        yield _chain(f"front_{number}", ["drop"])  # a rule without a backend forwards nothing
        return
    groups = _groups_of(view, members[0])
    names = [f"front_{number}_{index}" for index, _ in enumerate(groups)]
    for name, group in zip(names, groups, strict=True):
        yield _chain(name, [*_frontend_rules(view, group, frontend, members[0]), "drop"])
    own = [f"jump {name}" for name in names] or [f"ip saddr != {_set(view.prefixes)} drop"]
    yield _chain(f"front_{number}", [*own, "accept"])


def _frontend_rules(view: View, group: str, frontend: Frontend, member: Interface) -> Iterator[str]:
    for rule in view.groups[group].rules:
        if rule.direction != "Inbound" or _protocol(rule) not in ("", "tcp"):
            continue
        if not _includes_port(rule.destination_ports, frontend.backend_port):
            continue
        if _includes_address(rule, member.private_address):
            for source in _places(view, rule, "saddr", rule.source_prefixes):
                yield " ".join([*filter(None, (source,)), _verdict(rule)])


def _verdict(rule: SecurityRule) -> str:
    match rule.access:
        case "Allow":
            return "return"
        case "Deny":
            return "drop"
        case other:
            raise RuleUnsupported(f"security rule {rule.name!r}: access {other!r} is neither Allow nor Deny")


def _protocol(rule: SecurityRule) -> str:
    try:
        return PROTOCOLS[rule.protocol.lower()]
    except KeyError:
        raise RuleUnsupported(
            f"security rule {rule.name!r}: protocol {rule.protocol!r} is not enforced by the lab"
        ) from None


def _ports(rule: SecurityRule, protocol: str, side: str, ports: Sequence[str]) -> list[str]:
    if not ports or "*" in ports or protocol == "icmp":
        return []
    transport = protocol or "meta l4proto { tcp, udp } th"
    return [f"{transport} {side} {_set(ports)}"]


def _places(view: View, rule: SecurityRule, side: str, prefixes: Sequence[str]) -> list[str]:
    """Alternatives of one side; "" matches everything."""
    plain: list[str] = []
    alternatives: list[str] = []
    for prefix in prefixes or ("*",):
        match prefix.lower():
            case "*" | "any" | "0.0.0.0/0":
                return [""]
            case "virtualnetwork":
                plain += [*view.prefixes, PROBE_SOURCE]
            case "azureloadbalancer":
                plain.append(PROBE_SOURCE)
            case "internet":
                alternatives.append(f"ip {side} != {_set((*view.prefixes, PROBE_SOURCE))}")
            case _:
                plain.append(_network(rule, prefix))
    if plain:
        alternatives.append(f"ip {side} {_set(plain)}")
    return alternatives


def _network(rule: SecurityRule, prefix: str) -> str:
    try:
        return str(ip_network(prefix, strict=False))
    except ValueError:
        raise RuleUnsupported(
            f"security rule {rule.name!r}: {prefix!r} is neither an address nor one of the tags the lab knows "
            "(VirtualNetwork, AzureLoadBalancer, Internet)"
        ) from None


def _includes_port(ports: Sequence[str], port: int) -> bool:
    for text in ports or ("*",):
        low, _, high = text.partition("-")
        if text == "*" or int(low) <= port <= int(high or low):
            return True
    return False


def _includes_address(rule: SecurityRule, address: str) -> bool:
    for prefix in rule.destination_prefixes or ("*",):
        if prefix.lower() in {"*", "any", "virtualnetwork"}:
            return True
        if prefix.lower() in {"internet", "azureloadbalancer"}:
            continue
        if IPv4Address(address) in ip_network(_network(rule, prefix)):
            return True
    return False


def _set(members: Sequence[str]) -> str:
    """An anonymous set without overlaps (nft refuses those)."""
    if any("/" in item or "." in item for item in members):
        networks = sorted({ip_network(item, strict=False) for item in members}, key=lambda n: (n.prefixlen, n))
        kept = [n for i, n in enumerate(networks) if not any(n.subnet_of(o) for o in networks[:i])]  # type: ignore[arg-type]
        return "{ " + ", ".join(map(str, sorted(kept, key=str))) + " }"
    ranges = sorted((int(a), int(b or a)) for a, _, b in (item.partition("-") for item in members))
    merged: list[tuple[int, int]] = []
    for low, high in ranges:
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return "{ " + ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in merged) + " }"
