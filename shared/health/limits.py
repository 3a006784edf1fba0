"""Durations of the verdict, in seconds of our own clock, and the relations between them."""

from __future__ import annotations

from typing import Final

PERIOD_S: Final = 30.0  # of the audit's timer
OBSERVER_GAP_S: Final = 3 * PERIOD_S  # longer without an audit: the observer starts anew, and /api/health says 503
# Three looks of an unbroken series (0, 30, 60 s; a timer may be a little early). VTOrc waits for three polls.
ABSTAIN_S: Final = 2 * PERIOD_S - 5
# "Seen at two looks": the second comes a period after the first, a little early at worst.
CONFIRM_S: Final = PERIOD_S - 5

MISSED_HEARTBEATS: Final = 3
SHORTEST_SILENCE_S: Final = 15.0  # a cold start of the control plane must not look like silence

LOOK_FRESH_S: Final = 45.0  # probes, the safety record: made in this audit or the one before
PLATFORM_FRESH_S: Final = 120.0  # instance view
SLOW_PLATFORM_FRESH_S: Final = 300.0  # metrics (grain of a minute and ingestion), resource health
NOTICE_FRESH_S: Final = 600.0  # a platform event explains what follows for ten minutes

FLAP_CHANGES: Final = 4
FLAP_WINDOW_S: Final = 600.0
FLAP_CALM_S: Final = 600.0
FLAP_DOWN_S: Final = 120.0  # a flapping node that stays away so long is down after all
KEPT_CHANGES: Final = 8

STORM_SHARE: Final = 0.2
STORM_AT_LEAST: Final = 2
STORM_CALM_S: Final = 600.0

assert ABSTAIN_S > CONFIRM_S, "an abstaining observer must not confirm anything"
assert FLAP_DOWN_S > 2 * PERIOD_S, "a node that is up every other look must stay flapping"
assert KEPT_CHANGES >= FLAP_CHANGES
assert LOOK_FRESH_S > PERIOD_S


def silent_after_s(control_plane_heartbeat_s: float) -> float:
    return max(SHORTEST_SILENCE_S, MISSED_HEARTBEATS * control_plane_heartbeat_s)
