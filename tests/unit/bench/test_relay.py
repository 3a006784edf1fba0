"""The wire's queue: in order, late by the delay, and bounded."""

from __future__ import annotations

import os
from collections import deque

import pytest

from bench.mirror import relay


def test_packets_are_taken_in_order_with_the_time_they_are_due() -> None:
    receiving, sending = os.pipe()
    try:
        os.set_blocking(receiving, False)
        os.write(sending, b"one")
        under_way: deque[tuple[float, bytes]] = deque()
        relay.take(receiving, 7.5, under_way)
        os.write(sending, b"two")
        relay.take(receiving, 8.5, under_way)
        assert list(under_way) == [(7.5, b"one"), (8.5, b"two")]
    finally:
        os.close(receiving)
        os.close(sending)


def test_a_full_wire_drops_what_comes() -> None:
    receiving, sending = os.pipe()
    try:
        os.set_blocking(receiving, False)
        os.write(sending, b"late")
        under_way = deque([(1.0, b"")] * relay.QUEUE_PACKETS_MAX)
        relay.take(receiving, 2.0, under_way)
        assert len(under_way) == relay.QUEUE_PACKETS_MAX
        with pytest.raises(BlockingIOError):
            os.read(receiving, 10)
    finally:
        os.close(receiving)
        os.close(sending)
