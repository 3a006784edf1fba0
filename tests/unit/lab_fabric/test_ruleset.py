"""Security groups as packet filter: order, tags, ports, NAT; and the load balancer's configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab.arm.provider import (
    Interface,
    LbBackend,
    LbFrontend,
    LbPool,
    LbProbe,
    LbRule,
    LoadBalancer,
    SecurityGroup,
    SecurityRule,
    Subnet,
)
from lab.fabric.internet import AddressPool, NoAddressLeft
from lab.fabric.ruleset import Cut, Frontend, RuleUnsupported, View, render
from lab.lb.config import BalancerUnsupported, frontends_of, initial_state
from lab.lb.config import render as render_balancer

SUBNET = Subnet("s", "nodes", "10.0.0.0/24", "g", None, (), False)
NIC = Interface("n", "n", "10.0.0.4", "02:00:00:00:00:04", "s", "10.0.0.0/24", "v", ("g",), "198.18.1.20", "vm")


def rule(access: str, source: str, port: str, protocol: str = "Tcp", direction: str = "Inbound") -> SecurityRule:
    return SecurityRule("r", 100, direction, access, protocol, (source,), ("*",), ("*",), (port,))


def view(*rules: SecurityRule, **changes: object) -> View:
    base = View(
        address="198.18.1.2",
        prefixes=("10.0.0.0/16",),
        subnets=(SUBNET,),
        interfaces=(NIC,),
        groups={"g": SecurityGroup("g", "g", rules, {})},
        frontends=(),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def chain(text: str, name: str) -> list[str]:
    body = text.partition(f"chain {name} {{\n")[2].partition("  }")[0]
    return [line.strip() for line in body.splitlines()]


def test_rules_keep_their_order_and_end_with_a_refusal() -> None:
    text = render(
        view(rule("Deny", "Internet", "22"), rule("Allow", "*", "20-30"), rule("Allow", "VirtualNetwork", "*", "*"))
    )
    assert chain(text, "group_0_inbound") == [
        "ip saddr != { 10.0.0.0/16, 168.63.129.16/32 } tcp dport { 22 } drop",
        "tcp dport { 20-30 } return",
        "ip saddr { 10.0.0.0/16, 168.63.129.16/32 } return",
        "drop",
    ]


def test_an_interface_without_group_is_closed_to_the_internet() -> None:
    text = render(view(interfaces=(replace(NIC, security_group_ids=()),)))
    assert chain(text, "in_0") == ["ip saddr != { 10.0.0.0/16, 168.63.129.16/32 } drop"]


@pytest.mark.parametrize(
    ("subnet", "public", "source"),
    [
        (replace(SUBNET, nat_addresses=("198.18.1.30",)), "198.18.1.20", "198.18.1.30"),
        (SUBNET, "198.18.1.20", "198.18.1.20"),
        (replace(SUBNET, default_outbound_access=True), None, "198.18.1.2"),
        (SUBNET, None, None),
    ],
)
def test_outbound_prefers_nat_gateway_then_own_address_then_default(
    subnet: Subnet, public: str | None, source: str | None
) -> None:
    text = render(view(subnets=(subnet,), interfaces=(replace(NIC, public_address=public),)))
    wanted = [] if source is None else [f'oifname "ext" ip saddr 10.0.0.4 snat ip to {source}']
    assert chain(text, "to_public")[1:] == wanted


def test_frontend_asks_the_members_group_for_the_backend_port() -> None:
    front = Frontend("198.18.1.40", 80, 8080, ("10.0.0.4",))
    text = render(view(rule("Allow", "203.0.113.7", "8080"), rule("Allow", "*", "80"), frontends=(front,)))
    assert chain(text, "front_0_0") == ["ip saddr { 203.0.113.7/32 } return", "drop"]
    assert chain(text, "front_0") == ["jump front_0_0", "accept"]
    assert chain(render(view(frontends=(replace(front, backends=()),))), "front_0") == ["drop"]


def test_cuts_come_before_established_flows() -> None:
    text = render(view(cuts=(Cut("10.0.0.4", "198.18.1.1", 443),), isolated=frozenset({"10.0.0.9"})))
    assert chain(text, "cuts") == [
        "ip saddr 10.0.0.9 drop",
        "ip daddr 10.0.0.9 drop",
        "ip saddr 10.0.0.4 ip daddr 198.18.1.1 tcp dport 443 drop",
        "ip saddr 198.18.1.1 ip daddr 10.0.0.4 tcp sport 443 drop",
    ]
    assert chain(text, "passing")[1:3] == ["jump cuts", "ct state established,related accept"]


@pytest.mark.parametrize(
    "bad", [rule("Allow", "AzureCloud", "*"), rule("Allow", "*", "*", "Esp"), rule("Maybe", "*", "*")]
)
def test_what_cannot_be_enforced_is_refused(bad: SecurityRule) -> None:
    with pytest.raises(RuleUnsupported, match="security rule 'r'"):
        render(view(bad))


def test_addresses_stay_with_their_owner() -> None:
    pool = AddressPool(7, range(16, 18))
    assert (pool.allocate("A"), pool.allocate("b"), pool.allocate("a")) == ("198.18.7.16", "198.18.7.17", "198.18.7.16")
    with pytest.raises(NoAddressLeft):
        pool.allocate("c")
    pool.release("a")
    assert pool.allocate("c") == "198.18.7.16"


def balancer(**changes: object) -> LoadBalancer:
    members = (LbBackend("n1", "/x/demo-a", "10.0.0.4"), LbBackend("n2", None, "10.0.0.5"))
    base = LoadBalancer(
        id="lb",
        name="lb",
        location="w",
        vnet_id="v",
        frontends=(LbFrontend("F", "front", "198.18.1.40", True, None),),
        pools=(LbPool("P", "pool", members),),
        probes=(LbProbe("H", "health", "Http", 9010, "/ready", 5, 2),),
        rules=(LbRule("web", "Tcp", "f", 80, 8080, ("p",), "h", False, 4, True, "Default"),),
        body={},
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_balancer_probes_once_and_tracks() -> None:
    text = render_balancer(balancer(), admin_socket=Path("a"), state_file=Path("s"))
    assert "server demo-a 10.0.0.4:9010 check port 9010 inter 5s rise 2 fall 2" in text
    assert "server demo-a 10.0.0.4:8080 track probe.health/demo-a" in text
    assert "10.0.0.5" not in text, "a member without a VM gets nothing"
    assert "bind 198.18.1.40:80" in text
    assert frontends_of(balancer()) == (Frontend("198.18.1.40", 80, 8080, ("10.0.0.4",)),)


def test_new_members_are_down_and_known_ones_keep_their_health() -> None:
    fresh = initial_state(balancer(), "")
    assert " demo-a 10.0.0.4 0 0 " in fresh
    known = "1\n# be_id\n4 probe.health 1 demo-a 10.0.0.4 2 0 1 1 99 6 3 4 6 0 0 0 - 9010 - 0 0 - - 0\n"
    assert "demo-a 10.0.0.4 2 0 1 1 99" in initial_state(balancer(), known)


@pytest.mark.parametrize("change", [{"protocol": "Udp"}, {"floating_ip": True}])
def test_balancer_refuses_what_it_cannot_be(change: dict[str, object]) -> None:
    rules = (replace(balancer().rules[0], **change),)  # type: ignore[arg-type]
    with pytest.raises(BalancerUnsupported, match="rule 'web'"):
        render_balancer(balancer(rules=rules), admin_socket=Path("a"), state_file=Path("s"))
