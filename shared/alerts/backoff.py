"""When a delivery is tried again, and when it is given up. Pure.

30 s, 1, 2, 4 … minutes, at most an hour apart, for 24 hours; a notice of the watchdog is worth nothing once the next
one is due, so it is given up after two of its intervals. What is given up goes to the dead letters with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from shared.alerts.courier import Failed, Outcome, Refused, Sent
from shared.alerts.limits import FIRST_DELAY, GIVE_UP_AFTER, MAX_ATTEMPTS, MAX_DELAY, WATCHDOG_REPEAT
from shared.model.alert import Delivery


@dataclass(frozen=True, slots=True)
class Done:
    pass


@dataclass(frozen=True, slots=True)
class Again:
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class GivenUp:
    reason: str


def judged(delivery: Delivery, outcome: Outcome, now: datetime) -> Done | Again | GivenUp:
    """`delivery` counts the attempt that ended in `outcome` already."""
    match outcome:
        case Sent():
            return Done()
        case Refused(reason):
            return GivenUp(f"refused: {reason}")
        case Failed(reason):
            return _failed(delivery, reason, now)


def _failed(delivery: Delivery, reason: str, now: datetime) -> Again | GivenUp:
    if delivery.attempts >= MAX_ATTEMPTS:
        return GivenUp(f"given up after {delivery.attempts} attempts: {reason}")
    following = now + min(FIRST_DELAY * 2 ** (delivery.attempts - 1), MAX_DELAY)
    patience = 2 * WATCHDOG_REPEAT if _is_watchdog(delivery) else GIVE_UP_AFTER
    if following - delivery.created_at > patience:
        return GivenUp(f"given up after {delivery.attempts} attempts in {patience}: {reason}")
    return Again(delivery.model_copy(update={"next_attempt_at": following, "last_error": reason}))


def _is_watchdog(delivery: Delivery) -> bool:
    return all(alert.rule == "watchdog" for alert in delivery.notice.alerts)
