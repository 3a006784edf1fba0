"""Histogram and rates do their arithmetic on a clock that the test turns."""

from __future__ import annotations

from collections import deque

import pytest
from mirror_agent.mirror.counters import LATENCY_BOUNDS_S, Counters, Latencies, Rate


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_bounds_grow_and_cover_a_loopback_and_a_time_out() -> None:
    assert list(LATENCY_BOUNDS_S) == sorted(set(LATENCY_BOUNDS_S))
    assert LATENCY_BOUNDS_S[0] <= 0.00003
    assert LATENCY_BOUNDS_S[-1] > 10


def test_percentiles_are_within_a_bucket_and_forget() -> None:
    clock = Clock()
    latencies = Latencies(clock)
    assert latencies.percentile_ms(50) is None
    latencies.take(deque([1.0] * 98 + [100.0] * 2))
    p50, p99 = latencies.percentile_ms(50), latencies.percentile_ms(99)
    assert p50 is not None
    assert p99 is not None
    assert 1 / 1.6 <= p50 <= 1.6
    assert 100 / 1.6 <= p99 <= 160
    told = latencies.status()
    assert sum(told.counts) == 100
    assert told.sum_s == pytest.approx(0.298)
    for _ in range(2):
        clock.now_s += 11
        latencies.take(deque())
    assert latencies.percentile_ms(50) is None
    assert sum(latencies.status().counts) == 100  # the histogram never forgets


def test_slower_than_every_bound_is_counted() -> None:
    latencies = Latencies(Clock())
    latencies.take(deque([1e6]))
    assert latencies.status().counts[-1] == 1
    assert latencies.percentile_ms(99) == LATENCY_BOUNDS_S[-1] * 1000


def test_a_rate_is_of_the_last_seconds_and_survives_a_new_beginning() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.of(0) == 0
    clock.now_s += 2
    assert rate.of(1000) == 500
    clock.now_s += 10
    assert rate.of(1000) <= 100
    assert rate.of(5) == 0
    clock.now_s += 1
    assert rate.of(25) == 20


def test_bytes_go_on_over_streams() -> None:
    counters = Counters(Clock())
    assert [counters.total_bytes(sent) for sent in (10, 30, 0, 5)] == [10, 30, 30, 35]
