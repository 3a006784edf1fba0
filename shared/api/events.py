"""Platform events as Event Grid delivers them: recorded once, in any order; a malformed one is kept with the reason.

The trigger hands over the raw text, because a converter that raises would make Event Grid deliver a malformed event
again and again for a day. Nothing here calls Azure: an event becomes a fact, and the next audit looks and decides.
Read are CloudEvents 1.0, the Event Grid schema, and the bare common alert schema of Azure Monitor. Every delivery runs
through the same idempotent writes, whether it is new or not: a crash between two of them is healed by the next one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from shared.api.plane import ControlPlane
from shared.events.interpret import Malformed, fact_of
from shared.model.alert import DeadLetter, DeadLetterKind
from shared.model.event import RecordedEvent
from shared.model.event_fact import EventFact
from shared.store.ports import TooLarge
from shared.structured_log import Log

MAX_KEPT_CHARS: Final = 2000
MAX_ID_CHARS: Final = 1024
COMMON_ALERT: Final = "azuremonitorcommonalertschema"
_RESOURCE_GROUP: Final = re.compile(r"/resourcegroups/mirrorplane-([a-z0-9-]{1,78})(?:/|$)", re.IGNORECASE)
log = Log("mirrorplane.events")


async def record_event(plane: ControlPlane, text: str) -> RecordedEvent:
    """Raises Unavailable only: then Event Grid delivers the event again, which is wanted."""
    event, fact = understood(text, plane.clock())
    if fact is not None and event.cluster is None:
        fact = fact if await _in_its_group(plane, fact) else None
        event = event if fact is None else event.model_copy(update={"cluster": fact.cluster})
    try:
        new = await plane.store.events.record(event)
    except TooLarge as error:
        event = event.model_copy(update={"data": {}, "malformed": True, "reason": f"data dropped: {error}"})
        new = await plane.store.events.record(event)
    if event.malformed:
        letter = DeadLetter(
            id=f"{event.source}#{event.id}",
            kind=DeadLetterKind.EVENT,
            at=event.received_at,
            reason=event.reason,
            text=text[:MAX_KEPT_CHARS],
        )
        await plane.store.alerting.dead_letters.record(letter)
    elif fact is not None:
        await plane.store.alerting.event_facts.merge(fact)
    write = log.warning if event.malformed else log.info
    write("event", id=event.id, type=event.type, cluster=event.cluster, new=new, reason=event.reason)
    return event


async def _in_its_group(plane: ControlPlane, fact: EventFact) -> bool:
    """In a group that was brought, other people's VMs may be named like ours: the cluster's record knows its group."""
    found = await plane.store.clusters.get(fact.cluster)
    return found is not None and f"/resourcegroups/{found.value.group.lower()}/" in fact.resource


def understood(text: str, now: datetime) -> tuple[RecordedEvent, EventFact | None]:
    """The event and what it says of our resources. Pure."""
    event = read_event(text, now)
    if event.malformed:
        return event, None
    try:
        return event, fact_of(event, now)
    except Malformed as error:
        return event.model_copy(update={"malformed": True, "reason": str(error)}), None


def read_event(text: str, now: datetime) -> RecordedEvent:
    """The event in a delivery, or a malformed one with the reason. Pure."""
    try:
        body = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        return _malformed(text, now, f"no JSON: {error}")
    if not isinstance(body, dict):
        return _malformed(text, now, f"no JSON object, found {type(body).__name__}")
    if str(body.get("schemaId") or "").lower() == COMMON_ALERT:
        body = _wrapped(body)
    cloud = "specversion" in body
    names = ("source", "type", "time") if cloud else ("topic", "eventType", "eventTime")
    missing = [name for name in ("id", *names[:2]) if not isinstance(body.get(name), str) or not body[name]]
    if missing:
        return _malformed(text, now, f"the text {', '.join(missing)} is missing")
    if len(body["id"]) > MAX_ID_CHARS:
        return _malformed(text, now, f"the id has {len(body['id'])} characters; {MAX_ID_CHARS} is the limit")
    data = body.get("data")
    source, subject = str(body[names[0]]), str(body.get("subject") or "")
    return RecordedEvent(
        id=body["id"],
        source=source,
        type=body[names[1]],
        subject=subject,
        time=str(body.get(names[2]) or ""),
        cluster=cluster_named_in(source, subject, data),
        data=data if isinstance(data, dict) else {} if data is None else {"value": data},
        received_at=now,
    )


def _wrapped(body: Mapping[str, Any]) -> dict[str, Any]:
    """A bare common alert as an event. Its id is the alert's with its condition: an alert fires once and ends once."""
    data = body.get("data")
    essentials = data.get("essentials") if isinstance(data, Mapping) else None
    values = essentials if isinstance(essentials, Mapping) else {}
    condition = str(values.get("monitorCondition") or "")
    fired, resolved = values.get("firedDateTime"), values.get("resolvedDateTime")
    return {
        "specversion": "1.0",
        "id": f"{values['alertId']}#{condition}" if values.get("alertId") else "",
        "source": "azure-monitor",
        "type": COMMON_ALERT,
        "time": resolved if condition == "Resolved" else fired,
        "data": data,
    }


def cluster_named_in(source: str, subject: str, data: object) -> str | None:
    """The cluster whose resource group an ARM id names. ARM ids differ in case from sender to sender."""
    texts = [subject, source]
    if isinstance(data, Mapping):
        texts += _resource_ids(data)
    for text in texts:
        found = _RESOURCE_GROUP.search(text)
        if found is not None:
            return found.group(1).lower()
    return None


def _resource_ids(data: Mapping[str, Any]) -> list[str]:
    """Where the schemas we subscribe to keep the resource: activity, resource health, common alert."""
    found: list[object] = [data.get("resourceUri")]
    info = data.get("resourceInfo")
    if isinstance(info, Mapping):
        properties = info.get("properties")
        found += [info.get("id"), properties.get("targetResourceId") if isinstance(properties, Mapping) else None]
    essentials = data.get("essentials")
    if isinstance(essentials, Mapping) and isinstance(essentials.get("alertTargetIDs"), list):
        found += essentials["alertTargetIDs"]
    return [text for text in found if isinstance(text, str)]


def _malformed(text: str, now: datetime, reason: str) -> RecordedEvent:
    return RecordedEvent(
        id=f"sha256-{hashlib.sha256(text.encode(errors='replace')).hexdigest()}",
        source="malformed",
        type="malformed",
        data={"text": text[:MAX_KEPT_CHARS]},
        received_at=now,
        malformed=True,
        reason=reason,
    )
