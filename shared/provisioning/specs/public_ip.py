"""Public addresses: the virtual IP, the NAT gateway's, and one per node.

Standard SKU, static. The virtual IP spans all three zones, so that it survives the loss of any; a node's address lives
and dies in the node's zone. The NAT gateway's address has the SKU of its gateway (see `nat_gateway`); StandardV2
spans the zones by itself and takes no list of them.
"""

from __future__ import annotations

from mirror_agent.contract import NodeName

from shared.azure.resources import Body, ResourceRef
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.nat_gateway import nat_sku
from shared.provisioning.specs.spec import Spec

ALL_ZONES = ("1", "2", "3")


def virtual_ip(plan: ClusterPlan) -> Spec:
    return _public_ip(plan, plan.vip, zones=list(ALL_ZONES) if plan.zones else None, dns_label=plan.dns_label)


def nat_ip(plan: ClusterPlan) -> Spec:
    return _public_ip(plan, plan.nat_ip, zones=None, sku=nat_sku(plan))


def node_ip(plan: ClusterPlan, node: NodeName) -> Spec:
    return _public_ip(plan, plan.node_ip(node), zones=plan.zone(node))


def _public_ip(
    plan: ClusterPlan, ref: ResourceRef, *, zones: list[str] | None, dns_label: str | None = None, sku: str = "Standard"
) -> Spec:
    properties: Body = {
        "publicIPAllocationMethod": "Static",
        "publicIPAddressVersion": "IPv4",
        "idleTimeoutInMinutes": 4,
        "dnsSettings": None if dns_label is None else {"domainNameLabel": dns_label},
    }
    wanted: Body = {
        "location": plan.location,
        "tags": plan.all_tags,
        "sku": {"name": sku, "tier": "Regional"},
        "properties": properties,
    }
    if zones is not None:
        wanted["zones"] = zones
    return Spec(
        ref=ref,
        owner=plan.owner,
        wanted=wanted,
        needs=frozenset({plan.group_ref}),
        immutable=(("location",), ("sku", "name"), ("zones",)),
    )
