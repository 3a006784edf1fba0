"""Who waits for which answer of the replica.

Problem: a thread that sleeps until its answer comes costs two thread switches and an interpreter hand-over per
operation, more than anything else at LAN latency. So an operation leaves what is to be done (`then`), and whoever reads
the answers does it: usually the thread of the only operation under way, which would have waited anyway.

Guarantee: every `then` is called exactly once, with True for an answer to its own frame or a later acknowledgement,
with False when the stream has ended; after `end` nothing is kept.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from mirror_agent.mirror import limits

Then = Callable[[bool], None]

# When a wait of the engine itself began: never, as far as the latency of calls goes.
_NOBODY_S: Final = math.inf

# Taken out by the status a few times a second; beyond it the oldest are dropped.
_LATENCY_SAMPLES: Final = 65536


class Waiters:
    """`latencies_ms`: how long each call of an application waited; `calls`, `slow_calls`: how many did, and how many of
    them longer than `slow_call_s`. What the engine itself waits for (a barrier, a checkpoint) does not count."""

    def __init__(self, slow_call_s: float = limits.SLOW_CALL_S) -> None:
        self._slow_call_s = slow_call_s
        self.calls = 0
        self.slow_calls = 0
        self.latencies_ms: deque[float] = deque(maxlen=_LATENCY_SAMPLES)
        self._lock = threading.Lock()
        self._number = itertools.count().__next__
        self._reached = 0
        # A heap by frame, and by frame number: an acknowledgement counts for all before it, a DONE for its own frame.
        self._applied: list[tuple[int, int, float, Then]] = []
        self._flushed: dict[int, tuple[float, Then]] = {}
        self._done: set[int] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._applied) + len(self._flushed)

    def add(self, seq: int, *, flushed: bool, then: Then, call: bool = True) -> bool | None:
        """None: `then` will be called. Otherwise the answer is known already, and `then` is not called. `call`: an
        application waits."""
        began_s = time.perf_counter() if call else _NOBODY_S
        with self._lock:
            if self._ended:
                return False
            if flushed:
                if seq in self._done:
                    self._done.remove(seq)
                    return True
                self._flushed[seq] = (began_s, then)
                return None
            if seq <= self._reached:
                return True
            heapq.heappush(self._applied, (seq, self._number(), began_s, then))
            return None

    def answered(self, applied: int, done: Iterable[int]) -> list[Then]:
        """Takes in a batch of answers: everything up to `applied`, and the frames in `done`. What is to be done now."""
        now_s = time.perf_counter()
        ready: list[Then] = []
        with self._lock:
            self._reached = applied
            while self._applied and self._applied[0][0] <= applied:
                _, _, began_s, then = heapq.heappop(self._applied)
                self._waited(now_s - began_s)
                ready.append(then)
            for seq in done:
                waiting = self._flushed.pop(seq, None)
                if waiting is None:
                    self._done.add(seq)  # it still flushes its own side
                else:
                    self._waited(now_s - waiting[0])
                    ready.append(waiting[1])
        return ready

    def _waited(self, seconds: float) -> None:
        if seconds < 0:
            return  # not a call
        self.calls += 1
        self.slow_calls += seconds > self._slow_call_s
        self.latencies_ms.append(seconds * 1000)

    def longest_s(self) -> float:
        """How long the call that waits longest has waited; 0 without one."""
        with self._lock:
            began_s = min(
                min((entry[2] for entry in self._applied), default=_NOBODY_S),
                min((entry[0] for entry in self._flushed.values()), default=_NOBODY_S),
            )
        return max(0.0, time.perf_counter() - began_s)

    def end(self) -> list[Then]:
        """The stream is lost: what is to be told so. Whoever comes later learns it from `add`."""
        with self._lock:
            self._ended = True
            left = [entry[3] for entry in self._applied] + [entry[1] for entry in self._flushed.values()]
            self._applied.clear()
            self._flushed.clear()
            self._done.clear()
        return left
