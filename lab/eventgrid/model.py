"""Events, topics and subscriptions of Event Grid, in both schemas it speaks.

Sources: learn.microsoft.com "Event Grid event schema", "CloudEvents v1.0 schema with Event Grid", "Event filtering".
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lab.arm.events import ResourceEvent


class Schema(StrEnum):
    EVENT_GRID = "EventGridSchema"
    CLOUD_EVENTS = "CloudEventSchemaV1_0"


class MalformedEvent(ValueError):
    """What is missing or wrong in a published event."""


# Attributes of CloudEvents 1.0 that an `Event` has fields for; all others are carried along untouched.
_CLOUD_FIELDS = {"specversion", "id", "type", "source", "subject", "time", "data"}


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    type: str
    source: str  # resource id of the topic for events in Event Grid's schema
    subject: str
    time_utc: str
    data: Any
    data_version: str = "1.0"
    extra: Mapping[str, Any] = field(default_factory=dict)  # dataschema, datacontenttype, data_base64, extensions

    def render(self, schema: Schema) -> dict[str, Any]:
        match schema:
            case Schema.EVENT_GRID:
                return {
                    "id": self.id,
                    "topic": self.source,
                    "subject": self.subject,
                    "eventType": self.type,
                    "eventTime": self.time_utc,
                    "data": self.data,
                    "dataVersion": self.data_version,
                    "metadataVersion": "1",
                }
            case Schema.CLOUD_EVENTS:
                body = {
                    "specversion": "1.0",
                    "id": self.id,
                    "type": self.type,
                    "source": self.source,
                    "time": self.time_utc,
                    **self.extra,
                }
                if self.subject:
                    body["subject"] = self.subject
                if self.data is not None:
                    body["data"] = self.data
                return body


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise MalformedEvent(f"This resource is configured to receive events with the property '{name}', a string")
    return value


def parse_event(document: Any, schema: Schema, *, topic_id: str, now_utc: str) -> Event:
    """Raises `MalformedEvent`."""
    if not isinstance(document, dict):
        raise MalformedEvent("an event is a JSON object")
    match schema:
        case Schema.EVENT_GRID:
            return Event(
                id=_text(document, "id"),
                type=_text(document, "eventType"),
                source=topic_id,  # the service sets it, whatever the publisher says
                subject=_text(document, "subject"),
                time_utc=_text(document, "eventTime"),
                data=document.get("data"),
                data_version=_text(document, "dataVersion"),
            )
        case Schema.CLOUD_EVENTS:
            if document.get("specversion") != "1.0":
                raise MalformedEvent("'specversion' must be '1.0'")
            return Event(
                id=_text(document, "id"),
                type=_text(document, "type"),
                source=_text(document, "source"),
                subject=str(document.get("subject") or ""),
                time_utc=str(document.get("time") or now_utc),
                data=document.get("data"),
                extra={name: value for name, value in document.items() if name not in _CLOUD_FIELDS},
            )


def from_resource_event(event: ResourceEvent) -> Event:
    """An ARM change as the Azure-subscription system topic publishes it."""
    return Event(
        id=str(uuid.uuid4()),
        type=event.type,
        source=f"/subscriptions/{event.subscription}",
        subject=event.resource_id,
        time_utc=event.at_utc,
        data=event.data(),
        data_version="2",
    )


@dataclass(frozen=True, slots=True)
class Topic:
    """`key` None: a system topic, nobody can publish over HTTP."""

    name: str
    id: str
    schema: Schema
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Subscription:
    """Filters as in Azure: event types (none = all), subject prefix and suffix, compared without case."""

    name: str
    topic: str
    webhook: str = field(repr=False)  # its query holds the function key
    schema: Schema = Schema.EVENT_GRID
    event_types: tuple[str, ...] = ()
    subject_begins_with: str = ""
    subject_ends_with: str = ""

    def wants(self, event: Event) -> bool:
        subject = event.subject.lower()
        return (
            (not self.event_types or event.type.lower() in {wanted.lower() for wanted in self.event_types})
            and subject.startswith(self.subject_begins_with.lower())
            and subject.endswith(self.subject_ends_with.lower())
        )
