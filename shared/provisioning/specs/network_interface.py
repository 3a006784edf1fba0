"""A node's network interface: a static private address, a public one for administration, member of the pool."""

from __future__ import annotations

from mirror_agent.contract import NodeName

from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.load_balancer import backend_pool_id
from shared.provisioning.specs.spec import Spec


def network_interface(plan: ClusterPlan, node: NodeName) -> Spec:
    return Spec(
        ref=plan.nic(node),
        owner=plan.owner,
        wanted={
            "location": plan.location,
            "tags": plan.all_tags,
            "properties": {
                "ipConfigurations": [
                    {
                        "name": "primary",
                        "properties": {
                            "primary": True,
                            "privateIPAddress": plan.private_address(node),
                            "privateIPAllocationMethod": "Static",
                            "privateIPAddressVersion": "IPv4",
                            "subnet": {"id": plan.subnet_id},
                            "publicIPAddress": {"id": plan.id(plan.node_ip(node))},
                            "loadBalancerBackendAddressPools": [{"id": backend_pool_id(plan)}],
                        },
                    }
                ],
            },
        },
        needs=frozenset({plan.vnet, plan.load_balancer, plan.node_ip(node)}),
        immutable=(("location",),),
    )
