"""When a replica is no longer worth waiting for: a long flush that gets on is not, a disk that stands still is."""

from __future__ import annotations

import pytest
from mirror_agent.mirror import limits
from mirror_agent.mirror.peer_health import RULES, Bounds, LeaveOut, Signs, Slowness, judge, sentence

BOUNDS = Bounds(silence_s=3.0, stall_s=6.0, barrier_s=120.0)
WELL = Signs(silent_s=0.4, unapplied_s=0.4, standing_s=None, waiting_s=0.0)


@pytest.mark.parametrize(
    ("signs", "rule"),
    [
        (WELL, ""),
        (Signs(3.1, 3.1, None, 3.1), "silent"),
        # The replica's disk stands, a call waits.
        (Signs(0.4, 6.1, 6.0, 6.1), "stalled"),
        (Signs(0.4, 5.9, 5.9, 6.4), ""),
        # It stands for long and nobody minds; then somebody calls.
        (Signs(0.4, 20.0, 20.0, 0.0), ""),
        (Signs(0.4, 20.0, 20.0, 0.9), ""),
        (Signs(0.4, 20.0, 20.0, 1.0), "stalled"),
        # A flush of a disk full of dirty pages: a call waits for long, the disk gets on.
        (Signs(0.4, 0.5, 0.5, 100.0), ""),
        (Signs(0.4, 0.5, 0.5, 121.0), "unanswered"),
        # A file system that cannot tell whether it gets on.
        (Signs(0.4, 29.0, None, 29.0), ""),
        (Signs(0.4, 30.1, None, 30.1), "unapplied"),
        (Signs(0.4, 0.4, None, 1.5, slow=True), ""),
    ],
)
def test_rules(signs: Signs, rule: str) -> None:
    assert judge(signs, BOUNDS) == rule
    if rule:
        assert RULES[rule] in sentence(rule, signs)


def test_slowness_ends_the_stream_only_where_it_is_asked_for() -> None:
    signs = Signs(0.4, 0.4, None, 1.5, slow=True)
    assert judge(signs, Bounds(3.0, 6.0, 120.0, leave_out_slow=True)) == "slow"


class Calls:
    """An application of one client that looks at a clock of its own, with a look every 0.1 s."""

    def __init__(self) -> None:
        self.slowness = Slowness()
        self.now_s = 100.0
        self._calls = self._slow = 0

    def go_on(self, seconds: float, call_s: float) -> bool:
        """Calls one after the other, each of this duration; what the watch says at the end."""
        waiting_s = 0.0
        for _ in range(round(seconds * 10)):
            self.now_s += 0.1
            waiting_s += 0.1
            while waiting_s >= call_s:
                waiting_s -= call_s
                self._calls += 1
                self._slow += call_s > limits.SLOW_CALL_S
            self.slowness.look(self.now_s, calls=self._calls, slow_calls=self._slow, waiting_s=waiting_s)
        return self.slowness.slow

    def rest(self, seconds: float) -> bool:
        for _ in range(round(seconds * 10)):
            self.now_s += 0.1
            self.slowness.look(self.now_s, calls=self._calls, slow_calls=self._slow, waiting_s=0.0)
        return self.slowness.slow


def test_slow_calls_for_long_are_called_slow() -> None:
    calls = Calls()
    assert not calls.go_on(60, 0.02)
    assert not calls.go_on(9, 1.5), "one bad moment is no state"
    assert calls.go_on(25, 1.5)
    assert calls.go_on(10, 1.5)
    assert not calls.go_on(20, 0.02)


def test_a_burst_or_a_single_call_is_not() -> None:
    calls = Calls()
    for _ in range(5):
        assert not calls.go_on(4, 2.0)
        assert not calls.go_on(20, 0.05)
    assert not calls.go_on(12, 12.0), "one long flush tells nothing about the others"


def test_slowness_ends_when_nobody_calls_any_more() -> None:
    calls = Calls()
    assert calls.go_on(60, 1.5)
    assert not calls.rest(15)


def test_who_is_taken_out_again_stays_out_longer() -> None:
    left_out, now_s = LeaveOut(limits.LEAVE_OUT_S), 1000.0
    assert left_out.remaining_s(now_s) == 0.0
    waits = []
    for _ in range(7):
        left_out.take_out("stalled", now_s)
        waits.append(left_out.remaining_s(now_s))
        now_s += waits[-1] + 20.0
        assert left_out.remaining_s(now_s) == 0.0
    assert waits == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    now_s += limits.LEAVE_OUT_REMEMBERED_S
    left_out.take_out("slow", now_s)
    assert left_out.remaining_s(now_s) == limits.LEAVE_OUT_S
    assert left_out.rule == "slow"
