"""Availability sets and proximity placement groups: kept and checked, without a physical effect.

The lab has one machine, so neither racks nor distances. What Azure refuses is refused here: one that is in use, a zone
together with either of them (at the VM), an availability set of another kind than its VMs need.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lab.arm.errors import ArmError, compute_parameter
from lab.arm.graph import referrers
from lab.arm.ids import ResourceId
from lab.arm.kinds.base import Kind
from lab.arm.state import Resource, State

PROXIMITY_TYPE = "Microsoft.Compute/proximityPlacementGroups"
# learn.microsoft.com, availability sets: up to three fault domains, up to 20 update domains.
MAX_FAULT_DOMAINS = 3
MAX_UPDATE_DOMAINS = 20


class _Placement(Kind):
    module = "azure.mgmt.compute"
    etag = False
    created_status = deleted_status = 200  # no long-running operation in the specification

    def refuse_if_used(self, resource: Resource, state: State) -> None:
        uses = referrers(state, resource.id)
        if uses:
            raise ArmError(
                409, "OperationNotAllowed", f"{resource.rid.name} cannot be deleted: {uses[0].owner} is in it."
            )


class AvailabilitySet(_Placement):
    type = "Microsoft.Compute/availabilitySets"
    model = "AvailabilitySet"
    reference_types: ClassVar[dict[str, str]] = {"proximityPlacementGroup": PROXIMITY_TYPE}

    def complete(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        wish.setdefault("sku", {}).setdefault("name", "Classic")
        wish["properties"].setdefault("platformFaultDomainCount", 2)
        wish["properties"].setdefault("platformUpdateDomainCount", 5)

    def validate(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        for name, largest in (
            ("platformFaultDomainCount", MAX_FAULT_DOMAINS),
            ("platformUpdateDomainCount", MAX_UPDATE_DOMAINS),
        ):
            value = wish["properties"][name]
            if not 1 <= value <= largest:
                raise compute_parameter(f"The value {value} of '{name}' must be between 1 and {largest}.", name)
            if old is not None and old.properties[name] != value:
                raise ArmError(409, "PropertyChangeNotAllowed", f"Changing property '{name}' is not allowed.")

    def show(self, resource: Resource, body: dict[str, Any], state: State) -> None:
        body["properties"]["virtualMachines"] = [{"id": use.owner} for use in referrers(state, resource.id)]


class ProximityPlacementGroup(_Placement):
    type = PROXIMITY_TYPE
    model = "ProximityPlacementGroup"

    def complete(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        wish["properties"].setdefault("proximityPlacementGroupType", "Standard")
