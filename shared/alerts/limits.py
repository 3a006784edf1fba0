"""Limits and durations of alerts, with the relations between them. Sources: Alertmanager's and PagerDuty's defaults."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

GROUP_WAIT: Final = timedelta(seconds=30)  # so that what breaks together is told together
GROUP_INTERVAL: Final = timedelta(minutes=5)
REPEAT: Final = timedelta(hours=4)
WATCHDOG_REPEAT: Final = timedelta(minutes=5)
assert GROUP_WAIT < GROUP_INTERVAL < REPEAT

FLAPPING_ONSETS: Final = 4  # a condition that came so often within one pending incident fires without its `for`
RESOLVED_SHOWN: Final = timedelta(hours=1)  # a resolved alert stays in the list of open ones for so long
assert RESOLVED_SHOWN > GROUP_INTERVAL, "a resolution must be told before its row is put away"
FORGET_AFTER: Final = timedelta(days=30)  # what a group knows of an alert whose row vanished without a resolution

MAX_NOTICE_ALERTS: Final = 50  # in one notice; the rest is counted
MAX_OPENED_PER_TICK: Final = 500  # a storm opens the rest in the next ticks
MAX_SILENCES: Final = 500
MAX_SILENCE: Final = timedelta(days=30)

# Deliveries: 30 s, 1, 2, 4, 8 … min, at most 1 h apart, given up after 24 h.
MAX_ATTEMPTS: Final = 30
FIRST_DELAY: Final = timedelta(seconds=30)
MAX_DELAY: Final = timedelta(hours=1)
GIVE_UP_AFTER: Final = timedelta(hours=24)
CLAIM: Final = timedelta(seconds=60)  # a sender that died gives its delivery back after this
SEND_TIMEOUT_S: Final = 10.0
assert timedelta(seconds=SEND_TIMEOUT_S) < CLAIM, "a claim must outlive the attempt it protects"
MAX_SENT_PER_TICK: Final = 64
SENT_AT_ONCE: Final = 8
MAX_PENDING_READ: Final = 500
