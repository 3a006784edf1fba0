"""A platform event as it was received, whole or malformed."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, Field

from shared.model.document import Document


class RecordedEvent(Document):
    """One event of Event Grid. `reason` says why a malformed one is kept aside (`malformed` is then true).

    Order of arrival means nothing: a reader compares the resource's own state, never the order of events.
    """

    id: str
    source: str
    type: str
    subject: str = ""
    time: str = ""
    cluster: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    received_at: AwareDatetime
    malformed: bool = False
    reason: str = ""
