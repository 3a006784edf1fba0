"""The life of an alert: pending → firing → acknowledged → resolved. Pure; every step is a named rule of STEPS.

`advanced` is given the alert as stored and what was seen, and answers the alert as it should be. When nothing changed
it answers the very same value, so that a steady fleet costs no writes: how long something holds is told by `held_since`
and `cleared_at`, which are written once, not by a counter. Skipped, doubled and late ticks are all the same to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from shared.alerts.conditions import FROM_VERDICTS, Condition, Seen
from shared.alerts.limits import FLAPPING_ONSETS
from shared.alerts.rules import ALERTS, AlertRule
from shared.model.alert import FLEET, RANK, Alert, AlertState


class Absence(Enum):
    """What it means that a condition was not seen."""

    AWAY = "away"
    UNSEEN = "unseen"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Step:
    """`alert` is None when a pending alert is forgotten. `rule` names why."""

    rule: str
    alert: Alert | None


def opened(found: Condition, now: datetime) -> Alert:
    """A new incident."""
    rule = ALERTS[found.rule]
    alert = Alert(
        key=found.key,
        cluster=found.cluster,
        rule=found.rule,
        subject=found.subject,
        severity=found.severity,
        state=AlertState.PENDING,
        step="opened",
        sentence=found.sentence,
        started_at=now,
        changed_at=now,
        held_since=now,
    )
    return alert if rule.wait.total_seconds() > 0 else _fired(alert, "fired-at-once", now)


def absence(alert: Alert, seen: Seen) -> Absence:
    """What the look says about an alert whose condition it did not see."""
    if alert.cluster == FLEET:
        return Absence.AWAY
    if alert.cluster in seen.gone:
        return Absence.GONE
    if alert.rule not in FROM_VERDICTS:
        return Absence.AWAY
    known = seen.looked if alert.rule == "cluster-unknown" else seen.judged
    return Absence.AWAY if alert.cluster in known else Absence.UNSEEN


def advanced(alert: Alert, found: Condition | Absence, now: datetime) -> Step:
    rule = ALERTS.get(alert.rule)
    if rule is None:  # written by another version of the app, whose rule this one does not have
        return Step("cluster-gone", _resolved(alert, "cluster-gone", now))
    match found:
        case Condition():
            return _present(alert, rule, found, now)
        case Absence.UNSEEN:
            return Step("held-by-unknown", alert)
        case Absence.GONE:
            return _gone(alert, now)
        case Absence.AWAY:
            return _away(alert, rule, now)


def acknowledged(alert: Alert, by: str, note: str, now: datetime) -> Alert:
    """Only a firing alert can be taken; the caller checks. Taking it twice changes nothing."""
    if alert.state is AlertState.ACKNOWLEDGED:
        return alert
    if alert.state is not AlertState.FIRING:
        raise ValueError(f"alert {alert.key} is {alert.state.value}; only a firing alert can be acknowledged")
    return alert.model_copy(
        update={
            "state": AlertState.ACKNOWLEDGED,
            "step": "acknowledged",
            "changed_at": now,
            "acknowledged_at": now,
            "acknowledged_by": by,
            "note": note,
        }
    )


def _present(alert: Alert, rule: AlertRule, found: Condition, now: datetime) -> Step:
    if alert.state is AlertState.RESOLVED:
        return Step("recurred", opened(found, now).model_copy(update={"step": "recurred"}))
    name = "unchanged"
    if alert.cleared_at is not None:
        name = "returned"
        again = {"cleared_at": None, "onsets": alert.onsets + 1, "step": name, "changed_at": now, "held_since": now}
        alert = alert.model_copy(update=again)
    if alert.state is AlertState.PENDING:
        if alert.onsets >= FLAPPING_ONSETS:
            return Step("flapping", _fired(alert, "flapping", now))
        if now - alert.held_since >= rule.wait:
            return Step("held-long-enough", _fired(alert, "held-long-enough", now))
    elif RANK[found.severity] > RANK[alert.severity]:
        # Worse than what was acknowledged: a person must look again.
        worse = {"severity": found.severity, "sentence": found.sentence, "state": AlertState.FIRING}
        return Step("worsened", alert.model_copy(update={**worse, "step": "worsened", "changed_at": now}))
    return Step(name, alert)


def _away(alert: Alert, rule: AlertRule, now: datetime) -> Step:
    if alert.state is AlertState.RESOLVED:
        return Step("unchanged", alert)
    if alert.cleared_at is None:
        # The incident is judged from now on: a tick that comes late must not count the time before it as calm.
        return Step("cleared", alert.model_copy(update={"cleared_at": now, "step": "cleared", "changed_at": now}))
    if now - alert.cleared_at < rule.keep:
        return Step("unchanged", alert)
    if alert.state is AlertState.PENDING:
        return Step("forgotten", None)
    return Step("resolved", _resolved(alert, "resolved", now))


def _gone(alert: Alert, now: datetime) -> Step:
    match alert.state:
        case AlertState.RESOLVED:
            return Step("unchanged", alert)
        case AlertState.PENDING:
            return Step("forgotten", None)
        case AlertState.FIRING | AlertState.ACKNOWLEDGED:
            return Step("cluster-gone", _resolved(alert, "cluster-gone", now))


def _fired(alert: Alert, step: str, now: datetime) -> Alert:
    return alert.model_copy(update={"state": AlertState.FIRING, "step": step, "fired_at": now, "changed_at": now})


def _resolved(alert: Alert, step: str, now: datetime) -> Alert:
    return alert.model_copy(update={"state": AlertState.RESOLVED, "step": step, "resolved_at": now, "changed_at": now})
