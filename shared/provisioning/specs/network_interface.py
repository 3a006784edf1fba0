"""A node's network interface: a static private address, a public one for administration, member of the pool.

In a subnet that somebody else keeps, the security group is attached here: that subnet is not ours to change. A group
on the subnet then counts as well (Azure asks both), so its keeper has to let the same ports in.
"""

from __future__ import annotations

from mirror_agent.contract import NodeName

from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.load_balancer import backend_pool_id
from shared.provisioning.specs.spec import Spec


def network_interface(plan: ClusterPlan, node: NodeName) -> Spec:
    brought, public = plan.brought_subnet is not None, plan.node_public_addresses
    needs = {plan.vnet, plan.load_balancer}
    if brought:
        needs.add(plan.security_group)
    if public:
        needs.add(plan.node_ip(node))
    return Spec(
        ref=plan.nic(node),
        owner=plan.owner,
        wanted={
            "location": plan.location,
            "tags": plan.all_tags,
            "properties": {
                # Left unsaid otherwise: one that somebody attached to the interface is no business of ours.
                **({"networkSecurityGroup": {"id": plan.id(plan.security_group)}} if brought else {}),
                "ipConfigurations": [
                    {
                        "name": "primary",
                        "properties": {
                            "primary": True,
                            "privateIPAddress": plan.private_address(node),
                            "privateIPAllocationMethod": "Static",
                            "privateIPAddressVersion": "IPv4",
                            "subnet": {"id": plan.subnet_id},
                            "publicIPAddress": {"id": plan.id(plan.node_ip(node))} if public else None,
                            "loadBalancerBackendAddressPools": [{"id": backend_pool_id(plan)}],
                        },
                    }
                ],
            },
        },
        needs=frozenset(needs),
        immutable=(("location",),),
    )
