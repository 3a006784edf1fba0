"""A sample of the sweep in every test run; `python -m tests.sim --sweep 1` strikes between any two steps."""

from __future__ import annotations

import pytest

from tests.sim.sweep import OPERATIONS, blows, run_blow

EVERY = 61  # odd, so that all nodes and all kinds of blow take turns


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_that_is_struck_between_two_steps_ends_well(operation: str) -> None:
    struck = list(blows(1, stride=EVERY, operations=(operation,)))
    assert struck
    for blow in struck:
        run_blow(blow, 1)
