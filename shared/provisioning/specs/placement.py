"""How close the VMs stand to each other: an availability set keeps them apart, a proximity placement group together.

Both are sensible at once: different racks (fault domains) of one data centre. They have no state of their own, and
ARM answers their writes at once.
"""

from __future__ import annotations

from typing import Final

from shared.azure.resources import Body, ResourceRef
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.spec import Spec

# Two fault domains are offered in every region (three only in some); update domains keep planned work apart.
_FAULT_DOMAINS: Final = 2
_UPDATE_DOMAINS: Final = 5


def availability_set(plan: ClusterPlan) -> Spec:
    properties: Body = {"platformFaultDomainCount": _FAULT_DOMAINS, "platformUpdateDomainCount": _UPDATE_DOMAINS}
    needs = {plan.group_ref}
    if plan.proximity_group is not None:
        properties["proximityPlacementGroup"] = {"id": plan.id(plan.proximity_group)}
        needs.add(plan.proximity_group)
    return Spec(
        ref=plan.availability_group,
        owner=plan.owner,
        wanted={
            "location": plan.location,
            "tags": plan.all_tags,
            "sku": {"name": "Aligned"},  # for VMs with managed disks
            "properties": properties,
        },
        needs=frozenset(needs),
        immutable=(
            ("location",),
            ("sku", "name"),
            ("properties", "platformFaultDomainCount"),
            ("properties", "platformUpdateDomainCount"),
        ),
    )


def proximity_group(plan: ClusterPlan, ref: ResourceRef) -> Spec:
    return Spec(
        ref=ref,
        owner=plan.owner,
        wanted={
            "location": plan.location,
            "tags": plan.all_tags,
            "properties": {"proximityPlacementGroupType": "Standard"},
        },
        needs=frozenset({plan.group_ref}),
        immutable=(("location",), ("properties", "proximityPlacementGroupType")),
    )
