"""Alerts, silences, groups and what is told about them, as they are stored.

An alert is known by its key, a hash of (cluster, rule, subject): never by its text. `started_at` tells one incident of
a key from the next. An open alert is one row, changed by conditional writes only; a resolved one is kept for reading.
All times are the control plane's.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, StringConstraints

from shared.model.document import Document

FLEET: Final = ""  # the cluster of an alert that is about all of them
MAX_SENTENCE_CHARS: Final = 500
Sentence = Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)]


class Severity(StrEnum):
    """PagerDuty's words, so that a receiver needs no table."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


RANK: Final = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2, Severity.CRITICAL: 3}
assert set(RANK) == set(Severity)


class AlertState(StrEnum):
    PENDING = "pending"
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


ACTIVE: Final = frozenset({AlertState.FIRING, AlertState.ACKNOWLEDGED})


def alert_key(cluster: str, rule: str, subject: str) -> str:
    """32 hex digits. The parts cannot run into one another."""
    joined = "\n".join(f"{len(part)}:{part}" for part in (cluster, rule, subject))
    return hashlib.sha256(joined.encode()).hexdigest()[:32]


class Alert(Document):
    """`step` is the name of the life-cycle rule that made the last change. `cleared_at`: since when the condition is
    away (None: it holds). `onsets` counts how often it came within one incident."""

    key: str
    cluster: str
    rule: str
    subject: str
    severity: Severity
    state: AlertState
    step: str
    sentence: Sentence
    started_at: AwareDatetime
    changed_at: AwareDatetime
    held_since: AwareDatetime
    onsets: int = 1
    fired_at: AwareDatetime | None = None
    cleared_at: AwareDatetime | None = None
    acknowledged_at: AwareDatetime | None = None
    acknowledged_by: str | None = None
    note: str = ""
    resolved_at: AwareDatetime | None = None

    @property
    def incident(self) -> str:
        """The same for all states of one incident, another for the next of the same key."""
        return f"{self.key}-{self.started_at:%Y%m%dT%H%M%S%f}"


class Silence(Document):
    """Keeps alerts from being told, never from being seen. A matcher that is None matches everything."""

    id: str
    cluster: str | None = None
    rule: str | None = None
    subject: str | None = None
    reason: str
    created_by: str
    created_at: AwareDatetime
    starts_at: AwareDatetime
    until: AwareDatetime


class Told(Document):
    """What the receivers know of an alert. `changed_at` is that of the alert told: a slower auditor that still sees an
    older state of it has nothing new to tell."""

    incident: str
    state: AlertState
    severity: Severity
    changed_at: AwareDatetime


class NoticeReason(StrEnum):
    FIRED = "fired"
    ESCALATED = "escalated"
    RESOLVED = "resolved"
    ACKNOWLEDGED = "acknowledged"
    REPEATED = "repeated"


class Notice(Document):
    """One message about a group. Its id is derived from the group and a number: sent twice, it is still one."""

    id: str
    group: str
    reason: NoticeReason
    severity: Severity
    cluster: str
    made_at: AwareDatetime
    alerts: tuple[Alert, ...]
    omitted: int = 0
    firing: int = 0


class Group(Document):
    """What was told about the alerts that belong together. `outbox` holds the notice that this row's last change
    decided, until it is handed to the deliveries: decision and notice are one write."""

    key: str
    told: dict[str, Told] = Field(default_factory=dict)
    number: int = 0
    last_notice_at: AwareDatetime | None = None
    outbox: Notice | None = None


class Delivery(Document):
    """A notice on its way to one channel."""

    id: str
    channel: str
    notice: Notice
    created_at: AwareDatetime
    next_attempt_at: AwareDatetime
    attempts: int = 0
    last_error: str = ""


class DeadLetterKind(StrEnum):
    EVENT = "event"
    DELIVERY = "delivery"


class DeadLetter(Document):
    """What could not be understood or delivered, with the reason. `text` is what it was, cut to a bounded length."""

    id: str
    kind: DeadLetterKind
    at: AwareDatetime
    reason: str
    text: str = ""
