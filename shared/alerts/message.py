"""How a notice and a change of an alert look outside: CloudEvents 1.0, and a text for people. Pure.

The id is the notice's, the same for every attempt and channel: a receiver that keeps ids sees each notice once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from shared.alerts.rules import ALERTS
from shared.model.alert import ACTIVE, FLEET, Alert, AlertState, Notice
from shared.model.event import RecordedEvent

SOURCE: Final = "/mirrorplane/alerts"
NOTICE_TYPE: Final = "Mirrorplane.Alerts.Notice"
CHANGE_TYPES: Final = {
    AlertState.FIRING: "Mirrorplane.Alert.Fired",
    AlertState.ACKNOWLEDGED: "Mirrorplane.Alert.Acknowledged",
    AlertState.RESOLVED: "Mirrorplane.Alert.Resolved",
}


def cloud_event(notice: Notice) -> dict[str, Any]:
    """The whole envelope, JSON-ready."""
    return {
        "specversion": "1.0",
        "id": notice.id,
        "source": SOURCE,
        "type": NOTICE_TYPE,
        "subject": subject_of(notice.cluster),
        "time": _utc(notice.made_at),
        "datacontenttype": "application/json",
        "data": {
            "reason": notice.reason.value,
            "severity": notice.severity.value,
            "title": title(notice),
            "cluster": notice.cluster or None,
            "firing": notice.firing,
            "omitted": notice.omitted,
            "alerts": [_alert(alert) for alert in notice.alerts],
        },
    }


def title(notice: Notice) -> str:
    """One line, e.g. for a mail's subject."""
    where = f"cluster {notice.cluster}" if notice.cluster else "fleet"
    worst = next((alert for alert in notice.alerts if alert.state in ACTIVE), None)
    what = worst.rule if worst is not None else "resolved"
    more = f" and {notice.firing - 1} more" if notice.firing > 1 else ""
    return f"[{notice.severity.value}] {where}: {what}{more} ({notice.reason.value})"


def text(notice: Notice) -> str:
    """A mail's body."""
    lines = [title(notice), ""]
    for alert in notice.alerts:
        where = f"{alert.cluster}/{alert.subject}" if alert.cluster else alert.subject
        lines.append(f"- {alert.state.value}: {alert.rule} on {where} since {_utc(alert.started_at)}: {alert.sentence}")
    if notice.omitted:
        lines.append(f"- and {notice.omitted} more")
    return "\n".join([*lines, "", f"notice {notice.id}"])


def change_event(alert: Alert, now: datetime) -> RecordedEvent | None:
    """The change of an alert's state as an entry of the timeline; recording it twice leaves one. None while pending."""
    kind = CHANGE_TYPES.get(alert.state)
    if kind is None:
        return None
    return RecordedEvent(
        id=f"{alert.incident}-{alert.state.value}-{alert.severity.value}",
        source=SOURCE,
        type=kind,
        subject=f"{subject_of(alert.cluster)}/alerts/{alert.key}",
        time=_utc(alert.changed_at),
        cluster=alert.cluster or None,
        data=_alert(alert),
        received_at=now,
    )


def subject_of(cluster: str) -> str:
    return "fleet" if cluster == FLEET else f"clusters/{cluster}"


def _alert(alert: Alert) -> dict[str, Any]:
    rule = ALERTS.get(alert.rule)
    return {
        "id": alert.key,
        "incident": alert.incident,
        "cluster": alert.cluster or None,
        "rule": alert.rule,
        "subject": alert.subject,
        "severity": alert.severity.value,
        "state": alert.state.value,
        "step": alert.step,
        "sentence": alert.sentence,
        "meaning": "" if rule is None else rule.sentence,
        "startedAt": _utc(alert.started_at),
        "firedAt": None if alert.fired_at is None else _utc(alert.fired_at),
        "resolvedAt": None if alert.resolved_at is None else _utc(alert.resolved_at),
        "acknowledgedBy": alert.acknowledged_by,
    }


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
