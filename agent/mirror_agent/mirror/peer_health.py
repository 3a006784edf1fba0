"""Whether the replica is still worth waiting for: pure, from what the stream knows of it, by named rules.

Every call of a pair that acknowledges together waits for the replica, so a replica that does not answer is an outage.
The rules below end the stream; what follows is the way of every lost link: calls are parked, the supervisor publishes
this node alone, and only then are they answered. Nothing here acknowledges anything.

`stalled` is the short one: it needs the replica's own word that its disk stands still (`standstill`), and somebody who
waits. A long flush that gets on never breaks it. The others are the longer limits for what cannot be told apart.

Slowness is another matter: a replica that answers late still answers, and taking it out costs the redundancy for which
the pair exists. So it is told (`slow`), and ends the stream only where the configuration says so.

Left out: a replica that was taken out for standing still or slowness comes back through a resync, each time later if it
does it again, so that a bad disk costs its pause once and not every minute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mirror_agent.mirror import limits

RULES: Final[Mapping[str, str]] = {
    "silent": "Nothing was heard from the replica.",
    "stalled": "The replica's disk stands still while a call waits for it.",
    "unapplied": "The replica has applied nothing of what it was sent.",
    "unanswered": "A call has waited for the replica as long as a barrier may take.",
    "slow": "Half of the calls wait for the replica longer than a second.",
}
# After these the replica is kept out for a while: its link works, so it would be back at once.
LEFT_OUT: Final = frozenset({"stalled", "unapplied", "unanswered", "slow"})

# A call must have waited so long: less happens on every busy machine, and the word of the replica is half a second old.
_WAITED_S: Final = 1.0


@dataclass(frozen=True)
class Signs:
    """What is known of the replica at one moment, in seconds. `standing_s`: its own word, None if it has none;
    `waiting_s`: how long the call that waits longest has waited, 0 without one."""

    silent_s: float
    unapplied_s: float
    standing_s: float | None
    waiting_s: float
    slow: bool = False


@dataclass(frozen=True)
class Bounds:
    """Seconds; `leave_out_slow`: slowness ends the stream."""

    silence_s: float
    stall_s: float
    barrier_s: float
    leave_out_slow: bool = False


def judge(signs: Signs, bounds: Bounds) -> str:
    """The rule by which the stream ends now; "" if it goes on."""
    if signs.silent_s > bounds.silence_s:
        return "silent"
    standing_s = signs.standing_s
    if standing_s is not None and standing_s >= bounds.stall_s and signs.waiting_s >= _WAITED_S:
        return "stalled"
    if signs.unapplied_s > limits.APPLY_STALL_S:
        return "unapplied"
    if signs.waiting_s > bounds.barrier_s:
        return "unanswered"
    if signs.slow and bounds.leave_out_slow:
        return "slow"
    return ""


def sentence(rule: str, signs: Signs) -> str:
    """The rule's sentence, with the figure it rests on."""
    figure = {
        "silent": f"for {signs.silent_s:.1f} s",
        "stalled": f"for {signs.standing_s or 0.0:.1f} s",
        "unapplied": f"for {signs.unapplied_s:.1f} s",
        "unanswered": f"for {signs.waiting_s:.1f} s",
        "slow": f"the longest now for {signs.waiting_s:.1f} s",
    }[rule]
    return f"{rule}: {RULES[rule]} ({figure})"


class Slowness:
    """Says whether calls wait too long for the replica, over a window; begins late and ends late, so it does not flap.

    Slow calls are those that waited longer than `call_s`. Begins when for `for_s` at least half of the calls of the
    last `for_s` were slow, ends when fewer than a quarter are, or nobody called for that long.
    """

    def __init__(self, call_s: float = limits.SLOW_CALL_S, for_s: float = limits.SLOW_FOR_S) -> None:
        self.slow = False
        self._call_s = call_s
        self._for_s = for_s
        self._points: deque[tuple[float, int, int]] = deque()
        self._since_s: float | None = None

    def look(self, now_s: float, *, calls: int, slow_calls: int, waiting_s: float) -> bool:
        """`calls`, `slow_calls`: counters that only grow; `waiting_s`: of the call that waits longest now."""
        points = self._points
        points.append((now_s, calls, slow_calls))
        while len(points) > 2 and now_s - points[1][0] >= self._for_s:
            points.popleft()
        late = 1 if waiting_s > self._call_s else 0
        made = calls - points[0][1] + late
        slow = slow_calls - points[0][2] + late
        if self.slow:
            self.slow = made > 0 and 4 * slow >= made
            self._since_s = None
        elif made >= limits.SLOW_CALLS_MIN and 2 * slow >= made:
            self._since_s = now_s if self._since_s is None else self._since_s
            self.slow = now_s - self._since_s >= self._for_s
        else:
            self._since_s = None
        return self.slow


class LeaveOut:
    """How long a replica that was taken out stays out: `first_s`, then longer. One per primary."""

    def __init__(self, first_s: float) -> None:
        self.rule = ""
        self._first_s = first_s
        self._times_s: deque[float] = deque()
        self._until_s = 0.0

    def take_out(self, rule: str, now_s: float) -> None:
        while self._times_s and now_s - self._times_s[0] > limits.LEAVE_OUT_REMEMBERED_S:
            self._times_s.popleft()
        delay_s = min(self._first_s * 2 ** len(self._times_s), limits.LEAVE_OUT_MAX_S)
        self._times_s.append(now_s)
        self._until_s = now_s + delay_s
        self.rule = rule

    def remaining_s(self, now_s: float) -> float:
        return max(0.0, self._until_s - now_s)


assert set(RULES) >= LEFT_OUT
