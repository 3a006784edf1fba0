"""What the platform tells a subscription beside changes of resources: announced maintenance of its machines.

Source: learn.microsoft.com, "Azure Event Grid: Maintenance resources system topic" (scheduled events by Event Grid).
Like every notice it may come twice, late and in any order; the metadata service inside the VM is the other way to hear
of it.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from lab.eventgrid.broker import utc_now
from lab.eventgrid.model import Event

SCHEDULED_EVENT: Final = "Microsoft.ResourceNotifications.MaintenanceResources.ScheduledEventEmitted"


def maintenance_notice(subscription_id: str, vm_id: str, shown: dict[str, Any], status: str) -> Event:
    """`shown`: the event as the metadata service shows it; `status`: Scheduled, Started, Completed, Canceled."""
    return Event(
        id=str(uuid.uuid4()),
        type=SCHEDULED_EVENT,
        source=f"/subscriptions/{subscription_id}",
        subject=vm_id,
        time_utc=utc_now(),
        data={
            "resourceInfo": {
                "id": f"{vm_id}/providers/Microsoft.Maintenance/scheduledevents/{shown['EventId']}",
                "name": shown["EventId"],
                "type": "Microsoft.Maintenance/scheduledevents",
                "properties": {**shown, "EventStatus": status, "Resources": [vm_id]},
            },
            "operationalInfo": {"resourceEventTime": utc_now()},
            "apiVersion": "2023-12-01-preview",
        },
        data_version="1",
    )
