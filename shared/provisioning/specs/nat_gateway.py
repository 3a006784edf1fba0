"""Outbound connectivity of the private subnet: the nodes reach the witness and the control plane through it.

In a region with zones the SKU is StandardV2, which is zone-redundant and needs an address of the same SKU. A Standard
gateway lives in one zone; its loss would cut BOTH nodes from the witness in the very outage the cluster is built for.
"""

from __future__ import annotations

from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.spec import Spec


def nat_sku(plan: ClusterPlan) -> str:
    """Of the gateway and of its address."""
    return "StandardV2" if plan.zones else "Standard"


def nat_gateway(plan: ClusterPlan) -> Spec:
    return Spec(
        ref=plan.nat,
        owner=plan.owner,
        wanted={
            "location": plan.location,
            "tags": plan.all_tags,
            "sku": {"name": nat_sku(plan)},
            "properties": {"idleTimeoutInMinutes": 10, "publicIpAddresses": [{"id": plan.id(plan.nat_ip)}]},
        },
        needs=frozenset({plan.nat_ip}),
        immutable=(("location",), ("sku", "name")),
    )
