"""Resources of the caller's own that a cluster uses: looked at, never written, never deleted.

Each is a spec like any other, so that what depends on it waits for it and a difference is an error of the operation
with the value, the place and the remedy; but it answers "nothing to do" or raises, and it has no body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.azure.resources import Body, ResourceRef
from shared.model.brought import BroughtId
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.spec import Spec, SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought(Spec):
    """`field`: where the spec names it. `check` raises SpecError for a resource that cannot be used."""

    field: str
    check: Callable[[Mapping[str, Any]], None]

    def parameters(self, existing: Mapping[str, Any] | None, *, force: bool = False) -> Body | None:
        if existing is None:
            raise SpecError(
                "BroughtResourceMissing",
                self.field,
                f"{self.ref} in resource group {self.ref.group!r} is not there, or may not be read; "
                "make it and let the control plane's identity use it, or name another one",
            )
        self.check(existing)
        return None


def brought_group(plan: ClusterPlan) -> Brought:
    """Its location does not matter: it is only where the group's own record lives."""
    return _brought(plan, plan.group_ref, "resourceGroup", lambda _existing: None)


def brought_proximity_group(plan: ClusterPlan, ref: ResourceRef) -> Brought:
    field = "compute.proximityPlacementGroup"
    return _brought(plan, ref, field, lambda existing: _same_location(plan, field, ref, existing))


def brought_network(plan: ClusterPlan, subnet: BroughtId) -> Brought:
    def check(existing: Mapping[str, Any]) -> None:
        _same_location(plan, "network.subnetId", plan.vnet, existing)
        _usable_subnet(plan, subnet, existing)

    return _brought(plan, plan.vnet, "network.subnetId", check)


def _brought(plan: ClusterPlan, ref: ResourceRef, field: str, check: Callable[[Mapping[str, Any]], None]) -> Brought:
    return Brought(ref=ref, owner=plan.owner, wanted={}, brought=True, field=field, check=check)


def _same_location(plan: ClusterPlan, field: str, ref: ResourceRef, existing: Mapping[str, Any]) -> None:
    there = str(existing.get("location", "")).replace(" ", "").lower()
    if there != plan.location:
        raise SpecError(
            "BroughtResourceElsewhere",
            field,
            f"{ref} is in {there!r}, the cluster in {plan.location!r}; choose one in the cluster's region",
        )


def _usable_subnet(plan: ClusterPlan, subnet: BroughtId, existing: Mapping[str, Any]) -> None:
    listed = (existing.get("properties") or {}).get("subnets") or []
    found = next((entry for entry in listed if str(entry.get("name", "")).lower() == subnet.name.lower()), None)
    if found is None:
        names = ", ".join(str(entry.get("name")) for entry in listed) or "none"
        raise SpecError(
            "BroughtResourceMissing",
            "network.subnetId",
            f"{plan.vnet} has no subnet {subnet.name!r} (it has: {names}); make it, or name another one",
        )
    properties = found.get("properties") or {}
    ranges = [*(properties.get("addressPrefixes") or []), *filter(None, [properties.get("addressPrefix")])]
    if plan.subnet not in ranges:
        raise SpecError(
            "SubnetRangeMismatch",
            "network.subnet",
            f"subnet {subnet.name!r} of {plan.vnet} has the range {', '.join(ranges)}, the spec says {plan.subnet}; "
            "set network.subnet to the range it has",
        )
    delegations = [str(entry.get("name")) for entry in properties.get("delegations") or []]
    if delegations:
        raise SpecError(
            "SubnetDelegated",
            "network.subnetId",
            f"subnet {subnet.name!r} of {plan.vnet} is delegated ({', '.join(delegations)}), so no VM may live in it; "
            "name another one",
        )
