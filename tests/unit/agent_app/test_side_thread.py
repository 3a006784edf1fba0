"""A blocking call beside the loop: its result, its hanging, and the one right after it."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from mirror_agent.app.side_thread import SideThread

from tests.agent_samples import eventually


async def test_calls_that_follow_at_once_are_not_taken_for_hanging() -> None:
    side = SideThread("quick")
    assert [await side.call(partial(int, number), deadline_s=30.0) for number in range(300)] == list(range(300))


async def test_a_call_that_hangs_refuses_the_next_until_it_ends() -> None:
    side, go_on = SideThread("slow"), threading.Event()
    with pytest.raises(TimeoutError):
        await side.call(go_on.wait, deadline_s=0.01)
    with pytest.raises(TimeoutError, match="an earlier call still hangs"):
        await side.call(int, deadline_s=30.0)
    go_on.set()
    await eventually(lambda: not any(thread.name == "slow" for thread in threading.enumerate()), "the thread ends")
    assert await side.call(int, deadline_s=30.0) == 0


async def test_an_exception_reaches_the_caller_and_frees_the_thread() -> None:
    side = SideThread("failing")
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await side.call(lambda: 1 / 0, deadline_s=30.0)
