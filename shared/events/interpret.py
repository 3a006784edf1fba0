"""What a platform event means for our clusters. Pure: event → at most one fact, or the reason why it has none.

Field names from learn.microsoft.com: "Azure subscription as an Event Grid source", "Resource Notifications: health
resources / maintenance resources", "Common alert schema". ARM ids differ in case from sender to sender and are compared
without it. An event about somebody else's resource is no error; one of a type we read that lacks what we must know is
malformed, and delivering it again would not help.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from mirror_agent.contract import ALL_NODES

from shared.model.event import RecordedEvent
from shared.model.event_fact import EventFact, EventFactKind

MAX_AHEAD: Final = timedelta(days=1)  # an event dated further into our future would win for ever
SUMMARY_CHARS: Final = 300
# Bounded as Azure bounds a resource group: a longer name is nobody's, and would be too long for a key.
_ID_PATTERN: Final = (
    r"/resourcegroups/(?:mirrorplane-(?P<cluster>[a-z0-9-]{1,78})|[^/]{1,90})"
    r"/providers/(?P<type>[a-z.]+/[a-z]+)/(?P<name>[^/]{1,80})(?=/|$)"
)
# In a group that was brought, only the name of a VM or a load balancer tells the cluster, if it is one of ours at all.
_NAMED: Final = re.compile(r"(?P<cluster>[a-z][a-z0-9-]{0,22}[a-z0-9])-(?P<part>[a-d]|lb)")
_RESOURCE: Final = re.compile(_ID_PATTERN, re.IGNORECASE)
VM: Final = "microsoft.compute/virtualmachines"
LOAD_BALANCER: Final = "microsoft.network/loadbalancers"
WATCHED: Final = frozenset({VM, LOAD_BALANCER})
HEALTH_CHANGED: Final = "microsoft.resourcenotifications.healthresources.availabilitystatuschanged"
ANNOTATED: Final = "microsoft.resourcenotifications.healthresources.resourceannotated"
SCHEDULED: Final = "microsoft.resourcenotifications.maintenanceresources.scheduledeventemitted"
AZURE_ALERT: Final = "azuremonitorcommonalertschema"
_RESOURCE_CHANGE: Final = re.compile(r"microsoft\.resources\.resource(write|action|delete)success")

HEALTH_STATES: Final = frozenset({"Available", "Unavailable", "Degraded", "Unknown"})
# What an action says of a VM's power; any other action (run a command, assess patches) says nothing.
_POWER: Final = {
    "deallocate": "deallocate",
    "poweroff": "power-off",
    "start": "start",
    "restart": "restart",
    "redeploy": "redeploy",
}
_EXISTENCE: Final = frozenset({"write", "delete"})
_SCHEDULED_RANK: Final = {"scheduled": 0, "started": 1, "completed": 2, "canceled": 2}
_ALERT_RANK: Final = {"Fired": 0, "Resolved": 1}
_SEVERITY: Final = {"Sev0": "critical", "Sev1": "error", "Sev2": "warning", "Sev3": "info", "Sev4": "info"}


class Malformed(Exception):
    """The event is of a type we read and lacks what we must know; the message says what."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A VM or load balancer of a cluster. `node` is the last part of a VM's name, as we name them. In a group that we
    have not made, the cluster is a guess by name: whoever knows the clusters has to compare the group."""

    cluster: str
    type: str
    name: str
    id: str

    @property
    def node(self) -> str | None:
        name, _, node = self.name.rpartition("-")
        return node if self.type == VM and name == self.cluster and node in ALL_NODES else None


def resource_of(text: str) -> Resource | None:
    found = _RESOURCE.search(text)
    if found is None:
        return None
    kind, name, cluster = found["type"].lower(), found["name"].lower(), found["cluster"]
    if cluster is None:
        named = _NAMED.fullmatch(name)
        if named is None or kind != (LOAD_BALANCER if named["part"] == "lb" else VM):
            return None
        cluster = named["cluster"]
    return Resource(cluster.lower(), kind, name, text[: found.end()].lower())


def fact_of(event: RecordedEvent, now: datetime) -> EventFact | None:
    """The fact of an event, None when it says nothing about our VMs and load balancers. Raises Malformed."""
    kind = event.type.lower()
    if kind == HEALTH_CHANGED:
        return _health(event, now)
    if kind == ANNOTATED:
        return _annotation(event, now)
    if kind == SCHEDULED:
        return _scheduled(event, now)
    if kind == AZURE_ALERT:
        return _azure_alert(event, event.data, now)
    if str(event.data.get("schemaId") or "").lower() == AZURE_ALERT:
        return _azure_alert(event, event.data.get("data"), now)
    if _RESOURCE_CHANGE.fullmatch(kind):
        return _change(event, now)
    return None


def _health(event: RecordedEvent, now: datetime) -> EventFact | None:
    properties = _properties(event)
    resource = _required_resource(properties, event)
    state = _text(properties, "availabilityState", "data.resourceInfo.properties")
    if state not in HEALTH_STATES:
        raise Malformed(f"availabilityState is {state!r}; known: {', '.join(sorted(HEALTH_STATES))}")
    if resource is None or resource.type != VM:
        return None
    when = properties.get("occurredTime") or event.time
    return EventFact(
        cluster=resource.cluster,
        kind=EventFactKind.RESOURCE_HEALTH,
        subject=resource.name,
        value=state,
        open=state in ("Unavailable", "Degraded"),
        at=_time(when, now),
        received_at=event.received_at,
        event_id=event.id,
        resource=resource.id,
        node=resource.node,
        sentence=f"Azure reports {resource.name} as {state}"[:SUMMARY_CHARS],
    )


def _annotation(event: RecordedEvent, now: datetime) -> EventFact | None:
    properties = _properties(event)
    resource = _required_resource(properties, event)
    name = _text(properties, "annotationName", "data.resourceInfo.properties")
    if resource is None or resource.type != VM:
        return None
    context = str(properties.get("context") or "")
    customer = context.strip().lower() == "customer initiated"
    stops = any(word in name.lower() for word in ("dealloc", "stop", "poweroff", "poweredoff"))
    summary = str(properties.get("summary") or properties.get("reason") or name)
    return EventFact(
        cluster=resource.cluster,
        kind=EventFactKind.ANNOTATION,
        subject=resource.name,
        value=name,
        open=customer and stops,
        at=_time(properties.get("occurredTime") or event.time, now),
        received_at=event.received_at,
        event_id=event.id,
        resource=resource.id,
        node=resource.node,
        sentence=f"{name} ({context or 'no context'}): {summary}"[:SUMMARY_CHARS],
        customer_initiated=customer,
    )


def _change(event: RecordedEvent, now: datetime) -> EventFact | None:
    uri = event.data.get("resourceUri") or event.subject
    if not isinstance(uri, str) or not uri:
        raise Malformed("data.resourceUri and subject are missing: nobody knows which resource changed")
    resource = resource_of(uri)
    if resource is None or resource.type not in WATCHED:
        return None
    operation = event.data.get("operationName") or _implied(event.type, resource)
    if not isinstance(operation, str):
        raise Malformed("data.operationName is missing: nobody knows what was done")
    if not _about_itself(operation, resource):
        return None  # e.g. an extension's or a backend pool's own write
    last = operation.lower().removesuffix("/action").rpartition("/")[2]
    word = last if last in _EXISTENCE else _POWER.get(last)
    if word is None:
        return None
    # Two facts: a write (of a tag, say) does not give power back to a VM, and a start does not create one.
    about = resource.type.rpartition("/")[2] if word in _EXISTENCE else "power"
    return EventFact(
        cluster=resource.cluster,
        kind=EventFactKind.RESOURCE,
        subject=f"{about}/{resource.name}",
        value=word,
        open=word in ("delete", "deallocate", "power-off"),
        at=_time(event.time, now),
        received_at=event.received_at,
        event_id=event.id,
        resource=resource.id,
        node=resource.node,
        sentence=f"{operation} on {resource.name}{_by(event.data)}"[:SUMMARY_CHARS],
    )


def _scheduled(event: RecordedEvent, now: datetime) -> EventFact | None:
    properties = _properties(event)
    event_id = _text(properties, "EventId", "data.resourceInfo.properties", "eventId")
    status = _text(properties, "EventStatus", "data.resourceInfo.properties", "eventStatus")
    kind = _text(properties, "EventType", "data.resourceInfo.properties", "eventType")
    if status.lower() not in _SCHEDULED_RANK:
        raise Malformed(f"EventStatus is {status!r}; known: Scheduled, Started, Completed, Canceled")
    resource = _resource_of_notice(event, properties)
    if resource is None or resource.type != VM:
        return None
    rank = _SCHEDULED_RANK[status.lower()]
    not_before = str(properties.get("NotBefore") or properties.get("notBefore") or "")
    return EventFact(
        cluster=resource.cluster,
        kind=EventFactKind.SCHEDULED_EVENT,
        subject=f"{resource.name}/{event_id.lower()}",
        value=f"{kind}:{status.capitalize()}",
        open=rank < 2,
        at=_time(event.time, now),
        rank=rank,
        received_at=event.received_at,
        event_id=event.id,
        resource=resource.id,
        node=resource.node,
        sentence=f"{kind} of {resource.name} {status.lower()}{f', not before {not_before}' if not_before else ''}"[
            :SUMMARY_CHARS
        ],
    )


def _azure_alert(event: RecordedEvent, data: object, now: datetime) -> EventFact | None:
    essentials = data.get("essentials") if isinstance(data, Mapping) else None
    if not isinstance(essentials, Mapping):
        raise Malformed("data.essentials is missing: this is no common alert schema")
    alert_id = _text(essentials, "alertId", "data.essentials")
    condition = _text(essentials, "monitorCondition", "data.essentials")
    if condition not in _ALERT_RANK:
        raise Malformed(f"monitorCondition is {condition!r}; known: Fired, Resolved")
    targets = essentials.get("alertTargetIDs")
    found = [resource_of(text) for text in targets if isinstance(text, str)] if isinstance(targets, list) else []
    ours = sorted((resource for resource in found if resource is not None), key=lambda resource: resource.id)
    if not ours:
        return None
    when = essentials.get("resolvedDateTime") if condition == "Resolved" else essentials.get("firedDateTime")
    rule = str(essentials.get("alertRule") or "alert")
    return EventFact(
        cluster=ours[0].cluster,
        kind=EventFactKind.AZURE_ALERT,
        subject=alert_id.lower(),
        value=condition,
        open=condition == "Fired",
        at=_time(when or event.time, now),
        rank=_ALERT_RANK[condition],
        received_at=event.received_at,
        event_id=event.id,
        resource=ours[0].id,
        node=ours[0].node,
        sentence=f"Azure Monitor: {rule} {condition.lower()} on {ours[0].name}"[:SUMMARY_CHARS],
        severity=_SEVERITY.get(str(essentials.get("severity")), ""),
    )


def _properties(event: RecordedEvent) -> Mapping[str, Any]:
    info = event.data.get("resourceInfo")
    properties = info.get("properties") if isinstance(info, Mapping) else None
    if not isinstance(properties, Mapping):
        raise Malformed("data.resourceInfo.properties is missing")
    return properties


def _text(values: Mapping[str, Any], name: str, place: str, *others: str) -> str:
    for candidate in (name, *others):
        value = values.get(candidate)
        if isinstance(value, str) and value:
            return value
    raise Malformed(f"the text {place}.{name} is missing")


def _required_resource(properties: Mapping[str, Any], event: RecordedEvent) -> Resource | None:
    target = properties.get("targetResourceId") or event.subject
    if not isinstance(target, str) or not target:
        raise Malformed("targetResourceId and subject are missing: nobody knows which resource is meant")
    return resource_of(target)


def _resource_of_notice(event: RecordedEvent, properties: Mapping[str, Any]) -> Resource | None:
    info = event.data.get("resourceInfo")
    named = [event.subject, properties.get("targetResourceId"), info.get("id") if isinstance(info, Mapping) else None]
    resources = properties.get("Resources") or properties.get("resources")
    named += resources if isinstance(resources, list) else []
    for text in named:
        found = resource_of(text) if isinstance(text, str) else None
        if found is not None:
            return found
    return None


def _about_itself(operation: str, resource: Resource) -> bool:
    """`Microsoft.Compute/virtualMachines/delete` is; `…/virtualMachines/extensions/write` is not."""
    rest = operation.lower().removeprefix(f"{resource.type}/")
    return rest != operation.lower() and rest.removesuffix("/action").count("/") == 0


def _implied(event_type: str, resource: Resource) -> str | None:
    """What the type alone says: a write or a delete; an action needs its name."""
    found = _RESOURCE_CHANGE.fullmatch(event_type.lower())
    return f"{resource.type}/{found[1]}" if found is not None and found[1] != "action" else None


def _by(data: Mapping[str, Any]) -> str:
    claims = data.get("claims")
    if not isinstance(claims, Mapping):
        return ""
    for name in ("name", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn", "appid"):
        if isinstance(claims.get(name), str) and claims[name]:
            return f" by {claims[name]}"
    return ""


def _time(value: object, now: datetime) -> datetime:
    """An aware time from ISO 8601 (also with seven decimals) or RFC 1123. Raises Malformed."""
    if not isinstance(value, str) or not value:
        raise Malformed("the event has no time: its order among others cannot be told")
    at = _parsed(value)
    if at is None:
        raise Malformed(f"the time {value[:60]!r} is neither ISO 8601 nor RFC 1123 with a zone")
    if at > now + MAX_AHEAD:
        raise Malformed(f"the time {value[:60]!r} is more than {MAX_AHEAD.days} day ahead of ours")
    return at.astimezone(UTC)


def _parsed(value: str) -> datetime | None:
    text = re.sub(r"(\.\d{6})\d+", r"\1", value)
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            at = read(text)
        except (ValueError, OverflowError):
            continue
        if at.tzinfo is not None:
            return at
    return None
