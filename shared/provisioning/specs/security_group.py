"""Who may reach a node, port by port; the last rule refuses everything that is not listed.

Azure evaluates a rule after the load balancer's translation, so application rules name the backend port; the source
is the client, because the load balancer keeps it. The explicit deny at the end also takes out Azure's own default
"any port inside the virtual network" (priority 65000): other machines of the network get what the Internet gets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mirror_agent.contract import CONSOLE_PORT, HEARTBEAT_PORT, MIRROR_PORT, PROBE_PORT

from shared.azure.resources import Body
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.spec import Spec

_REMOTE_LOGIN: Final = {"linux": 22, "windows": 3389}

# Priorities: gaps for later rules; application rules from 1000; 4096 is the last one Azure allows.
_PROBE, _PEER, _HANDOVER, _ADMIN, _CONTROL_PLANE, _CONSOLE = 100, 110, 115, 120, 130, 140
_APPLICATION, _DENY = 1000, 4096


def security_group(plan: ClusterPlan) -> Spec:
    return Spec(
        ref=plan.security_group,
        owner=plan.owner,
        wanted={
            "location": plan.location,
            "tags": plan.all_tags,
            "properties": {"securityRules": list(_rules(plan))},
        },
        needs=frozenset({plan.group_ref}),
        immutable=(("location",),),
    )


def _rules(plan: ClusterPlan) -> Iterable[Body]:
    clients = ["Internet"] if plan.frontend == "public" else ["VirtualNetwork"]
    yield _allow("probe", _PROBE, ["AzureLoadBalancer"], plan.subnet, [PROBE_PORT], "health probe of the load balancer")
    # Heartbeats, the mirror, and what another node's console passes on.
    peer_ports = [HEARTBEAT_PORT, CONSOLE_PORT] if plan.farm else [HEARTBEAT_PORT, MIRROR_PORT, CONSOLE_PORT]
    yield _allow("peer", _PEER, [plan.subnet], plan.subnet, peer_ports, "the other node, mutual TLS")
    # For some seconds after a planned swap the old primary passes connections on to the new one.
    relayed = sorted({rule.backend_port for rule in plan.rules if rule.protocol == "tcp"})
    if relayed and not plan.farm:
        yield _allow("handover", _HANDOVER, [plan.subnet], plan.subnet, relayed, "relay of the other node at a swap")
    if plan.admin_addresses:
        ports = [_REMOTE_LOGIN[plan.image.os], CONSOLE_PORT]
        yield _allow("administration", _ADMIN, list(plan.admin_addresses), plan.subnet, ports, "given addresses only")
    if plan.control_plane_addresses:
        yield _allow(
            "control-plane",
            _CONTROL_PLANE,
            list(plan.control_plane_addresses),
            plan.subnet,
            [PROBE_PORT, CONSOLE_PORT],
            "probes of the control plane",
        )
    yield _allow("test-page", _CONSOLE, clients, plan.subnet, [CONSOLE_PORT], "rule 9453 of the virtual IP")
    for offset, rule in enumerate(plan.rules):
        yield _allow(
            f"app-{rule.name}",
            _APPLICATION + offset,
            clients,
            plan.subnet,
            [rule.backend_port],
            f"application rule {rule.name} of the virtual IP",
            protocol=rule.protocol.capitalize(),
        )
    yield _rule("deny-all", _DENY, "Deny", "*", ["*"], "*", ["*"], "everything not listed above")


def _allow(
    name: str,
    priority: int,
    sources: list[str],
    destination: str,
    ports: list[int],
    description: str,
    protocol: str = "Tcp",
) -> Body:
    return _rule(name, priority, "Allow", protocol, sources, destination, [str(port) for port in ports], description)


def _rule(
    name: str,
    priority: int,
    access: str,
    protocol: str,
    sources: list[str],
    destination: str,
    ports: list[str],
    description: str,
) -> Body:
    # ARM has a field for one value and another for several; only one of the two may be set.
    source: Body = {"sourceAddressPrefix": sources[0]} if len(sources) == 1 else {"sourceAddressPrefixes": sources}
    port: Body = {"destinationPortRange": ports[0]} if len(ports) == 1 else {"destinationPortRanges": ports}
    unset: Body = {
        "sourceAddressPrefixes" if len(sources) == 1 else "sourceAddressPrefix": None,
        "destinationPortRanges" if len(ports) == 1 else "destinationPortRange": None,
    }
    return {
        "name": name,
        "properties": {
            "description": description,
            "direction": "Inbound",
            "access": access,
            "priority": priority,
            "protocol": protocol,
            "sourcePortRange": "*",
            "destinationAddressPrefix": destination,
            **source,
            **port,
            **unset,
        },
    }
