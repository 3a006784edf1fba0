"""The resource group of a cluster: made by us, tagged, and deleted only when nothing foreign is left in it."""

from __future__ import annotations

from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.spec import Spec


def resource_group(plan: ClusterPlan) -> Spec:
    return Spec(
        ref=plan.group_ref,
        owner=plan.owner,
        wanted={"location": plan.location, "tags": plan.all_tags},
        immutable=(("location",),),
    )
