"""A planned swap begins right after a probe of the load balancer, and never waits for one that does not come."""

from __future__ import annotations

import asyncio

from mirror_agent.node.probe_rhythm import ProbeRhythm

from tests.agent_samples import FakeClock, settle


async def test_it_waits_for_the_next_probe() -> None:
    clock = FakeClock()
    rhythm = ProbeRhythm(interval_s=5.0, slack_s=0.5, clock=clock)
    rhythm.asked()
    waiting = asyncio.create_task(rhythm.just_asked())
    await clock.advance(3.0)
    assert not waiting.done(), "an earlier probe is no good: it waits for the next one"
    rhythm.asked()
    await settle()
    assert waiting.result() == 3.0


async def test_it_gives_up_after_one_interval() -> None:
    clock = FakeClock()
    rhythm = ProbeRhythm(interval_s=5.0, slack_s=0.5, clock=clock)
    rhythm.asked()
    waiting = asyncio.create_task(rhythm.just_asked())
    await clock.advance(5.5)
    assert waiting.result() == 5.5


async def test_it_does_not_wait_where_nobody_probes() -> None:
    clock = FakeClock()
    rhythm = ProbeRhythm(interval_s=5.0, slack_s=0.5, clock=clock)
    assert await rhythm.just_asked() == 0.0, "never probed"
    rhythm.asked()
    await clock.advance(10.1)
    assert await rhythm.just_asked() == 0.0, "not probed for two intervals"
