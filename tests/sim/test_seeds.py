"""A sample of seeds in every test run; `python -m tests.sim.run` runs as many as wanted."""

from __future__ import annotations

import pytest

from tests.sim.run import run

SAMPLE = 150
BLOCK = 30


@pytest.mark.parametrize("first", range(0, SAMPLE, BLOCK))
def test_no_seed_violates_an_invariant(first: int) -> None:
    for seed in range(first, first + BLOCK):
        pair = run(seed)
        assert pair.oracle.acknowledged, "a schedule without an acknowledged write proves nothing"


def test_a_seed_replays_exactly() -> None:
    assert run(7).world.trace == run(7).world.trace
