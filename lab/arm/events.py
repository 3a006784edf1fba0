"""What ARM tells the world about changes of resources, before it becomes an Event Grid event.

Event types and data: learn.microsoft.com, "Azure subscription as an Event Grid source"
(`Microsoft.Resources.ResourceWriteSuccess|WriteFailure|DeleteSuccess|DeleteFailure|ActionSuccess|ActionFailure`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ResourceEvent:
    verb: str  # Write | Delete | Action
    succeeded: bool
    operation_name: str  # "Microsoft.Network/loadBalancers/write"
    http_method: str
    resource_id: str
    subscription: str
    correlation_id: str
    at_utc: str

    @property
    def type(self) -> str:
        return f"Microsoft.Resources.Resource{self.verb}{'Success' if self.succeeded else 'Failure'}"

    def data(self) -> dict[str, Any]:
        """The `data` object of the event."""
        parts = self.resource_id.split("/")
        return {
            "authorization": {
                "scope": self.resource_id,
                "action": self.operation_name,
                "evidence": {"role": "Contributor", "roleAssignmentScope": f"/subscriptions/{self.subscription}"},
            },
            "claims": {},
            "correlationId": self.correlation_id,
            "httpRequest": {
                "clientRequestId": "",
                "clientIpAddress": "",
                "method": self.http_method,
                "url": f"https://management.azure.com{self.resource_id}",
            },
            "resourceProvider": parts[6] if len(parts) > 6 else "Microsoft.Resources",
            "resourceUri": self.resource_id,
            "operationName": self.operation_name,
            "status": "Succeeded" if self.succeeded else "Failed",
            "subscriptionId": self.subscription,
            "tenantId": "",
        }


EventSink = Callable[[ResourceEvent], None]
"""Takes an event and returns at once; delivery is the sink's affair."""


def drop(event: ResourceEvent) -> None:
    """For a lab without Event Grid."""
