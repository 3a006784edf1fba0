"""The rule by which an engine counts as hung, with the observer's sleep in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mirror_agent.mirror.liveness import STEPS, silence


class Observer:
    """Sleeps as the test says: `during` is called for every step and may let the engine say something."""

    def __init__(self, during: Callable[[int], int]) -> None:
        self._during = during
        self.lines = 0
        self.steps = 0

    async def sleep(self, seconds: float) -> None:
        assert seconds == 0.5
        self.steps += 1
        self.lines += self._during(self.steps)
        assert self.steps < 1000, "it never counts as hung"

    def watch(self) -> None:
        asyncio.run(silence(lambda: self.lines, within_s=5.0, sleep=self.sleep))


def test_one_that_says_nothing_more_is_hung_after_the_limit() -> None:
    observer = Observer(lambda step: 0)
    observer.watch()
    assert observer.steps == STEPS


def test_a_word_just_before_the_limit_begins_it_anew() -> None:
    observer = Observer(lambda step: 1 if step in (STEPS - 1, 2 * STEPS - 2) else 0)
    observer.watch()
    assert observer.steps == 3 * STEPS - 2


def test_one_that_goes_on_is_never_hung() -> None:
    observer = Observer(lambda step: 3 if step <= 900 else 0)
    observer.watch()
    assert observer.steps == 900 + STEPS


def test_an_observer_that_stood_still_has_missed_one_step_only() -> None:
    """Both stood still, say for a minute, in step 5; the engine's next line comes after the observer's."""
    observer = Observer(lambda step: 0 if step in (5, 6) else 1 if step < 50 else 0)
    observer.watch()
    assert observer.steps == 49 + STEPS
