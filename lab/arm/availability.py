"""Resource Health of virtual machines: `…/providers/Microsoft.ResourceHealth/availabilityStatuses/current`.

The state follows the machine's real power: what stopped without being told to is Unplanned and the platform's, what a
call to ARM stopped is Customer Initiated. Faults may strike it like any request (type
Microsoft.ResourceHealth/availabilityStatuses, name of the VM). Shapes and words from learn.microsoft.com, "Azure
Resource Health overview" and the REST reference (2023-10-01-preview). Not modelled: Degraded, the minutes Azure takes
to notice, and a shutdown from inside the guest (which Azure calls customer initiated and this one unplanned).
"""

from __future__ import annotations

from typing import Any, Final

from lab.arm.core import Core, Response, utc_now
from lab.arm.ids import ResourceId
from lab.arm.kinds.machine import VirtualMachine
from lab.arm.provider import PowerState
from lab.arm.resources import Resources

TYPE: Final = "Microsoft.ResourceHealth/availabilityStatuses"
_WORDS: Final = {
    # (availabilityState, title, reasonType, category, context, summary)
    "running": (
        "Available",
        "Available",
        "",
        "Not Applicable",
        "Not Applicable",
        "There aren't any known Azure platform problems affecting this virtual machine.",
    ),
    "customer": (
        "Unavailable",
        "Stopped by customer",
        "Customer Initiated",
        "Not Applicable",
        "Customer Initiated",
        "This virtual machine is stopped as requested by an authorized user or process.",
    ),
    "platform": (
        "Unavailable",
        "Unavailable",
        "Unplanned",
        "Unplanned",
        "Platform Initiated",
        "We're sorry, your virtual machine isn't available because of an unexpected failure.",
    ),
    "unknown": (
        "Unknown",
        "Unknown",
        "",
        "Not Applicable",
        "Not Applicable",
        "We are currently unable to determine the health of this virtual machine.",
    ),
}


class Availability:
    def __init__(self, core: Core, resources: Resources) -> None:
        self._core = core
        self._resources = resources

    async def current(self, rid: ResourceId) -> Response:
        """Raises `ArmError` 404 when there is no such VM."""
        self._core.faults.strike_request("GET", TYPE, rid.name)
        vm = self._resources.find(rid)
        power = await self._core.provider.vm_power_state(vm.id)
        match power:
            case PowerState.RUNNING:
                kind = "running"
            case PowerState.UNKNOWN:
                kind = "unknown"
            case _:
                kind = "customer" if stopped_by_customer(vm.assigned) else "platform"
        state, title, reason, category, context, summary = _WORDS[kind]
        now = utc_now()
        body: dict[str, Any] = {
            "id": f"{vm.id}/providers/{TYPE}/current",
            "name": "current",
            "type": TYPE,
            "location": vm.location,
            "properties": {
                "availabilityState": state,
                "title": title,
                "summary": summary,
                "reasonType": reason,
                "category": category,
                "context": context,
                "occurredTime": now,
                "reasonChronicity": "Persistent",
                "reportedTime": now,
            },
        }
        return Response(200, body)


def covers(rid: ResourceId) -> bool:
    return rid.type.lower() == VirtualMachine.type.lower()


def note_order(assigned: dict[str, Any], action: str) -> None:
    """Remember who stopped it: `assigned` is the VM's."""
    if action in ("powerOff", "deallocate"):
        assigned["stoppedByCustomer"] = True
    elif action in ("start", "restart", "redeploy"):
        assigned.pop("stoppedByCustomer", None)


def stopped_by_customer(assigned: dict[str, Any]) -> bool:
    return bool(assigned.get("stoppedByCustomer"))
