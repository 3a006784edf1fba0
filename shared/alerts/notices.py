"""What is told, about what, and when: one notice per group at a time. Pure; every outcome is a named rule of NOTICES.

The group of an alert is its cluster; the watchdog is alone; whatever is about the fleet is together. A group's row says
what its receivers know (`told`), so a notice is decided by comparing that with what is true, never by having been there
when something changed: ticks may be missed, doubled or race. The notice is part of the changed row, so of two auditors
the one whose conditional write succeeds tells, and the other does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.alerts.limits import FORGET_AFTER, GROUP_INTERVAL, GROUP_WAIT, MAX_NOTICE_ALERTS, REPEAT, RESOLVED_SHOWN
from shared.alerts.mutes import Mute
from shared.alerts.rules import ALERTS
from shared.model.alert import (
    ACTIVE,
    FLEET,
    RANK,
    Alert,
    AlertState,
    Group,
    Notice,
    NoticeReason,
    Severity,
    Told,
)

FLEET_GROUP: Final = "fleet"
WATCHDOG_GROUP: Final = "watchdog"


@dataclass(frozen=True, slots=True)
class Plan:
    """The group as it should be. A new notice is in its `outbox`."""

    rule: str
    group: Group

    @property
    def notice(self) -> Notice | None:
        return self.group.outbox if self.rule.startswith("tell-") else None


def group_of(alert: Alert) -> str:
    if alert.rule == "watchdog":
        return WATCHDOG_GROUP
    return FLEET_GROUP if alert.cluster == FLEET else f"cluster-{alert.cluster}"


def planned(
    group: Group,
    alerts: Sequence[Alert],
    muted: Mapping[str, Mute],
    now: datetime,
    *,
    in_storm: Sequence[Alert] = (),
) -> Plan:
    """`alerts` are all of the group. `in_storm` are the alerts of single clusters that the storm's notice also lists.
    A group whose outbox is not emptied yet decides nothing."""
    if group.outbox is not None:
        return Plan("nothing-new", group)
    by_key = {alert.key: alert for alert in alerts}
    fresh = [alert for alert in alerts if alert.key not in muted and _untold(alert, group)]
    over = [by_key[key] for key, told in group.told.items() if key in by_key and _is_over(by_key[key], told)]
    taken = [by_key[key] for key, told in group.told.items() if key in by_key and _was_taken(by_key[key], told)]
    if fresh:
        rule = _may_tell(group, fresh, by_key, now)
        if rule is not None:
            return Plan(rule, group)
        reason = NoticeReason.ESCALATED if _is_worse(group, fresh, by_key) and group.told else NoticeReason.FIRED
        return _tell(group, reason, fresh + over + taken, alerts, muted, now, in_storm)
    if over:
        if not _interval_passed(group, now):
            return Plan("group-interval", group)
        return _tell(group, NoticeReason.RESOLVED, over + taken, alerts, muted, now, in_storm)
    if taken:
        return _tell(group, NoticeReason.ACKNOWLEDGED, taken, alerts, muted, now, in_storm)
    again = [alert for alert in alerts if _repeats(alert, group, muted, now)]
    if again:
        return _tell(group, NoticeReason.REPEATED, again, alerts, muted, now, in_storm)
    return Plan("nothing-new", _forgetting(group, by_key, now))


def _untold(alert: Alert, group: Group) -> bool:
    """Firing and not known as such. An incident that was told, acknowledged and got worse is firing again."""
    told = group.told.get(alert.key)
    if alert.state is not AlertState.FIRING or alert.cleared_at is not None:
        return False  # what is over already and only kept is no news
    if told is None:
        return True
    if alert.changed_at <= told.changed_at:
        return False
    worse = RANK[alert.severity] > RANK[told.severity]
    return told.incident != alert.incident or told.state is not AlertState.FIRING or worse


def _is_over(alert: Alert, told: Told) -> bool:
    """Told as active and resolved, or replaced by a new incident that does not fire (yet)."""
    if told.state not in ACTIVE:
        return False
    return alert.state is AlertState.RESOLVED or (alert.incident != told.incident and alert.state is AlertState.PENDING)


def _was_taken(alert: Alert, told: Told) -> bool:
    same = told.incident == alert.incident and told.state is AlertState.FIRING
    return same and alert.state is AlertState.ACKNOWLEDGED


def _repeats(alert: Alert, group: Group, muted: Mapping[str, Mute], now: datetime) -> bool:
    told = group.told.get(alert.key)
    if alert.state is not AlertState.FIRING or told is None or alert.key in muted or group.last_notice_at is None:
        return False
    rule = ALERTS.get(alert.rule)
    return now - group.last_notice_at >= (REPEAT if rule is None else rule.repeat)


def _may_tell(group: Group, fresh: Sequence[Alert], known: Mapping[str, Alert], now: datetime) -> str | None:
    """The rule that makes new alerts wait, or None."""
    first = min(alert.fired_at or now for alert in fresh)
    if now - first < GROUP_WAIT:
        return "group-wait"
    return None if _interval_passed(group, now) or _is_worse(group, fresh, known) else "group-interval"


def _interval_passed(group: Group, now: datetime) -> bool:
    return group.last_notice_at is None or now - group.last_notice_at >= GROUP_INTERVAL


def _is_worse(group: Group, fresh: Sequence[Alert], known: Mapping[str, Alert]) -> bool:
    """Worse than everything told that is still active. One that got worse itself does not count as its own peer."""
    new = {alert.key for alert in fresh}
    told = [
        RANK[known[key].severity]
        for key, told in group.told.items()
        if key in known and key not in new and known[key].state in ACTIVE and told.state in ACTIVE
    ]
    return max(RANK[alert.severity] for alert in fresh) > max(told, default=-1)


def _tell(
    group: Group,
    reason: NoticeReason,
    changed: Sequence[Alert],
    alerts: Sequence[Alert],
    muted: Mapping[str, Mute],
    now: datetime,
    in_storm: Sequence[Alert],
) -> Plan:
    known = [alert for alert in alerts if alert.cleared_at is None or alert.key in group.told]
    firing = [alert for alert in known if alert.state in ACTIVE and alert.key not in muted]
    extra = in_storm if any(alert.rule == "storm" for alert in firing) else ()
    shown = {alert.key: alert for alert in (*changed, *firing, *extra)}
    ordered = sorted(
        shown.values(), key=lambda alert: (-RANK[alert.severity], alert.cluster, alert.rule, alert.subject)
    )
    worst = max((alert.severity for alert in changed), key=lambda severity: RANK[severity], default=Severity.INFO)
    told = dict(_forgetting(group, {alert.key: alert for alert in alerts}, now).told)
    for alert in changed:
        told[alert.key] = Told(
            incident=alert.incident, state=alert.state, severity=alert.severity, changed_at=alert.changed_at
        )
    number = group.number + 1
    notice = Notice(
        id=f"{group.key}-{number}-{now:%Y%m%dT%H%M%S}",
        group=group.key,
        reason=reason,
        severity=worst,
        cluster=alerts[0].cluster,
        made_at=now,
        alerts=tuple(ordered[:MAX_NOTICE_ALERTS]),
        omitted=max(0, len(ordered) - MAX_NOTICE_ALERTS),
        firing=len({alert.key for alert in (*firing, *extra) if alert.state in ACTIVE}),
    )
    changes = {"told": told, "number": number, "last_notice_at": now, "outbox": notice}
    return Plan(f"tell-{reason.value}", group.model_copy(update=changes))


def _forgetting(group: Group, known: Mapping[str, Alert], now: datetime) -> Group:
    """Without what was told long ago about alerts that are put away. Not at once: the row of an alert that another
    auditor has just made is not among those this one read."""

    def is_kept(key: str, told: Told) -> bool:
        shown = RESOLVED_SHOWN if told.state is AlertState.RESOLVED else FORGET_AFTER
        return key in known or now - told.changed_at < 2 * shown

    kept = {key: told for key, told in group.told.items() if is_kept(key, told)}
    return group if len(kept) == len(group.told) else group.model_copy(update={"told": kept})
