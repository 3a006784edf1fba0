"""The time budget: refuses durations that cannot work together, and says what outage they lead to.

The relations come from the protocol, not from taste; each is explained where it is checked. Safety never depends on
them (I4): a bad set costs availability, so it is refused at start instead of at three in the morning.
"""

from __future__ import annotations

from dataclasses import dataclass

from .model import Timing

# Two clocks that count the same hour may differ by 0.1 % before the platform calls them broken; the margin must cover
# ten times that over a promise.
CLOCK_RATE_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Budget:
    """Outage seen by a client when the primary machine dies, in seconds, without the application's own start time."""

    expected_s: float
    worst_s: float
    explanation: str


class UnsafeTiming(ValueError):
    """The durations contradict each other; the message names the values, the relation and the remedy."""


def budget(timing: Timing) -> Budget:
    """Check the relations and return the outage they imply.

    Raises `UnsafeTiming` with every broken relation, not only the first.
    """
    broken: list[str] = []
    if 3 * timing.heartbeat_s > timing.suspect_s:
        broken.append(
            f"suspectS={timing.suspect_s} is less than three heartbeats of {timing.heartbeat_s} s: one lost packet "
            f"would be a suspicion; set suspectS to at least {3 * timing.heartbeat_s:g}"
        )
    if timing.suspect_s + timing.witness_deadline_s > timing.promise_s:
        needed = timing.suspect_s + timing.witness_deadline_s
        broken.append(
            f"promiseS={timing.promise_s} ends before a primary that lost its peer (suspectS={timing.suspect_s}) could "
            f"ask the witness (witnessDeadlineS={timing.witness_deadline_s}): it would stop serving for nothing; set "
            f"promiseS to at least {needed:g}"
        )
    if timing.margin_s < timing.promise_s * CLOCK_RATE_TOLERANCE:
        broken.append(
            f"marginS={timing.margin_s} does not cover clocks that differ by {CLOCK_RATE_TOLERANCE:.0%} over a promise "
            f"of {timing.promise_s} s; set marginS to at least {timing.promise_s * CLOCK_RATE_TOLERANCE:g}"
        )
    if broken:
        raise UnsafeTiming("; ".join(broken))
    # Silence begins up to one heartbeat after the last promise; the takeover reads, then writes the record; the load
    # balancer notices the new node within interval x threshold, half an interval earlier on average.
    taken_over_s = timing.promise_s + timing.margin_s + timing.heartbeat_s
    probe_s = timing.probe_interval_s * timing.probe_threshold
    worst = taken_over_s + 2 * timing.witness_deadline_s + probe_s
    expected = timing.promise_s + timing.margin_s + 0.2 + probe_s - timing.probe_interval_s / 2
    explanation = (
        f"promise {timing.promise_s:g} s + margin {timing.margin_s:g} s + heartbeat {timing.heartbeat_s:g} s + witness "
        f"read and write at most {2 * timing.witness_deadline_s:g} s + probe {timing.probe_interval_s:g} s × "
        f"{timing.probe_threshold} = at most {worst:g} s, about {expected:g} s expected, plus the application's start"
    )
    return Budget(expected_s=expected, worst_s=worst, explanation=explanation)
