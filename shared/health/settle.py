"""Hysteresis: from what the looks showed to what is concluded. Pure, and indifferent to how many looks there were.

- Down is concluded, and left, only when it was seen for `CONFIRM_S` (two looks), except where the rule is beyond doubt.
- A verdict does not fall to unknown for one look in which evidence was missing.
- Four changes between well and not well within ten minutes: `flapping`, one verdict until ten calm minutes have passed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.health.history import Track
from shared.health.judge_node import AT_ONCE, Judgement, judged
from shared.health.limits import (
    CONFIRM_S,
    FLAP_CALM_S,
    FLAP_CHANGES,
    FLAP_DOWN_S,
    FLAP_WINDOW_S,
    KEPT_CHANGES,
)
from shared.health.rules import CLUSTER_RULES
from shared.health.verdict import Health


def settle_node(seen: Judgement, before: Track | None, now: datetime) -> Track:
    seen_since = before.seen_since if before is not None and before.seen is seen.state else now
    lasted_s = (now - seen_since).total_seconds()
    changes = _changes(seen, before, now)
    if _flaps(changes, now) and not _abstained(seen) and not (seen.state is Health.DOWN and lasted_s >= FLAP_DOWN_S):
        concluded = judged(Health.DEGRADED, "flapping", f"{len(changes)} changes; now: {seen.sentence}")
    else:
        was_flapping = before is not None and before.rule == "flapping"
        concluded = _concluded(seen, before, lasted_s, confirmed=was_flapping)
    return _track(concluded, seen, seen_since, before, now, changes)


def settle_cluster(seen: Judgement, before: Track | None, now: datetime) -> Track:
    seen_since = before.seen_since if before is not None and before.seen is seen.state else now
    lasted_s = (now - seen_since).total_seconds()
    concluded = seen
    if seen.state is Health.DOWN and lasted_s < CONFIRM_S and not (before is not None and before.state is Health.DOWN):
        concluded = _held(before) or Judgement(
            Health.UNKNOWN, "cluster-confirming", f"{CLUSTER_RULES['cluster-confirming']} ({seen.sentence})"
        )
    elif seen.rule == "cluster-unknown" and lasted_s < CONFIRM_S:
        concluded = _held(before) or seen
    return _track(concluded, seen, seen_since, before, now, ())


def _concluded(seen: Judgement, before: Track | None, lasted_s: float, *, confirmed: bool) -> Judgement:
    if confirmed or seen.rule in AT_ONCE or _abstained(seen) or lasted_s >= CONFIRM_S:
        return seen
    if before is None:
        return seen if seen.state is not Health.DOWN else judged(Health.UNKNOWN, "confirming", seen.sentence)
    if before.state is seen.state:
        return seen
    if seen.state is Health.DOWN:
        return _held(before) or judged(Health.UNKNOWN, "confirming", seen.sentence)
    if before.state is Health.DOWN or seen.state is Health.UNKNOWN:
        return _held(before) or seen
    return seen


def _held(before: Track | None) -> Judgement | None:
    """What was concluded before, unless that was nothing."""
    if before is None or before.state is Health.UNKNOWN:
        return None
    return Judgement(before.state, before.rule, before.sentence)


def _abstained(seen: Judgement) -> bool:
    return seen.rule in ("observer-just-started", "never-seen")


def _changes(seen: Judgement, before: Track | None, now: datetime) -> tuple[datetime, ...]:
    if before is None:
        return ()
    kept = tuple(at for at in before.changes if now - at <= timedelta(seconds=FLAP_WINDOW_S + FLAP_CALM_S))
    if Health.UNKNOWN in (seen.state, before.seen) or _well(seen.state) is _well(before.seen):
        return kept
    return (*kept, now)[-KEPT_CHANGES:]


def _well(state: Health) -> bool:
    return state in (Health.HEALTHY, Health.EXPOSED)


def _flaps(changes: tuple[datetime, ...], now: datetime) -> bool:
    """The newest change is recent, and the changes around it came close together."""
    if len(changes) < FLAP_CHANGES or (now - changes[-1]).total_seconds() > FLAP_CALM_S:
        return False
    return (changes[-1] - changes[-FLAP_CHANGES]).total_seconds() <= FLAP_WINDOW_S


def _track(
    concluded: Judgement,
    seen: Judgement,
    seen_since: datetime,
    before: Track | None,
    now: datetime,
    changes: tuple[datetime, ...],
) -> Track:
    since = before.since if before is not None and before.state is concluded.state else now
    return Track(concluded.state, concluded.rule, concluded.sentence, since, seen.state, seen_since, changes)
