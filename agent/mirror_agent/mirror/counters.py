"""Counters of the engine: rates, and a histogram of how long callers waited for the replica.

The hot path pays one `deque.append` per waited acknowledgement (`Stream.latencies_ms`, bounded); everything else
happens when the status is told, a few times a second, in the thread that tells it.

Limits: if the status is not told for so long that the deque overflows, the oldest samples are missing from the
histogram. Percentiles are of the last 10 to 20 s, interpolated inside a bucket (its bounds differ by a factor of 1.6).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Final

from mirror_agent.mirror.status import LatencyStatus

# 25 us (below one loopback round trip) to 17 s (above every time-out of a call): 0.025 ms x 1.6^n, rounded.
LATENCY_BOUNDS_S: Final = tuple(float(f"{0.000025 * 1.6**n:.2g}") for n in range(29))
_WINDOW_S: Final = 10.0
# Rates are of the last so many seconds.
_RATE_S: Final = 5.0
_MS: Final = 1000.0


class Latencies:
    """Takes samples (milliseconds) out of a deque that other threads append to."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._sum_s = 0.0
        self._windows = [list(self._counts), list(self._counts)]
        self._turned_s = clock()

    def take(self, samples_ms: deque[float]) -> None:
        now_s = self._clock()
        if now_s - self._turned_s >= _WINDOW_S:
            self._turned_s = now_s
            self._windows = [self._windows[1], [0] * len(self._counts)]
        recent = self._windows[1]
        for _ in range(len(samples_ms)):
            sample_s = samples_ms.popleft() / _MS
            bucket = bisect_left(LATENCY_BOUNDS_S, sample_s)
            self._counts[bucket] += 1
            recent[bucket] += 1
            self._sum_s += sample_s

    def status(self) -> LatencyStatus:
        return LatencyStatus(tuple(self._counts), round(self._sum_s, 6))

    def percentile_ms(self, percent: float) -> float | None:
        """Of the last seconds; None without a sample."""
        counts = [older + newer for older, newer in zip(*self._windows, strict=True)]
        total = sum(counts)
        if total == 0:
            return None
        wanted, below = total * percent / 100, 0
        for bucket, count in enumerate(counts):
            if count and below + count >= wanted:
                low: float = LATENCY_BOUNDS_S[bucket - 1] if bucket else 0.0
                high: float = LATENCY_BOUNDS_S[min(bucket, len(LATENCY_BOUNDS_S) - 1)]
                inside = (wanted - below) / count
                return float(round((low + (high - low) * inside) * _MS, 3))
            below += count
        return None


class Rate:
    """Change of a counter in a second, over the last seconds. A counter that begins anew counts from zero."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._points: deque[tuple[float, int]] = deque()

    def of(self, value: int) -> float:
        now_s = self._clock()
        points = self._points
        if points and value < points[-1][1]:
            points.clear()
        points.append((now_s, value))
        while len(points) > 2 and now_s - points[0][0] > _RATE_S:
            points.popleft()
        began_s, first = points[0]
        return round((value - first) / (now_s - began_s), 1) if now_s > began_s else 0.0


class Counters:
    """All of one engine in one role."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.latencies = Latencies(clock)
        self.operations = Rate(clock)
        self.bytes = Rate(clock)
        self.resync_bytes = Rate(clock)
        self._past_bytes = 0
        self._stream_bytes = 0

    def total_bytes(self, stream_bytes: int) -> int:
        """Bytes over all streams of this role, from those of the current one, which begins with 0."""
        if stream_bytes < self._stream_bytes:
            self._past_bytes += self._stream_bytes
        self._stream_bytes = stream_bytes
        return self._past_bytes + stream_bytes
