"""A node that slept (a frozen machine, a starved one) notices before it concludes anything from the silence."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from mirror_agent.core.events import Tick
from mirror_agent.core.model import Durable, Instant, State, Timing, silent_s
from mirror_agent.core.model import Node as NodeName
from mirror_agent.eventlog import EventLog
from mirror_agent.node.durable import DurableStore
from mirror_agent.node.node import Node

from tests.agent_samples import FakeClock, eventually

EVERY_S = 0.1


@pytest_asyncio.fixture
async def sleeper(tmp_path: Path) -> AsyncIterator[tuple[Node, FakeClock, EventLog]]:
    clock, log = FakeClock(), EventLog(tmp_path / "events.jsonl", stderr=io.StringIO())
    started = Instant(clock.now - 100.0)
    state = State(NodeName("a"), NodeName("b"), Timing(), started, durable=Durable(identity="id"))
    node = Node(state, store=DurableStore(tmp_path, boot_id="boot"), log=log, clock=clock)
    ticking = asyncio.create_task(node.tick(EVERY_S))
    await eventually(lambda: clock.next_wake_s is not None, "it ticks")
    yield node, clock, log
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    await node.close()
    log.close()


async def test_time_that_passes_in_order_is_no_sleep(sleeper: tuple[Node, FakeClock, EventLog]) -> None:
    node, clock, log = sleeper
    for _ in range(30):
        await clock.advance(EVERY_S)
    assert silent_s(node.state, node.now) > 100.0
    assert "node.woke" not in [event["kind"] for event in log.tail(50)]


async def test_the_first_event_after_a_sleep_begins_the_watch_afresh(
    sleeper: tuple[Node, FakeClock, EventLog],
) -> None:
    node, clock, log = sleeper
    clock.now += 10.0  # nothing ran meanwhile; then something other than the tick comes first
    node.post(Tick())
    assert silent_s(node.state, node.now) == 0.0
    (woke,) = (event for event in log.tail(50) if event["kind"] == "node.woke")
    assert woke["late_s"] == 9.9
    await clock.advance(EVERY_S)
    assert silent_s(node.state, node.now) > 0.0
