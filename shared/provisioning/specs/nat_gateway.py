"""Outbound connectivity of the private subnet: the nodes reach the witness and the control plane through it.

Limit: the Standard SKU lives in one zone. If that very zone fails, the node in the other zone cannot reach the witness
and does not take over until Azure has moved the gateway or the zone is back (nothing is lost; the service is down).
StandardV2 (gateway and address) is zone-redundant and needs only `NAT_SKU` changed, for new clusters: Azure cannot
change the SKU of an existing gateway.
"""

from __future__ import annotations

from typing import Final

from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.spec import Spec

NAT_SKU: Final = "Standard"


def nat_gateway(plan: ClusterPlan) -> Spec:
    return Spec(
        ref=plan.nat,
        owner=plan.owner,
        wanted={
            "location": plan.location,
            "tags": plan.all_tags,
            "sku": {"name": NAT_SKU},
            "properties": {"idleTimeoutInMinutes": 10, "publicIpAddresses": [{"id": plan.id(plan.nat_ip)}]},
        },
        needs=frozenset({plan.nat_ip}),
        immutable=(("location",), ("sku", "name")),
    )
