"""What the API answers about alerts, silences and dead letters, and what it takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, StringConstraints

from shared.alerts.mutes import Mute
from shared.alerts.rules import ALERTS, STEPS
from shared.model.alert import Alert, AlertState, DeadLetter, Severity, Silence
from shared.model.document import ApiModel

Matcher = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,255}$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


class AlertView(ApiModel):
    """`id` is the same for every incident of (cluster, rule, subject); `mutedBy` names the rule that keeps a firing
    alert from being told, `silence` the silence if it is one."""

    id: str
    cluster: str | None
    rule: str
    meaning: str
    subject: str
    severity: Severity
    state: AlertState
    step: str
    step_sentence: str
    sentence: str
    incident: str
    onsets: int
    started_at: AwareDatetime
    changed_at: AwareDatetime
    fired_at: AwareDatetime | None = None
    cleared_at: AwareDatetime | None = None
    acknowledged_at: AwareDatetime | None = None
    acknowledged_by: str | None = None
    note: str = ""
    resolved_at: AwareDatetime | None = None
    muted_by: str | None = None
    silence: str | None = None


class AlertList(ApiModel):
    value: tuple[AlertView, ...]
    next_link: str | None = None


class AcknowledgeRequest(ApiModel):
    note: Annotated[str, StringConstraints(max_length=500, strip_whitespace=True)] = ""


class SilenceRequest(ApiModel):
    """At least one of `cluster`, `rule` and `subject`; one that is absent matches everything."""

    cluster: Matcher | None = None
    rule: Matcher | None = None
    subject: Matcher | None = None
    reason: Reason
    starts_at: AwareDatetime | None = None
    until: AwareDatetime


class SilenceChange(ApiModel):
    reason: Reason
    until: AwareDatetime


class SilenceView(ApiModel):
    id: str
    cluster: str | None = None
    rule: str | None = None
    subject: str | None = None
    reason: str
    created_by: str
    created_at: AwareDatetime
    starts_at: AwareDatetime
    until: AwareDatetime
    active: bool


class SilenceList(ApiModel):
    value: tuple[SilenceView, ...]


class DeadLetterList(ApiModel):
    value: tuple[DeadLetter, ...]
    next_link: str | None = None


def alert_view(alert: Alert, mute: Mute | None) -> AlertView:
    rule = ALERTS.get(alert.rule)
    return AlertView(
        id=alert.key,
        cluster=alert.cluster or None,
        rule=alert.rule,
        meaning="" if rule is None else rule.sentence,
        subject=alert.subject,
        severity=alert.severity,
        state=alert.state,
        step=alert.step,
        step_sentence=STEPS.get(alert.step, ""),
        sentence=alert.sentence,
        incident=alert.incident,
        onsets=alert.onsets,
        started_at=alert.started_at,
        changed_at=alert.changed_at,
        fired_at=alert.fired_at,
        cleared_at=alert.cleared_at,
        acknowledged_at=alert.acknowledged_at,
        acknowledged_by=alert.acknowledged_by,
        note=alert.note,
        resolved_at=alert.resolved_at,
        muted_by=None if mute is None else mute.rule,
        silence=None if mute is None else mute.silence,
    )


def silence_view(silence: Silence, now: AwareDatetime) -> SilenceView:
    values = {name: getattr(silence, name) for name in Silence.model_fields}
    return SilenceView(**values, active=silence.starts_at <= now < silence.until)
