"""Outbound connectivity of the private subnet: the nodes reach the witness and the control plane through it.

In a region with zones this is the StandardV2 SKU, which is zone-redundant. A Standard gateway lives in one zone; its
loss would cut BOTH nodes from the witness in exactly the outage the cluster is built for.
"""

from __future__ import annotations

from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.spec import Spec


def nat_gateway(plan: ClusterPlan) -> Spec:
    return Spec(
        ref=plan.nat,
        owner=plan.owner,
        wanted={
            "location": plan.location,
            "tags": plan.all_tags,
            "sku": {"name": "StandardV2" if plan.zones else "Standard"},
            "properties": {"idleTimeoutInMinutes": 10, "publicIpAddresses": [{"id": plan.id(plan.nat_ip)}]},
        },
        needs=frozenset({plan.nat_ip}),
        immutable=(("location",), ("sku", "name")),
    )
