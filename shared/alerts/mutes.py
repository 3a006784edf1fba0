"""Which alerts are not told, and why: inhibitions as rows of data, silences, and the storm. Pure.

A muted alert lives on and is shown with the name of its mute. Only the telling of a firing alert is muted: that an
alert somebody was told about is over is always told. The watchdog, the storm and alerts about the telling itself cannot
be muted: a silence must not be able to hide that nobody is watching.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.alerts.rules import ALERTS, MUTES
from shared.model.alert import ACTIVE, FLEET, Alert, Silence

NEVER_MUTED: Final = frozenset({"watchdog", "storm", "delivery-failed"})
# The first word of a reason to keep still that also explains a lost peer; a storm or a platform event does not.
EXPECTED_PAUSES: Final = ("maintenance", "operation", "stopped-by-operator")
_REDUNDANCY: Final = frozenset(
    {"cluster-exposed", "exposed-too-long", "cluster-degraded", "farm-below-minimum", "node-down"}
)


@dataclass(frozen=True, slots=True)
class Inhibition:
    """A firing or pending alert of `source` mutes alerts of `targets` of the same cluster; `same_subject`: only those
    about the same node."""

    mute: str
    source: str
    targets: frozenset[str]
    same_subject: bool = False


INHIBITIONS: Final = (
    Inhibition(
        "cluster-down-explains",
        "cluster-down",
        _REDUNDANCY | {"platform-unavailable"},
    ),
    Inhibition("vm-deleted-explains", "vm-deleted", frozenset({"node-down", "platform-unavailable"}), True),
    Inhibition("vm-stopped-explains", "vm-stopped", frozenset({"node-down", "platform-unavailable"}), True),
    Inhibition("vm-stopped-explains", "customer-initiated", frozenset({"node-down", "platform-unavailable"}), True),
    Inhibition("maintenance-explains", "scheduled-event", frozenset({"node-down", "platform-unavailable"}), True),
)
assert {entry.mute for entry in INHIBITIONS} <= set(MUTES)
assert {entry.source for entry in INHIBITIONS} <= set(ALERTS)
assert not any(entry.targets & NEVER_MUTED for entry in INHIBITIONS)


@dataclass(frozen=True, slots=True)
class Mute:
    """`rule` of MUTES; `silence` is the id of the silence, if it is one."""

    rule: str
    silence: str | None = None


def mutes(
    alerts: Iterable[Alert],
    silences: Sequence[Silence],
    pauses: Mapping[str, tuple[str, ...]],
    storm: bool,
    now: datetime,
) -> dict[str, Mute]:
    """By key of the alert. The first reason found is given: inhibition before silence, as it says more."""
    active = [alert for alert in alerts if alert.state in ACTIVE]
    by_source: dict[tuple[str, str], set[str]] = {}
    for alert in active:
        if alert.cleared_at is None:  # a cause that went away explains nothing any more
            by_source.setdefault((alert.cluster, alert.rule), set()).add(alert.subject)
    found: dict[str, Mute] = {}
    for alert in active:
        if alert.rule in NEVER_MUTED:
            continue
        mute = (
            _inhibited(alert, by_source)
            or _paused(alert, pauses)
            or (Mute("storm-groups") if storm and alert.cluster != FLEET else None)
            or _silenced(alert, silences, now)
        )
        if mute is not None:
            found[alert.key] = mute
    return found


def matches(silence: Silence, alert: Alert, now: datetime) -> bool:
    """Whether the silence holds now and means this alert."""
    return (
        silence.starts_at <= now < silence.until
        and silence.cluster in (None, alert.cluster)
        and silence.rule in (None, alert.rule)
        and silence.subject in (None, alert.subject)
    )


def _inhibited(alert: Alert, sources: Mapping[tuple[str, str], set[str]]) -> Mute | None:
    for entry in INHIBITIONS:
        subjects = sources.get((alert.cluster, entry.source))
        if subjects and alert.rule in entry.targets and (not entry.same_subject or alert.subject in subjects):
            return Mute(entry.mute)
    return None


def _paused(alert: Alert, pauses: Mapping[str, tuple[str, ...]]) -> Mute | None:
    reasons = pauses.get(alert.cluster, ())
    if alert.rule in _REDUNDANCY and any(reason.startswith(EXPECTED_PAUSES) for reason in reasons):
        return Mute("maintenance-explains")
    return None


def _silenced(alert: Alert, silences: Sequence[Silence], now: datetime) -> Mute | None:
    found = [silence for silence in silences if matches(silence, alert, now)]
    if not found:
        return None
    return Mute("silenced", min(found, key=lambda silence: (silence.until, silence.id)).id)
