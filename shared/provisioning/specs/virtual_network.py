"""The virtual network with one private subnet: NSG and NAT gateway attached, no default outbound access.

`defaultOutboundAccess: false` is written out because its default depends on the api-version (private since versions
after 2026-03-31). Subnets somebody else adds to the network (a bastion, a client) are kept.
"""

from __future__ import annotations

from shared.provisioning.plan import SUBNET_NAME, ClusterPlan
from shared.provisioning.specs.spec import Spec


def virtual_network(plan: ClusterPlan) -> Spec:
    return Spec(
        ref=plan.vnet,
        owner=plan.owner,
        wanted={
            "location": plan.location,
            "tags": plan.all_tags,
            "properties": {
                "addressSpace": {"addressPrefixes": [plan.address_space]},
                "subnets": [
                    {
                        "name": SUBNET_NAME,
                        "properties": {
                            "addressPrefix": plan.subnet,
                            "defaultOutboundAccess": False,
                            "networkSecurityGroup": {"id": plan.id(plan.security_group)},
                            "natGateway": {"id": plan.id(plan.nat)},
                        },
                    }
                ],
            },
        },
        needs=frozenset({plan.security_group, plan.nat}),
        keep_foreign=frozenset({("properties", "subnets")}),
        immutable=(("location",), ("properties", "addressSpace")),
    )
