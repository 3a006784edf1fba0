"""Applies the rules of `peer_health` to the stream in use, and keeps what outlives a stream: who is left out, and why.

Used by the connector's watch, which nothing blocks. It only ends a stream; everything after that is the way of a lost
link.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from mirror_agent.mirror.config import MirrorLimits
from mirror_agent.mirror.machine import boottime_s
from mirror_agent.mirror.peer_health import LEFT_OUT, RULES, Bounds, LeaveOut, Signs, Slowness, judge, sentence
from mirror_agent.mirror.stream import Stream

log: Final = logging.getLogger(__name__)

_LOOK_S: Final = 0.1


class PeerWatch:
    """One per primary. `taken_out` counts how often a replica was taken out although its link worked."""

    def __init__(self, bounds: MirrorLimits, on_change: Callable[[], None]) -> None:
        self.taken_out = 0
        self._bounds = Bounds(
            silence_s=bounds.peer_silence_s,
            stall_s=bounds.stall_s,
            barrier_s=bounds.barrier_timeout_s,
            leave_out_slow=bounds.leave_out_slow,
        )
        self._on_change = on_change
        self._new_slowness = partial(Slowness, bounds.slow_call_s, bounds.slow_for_s)
        self._stream: Stream | None = None
        self._slowness = self._new_slowness()
        self._leave_out = LeaveOut(bounds.leave_out_s)
        self._looked_s = 0.0

    @property
    def rule(self) -> str:
        """What is wrong with the replica now: why it is left out, "slow", or ""."""
        if self.left_out_s():
            return self._leave_out.rule
        return "slow" if self._slowness.slow else ""

    def left_out_s(self) -> float:
        """For how long the replica is still left out; 0: it is not."""
        return self._leave_out.remaining_s(boottime_s())

    def look(self, stream: Stream) -> None:
        """Ends the stream if a rule says so."""
        now_s = boottime_s()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        if self._stream is not stream:
            self._stream, self._slowness = stream, self._new_slowness()
        waiting_s = stream.longest_wait_s()
        slow = self._is_slow(stream, now_s, waiting_s)
        signs = Signs(now_s - stream.heard_s, now_s - stream.progress_s, stream.standing_s, waiting_s, slow)
        rule = judge(signs, self._bounds)
        if not rule or stream.lost is not None:
            return
        if rule in LEFT_OUT:
            self.taken_out += 1
            self._leave_out.take_out(rule, now_s)
        stream.fail(sentence(rule, signs))

    def gone(self) -> None:
        """There is no stream: nobody waits, so nobody is slow."""
        if self._stream is not None:
            self._stream, self._slowness = None, self._new_slowness()

    def _is_slow(self, stream: Stream, now_s: float, waiting_s: float) -> bool:
        calls, slow_calls = stream.calls
        before = self._slowness.slow
        slow = self._slowness.look(now_s, calls=calls, slow_calls=slow_calls, waiting_s=waiting_s)
        if slow != before:
            log.warning("mirror: %s", f"slow: {RULES['slow']}" if slow else "the replica is no longer slow")
            self._on_change()
        return slow
