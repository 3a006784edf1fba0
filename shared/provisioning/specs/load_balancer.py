"""The virtual IP: a Standard load balancer with one frontend, all NICs in one pool, one probe for every rule.

The probe decides where new connections go; it never fences (established flows survive probe-down), which is why a
demoted node resets its own connections. `probeThreshold` is sent explicitly: it counts both ways (N failures down, N
successes up), and the legacy `numberOfProbes` is not relied upon. `disableOutboundSnat` leaves egress to the NAT
gateway; floating IP stays off because it cannot be changed later and the nodes do not own the virtual address.
Children are matched by name and ARM replaces child lists wholesale, so an update is the existing body merged, sent
with If-Match.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mirror_agent.contract import CONSOLE_PORT, PROBE_PATH, PROBE_PORT

from shared.azure.resources import Body
from shared.provisioning.plan import ClusterPlan, ForwardingRule
from shared.provisioning.specs.public_ip import ALL_ZONES
from shared.provisioning.specs.spec import Spec

FRONTEND: Final = "virtual-ip"
POOL: Final = "nodes"
PROBE: Final = "ready"
CONSOLE_RULE: Final = ForwardingRule("console", "tcp", CONSOLE_PORT, CONSOLE_PORT)

# The longest Azure allows. An idle database session should not be cut; TCP reset tells the client when it is.
_IDLE_TIMEOUT_MIN: Final = 30


def backend_pool_id(plan: ClusterPlan) -> str:
    return f"{plan.id(plan.load_balancer)}/backendAddressPools/{POOL}"


def load_balancer(plan: ClusterPlan) -> Spec:
    return Spec(
        ref=plan.load_balancer,
        owner=plan.owner,
        wanted={
            "location": plan.location,
            "tags": plan.all_tags,
            "sku": {"name": "Standard", "tier": "Regional"},
            "properties": {
                "frontendIPConfigurations": [_frontend(plan)],
                "backendAddressPools": [{"name": POOL}],
                "probes": [_probe(plan)],
                "loadBalancingRules": list(_rules(plan)),
            },
        },
        needs=frozenset({plan.vip if plan.frontend == "public" else plan.vnet}),
        immutable=(("location",), ("sku", "name")),
    )


def _frontend(plan: ClusterPlan) -> Body:
    if plan.frontend == "public":
        return {"name": FRONTEND, "properties": {"publicIPAddress": {"id": plan.id(plan.vip)}}}
    frontend: Body = {
        "name": FRONTEND,
        "properties": {
            "subnet": {"id": plan.subnet_id},
            "privateIPAddress": plan.private_vip,
            "privateIPAllocationMethod": "Static",
        },
    }
    if plan.zones:
        frontend["zones"] = list(ALL_ZONES)
    return frontend


def _probe(plan: ClusterPlan) -> Body:
    return {
        "name": PROBE,
        "properties": {
            "protocol": "Http",
            "port": PROBE_PORT,
            "requestPath": PROBE_PATH,
            "intervalInSeconds": plan.probe_interval_s,
            "probeThreshold": plan.probe_threshold,
            "noHealthyBackendsBehavior": "AllProbedDown",
        },
    }


def _rules(plan: ClusterPlan) -> Iterable[Body]:
    base = plan.id(plan.load_balancer)
    for rule in (CONSOLE_RULE, *plan.rules):
        yield {
            "name": rule.name,
            "properties": {
                "frontendIPConfiguration": {"id": f"{base}/frontendIPConfigurations/{FRONTEND}"},
                "backendAddressPool": {"id": backend_pool_id(plan)},
                "probe": {"id": f"{base}/probes/{PROBE}"},
                "protocol": rule.protocol.capitalize(),
                "frontendPort": rule.frontend_port,
                "backendPort": rule.backend_port,
                "loadDistribution": "Default",
                "idleTimeoutInMinutes": _IDLE_TIMEOUT_MIN if rule.protocol == "tcp" else 4,
                "enableFloatingIP": False,
                "enableTcpReset": rule.protocol == "tcp",
                "disableOutboundSnat": True,
            },
        }
