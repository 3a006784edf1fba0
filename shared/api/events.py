"""Platform events as Event Grid delivers them: recorded once, in any order; a malformed one is kept with the reason.

The trigger hands over the raw text, because a converter that raises would make Event Grid deliver a malformed event
again and again for a day. Nothing here calls Azure: an event is a hint to look, and the look is taken elsewhere.
Both schemas are read: CloudEvents 1.0 and the Event Grid schema.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from shared.api.plane import ControlPlane
from shared.model.event import RecordedEvent
from shared.store.ports import TooLarge
from shared.structured_log import Log

MAX_KEPT_CHARS: Final = 2000
MAX_ID_CHARS: Final = 1024
_RESOURCE_GROUP: Final = re.compile(r"/resourcegroups/mirrorplane-([a-z0-9-]+)(?:/|$)", re.IGNORECASE)
log = Log("mirrorplane.events")


async def record_event(plane: ControlPlane, text: str) -> RecordedEvent:
    """Raises Unavailable only: then Event Grid delivers the event again, which is wanted."""
    event = read_event(text, plane.clock())
    try:
        new = await plane.store.events.record(event)
    except TooLarge as error:
        event = event.model_copy(update={"data": {}, "malformed": True, "reason": f"data dropped: {error}"})
        new = await plane.store.events.record(event)
    write = log.warning if event.malformed else log.info
    write("event", id=event.id, type=event.type, cluster=event.cluster, new=new, reason=event.reason)
    return event


def read_event(text: str, now: datetime) -> RecordedEvent:
    """The event in a delivery, or a malformed one with the reason. Pure."""
    try:
        body = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        return _malformed(text, now, f"no JSON: {error}")
    if not isinstance(body, dict):
        return _malformed(text, now, f"no JSON object, found {type(body).__name__}")
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
