"""A node's data disk: an own resource in the node's zone, so that it outlives the VM when that is replaced.

A zone-redundant disk (ZRS) is in no zone.
The size is fixed for now: growing it needs a step inside the node (partition and file system) as well.
"""

from __future__ import annotations

from mirror_agent.contract import NodeName

from shared.azure.resources import Body
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.spec import Spec


def data_disk(plan: ClusterPlan, node: NodeName) -> Spec:
    wanted: Body = {
        "location": plan.location,
        "tags": plan.all_tags,
        "sku": {"name": plan.data_disk_sku},
        "properties": {
            "creationData": {"createOption": "Empty"},
            "diskSizeGB": plan.data_disk_gb,
            "networkAccessPolicy": "DenyAll",
            "publicNetworkAccess": "Disabled",
        },
    }
    zone = plan.zone(node)
    if zone is not None and not plan.data_disk_sku.endswith("_ZRS"):
        wanted["zones"] = zone
    return Spec(
        ref=plan.data_disk(node),
        owner=plan.owner,
        wanted=wanted,
        needs=frozenset({plan.group_ref}),
        immutable=(("location",), ("zones",), ("sku", "name"), ("properties", "diskSizeGB")),
        create_only=(("properties", "creationData"),),
    )
