"""A sample of seeds in every test run; `python -m tests.sim` runs as many as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.minimise import SCHEDULES
from tests.sim.run import replay, run
from tests.sim.schedule import from_text, generate, load, to_text

SAMPLE = 500
BLOCK = 50
FILES = sorted(SCHEDULES.glob("*.json"))


@pytest.mark.parametrize("first", range(0, SAMPLE, BLOCK))
def test_no_seed_violates_an_invariant(first: int) -> None:
    acknowledged = [len(run(seed).oracle.acknowledged) for seed in range(first, first + BLOCK)]
    assert sum(acknowledged) > 100 * BLOCK, "schedules without acknowledged writes prove nothing"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_schedule_that_once_failed_holds(path: Path) -> None:
    replay(load(path))


def test_a_seed_replays_exactly() -> None:
    first, second = (replay(generate(7), tracing=True).world.trace for _ in range(2))
    assert first == second
    assert replay(generate(7)).world.trace == []


def test_a_schedule_is_the_same_after_it_was_written_down() -> None:
    for seed in range(50):
        assert from_text(to_text(generate(seed))) == generate(seed)
