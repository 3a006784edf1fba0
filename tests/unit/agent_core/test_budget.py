"""The time budget refuses what cannot work and says what the rest costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mirror_agent.core.budget import UnsafeTiming, budget
from mirror_agent.core.model import Timing


def test_the_defaults_stay_within_fifteen_seconds() -> None:
    found = budget(Timing())
    assert found.expected_s < found.worst_s <= 15.0
    assert "promise 4 s" in found.explanation


@pytest.mark.parametrize(
    ("timing", "words"),
    [
        (replace(Timing(), heartbeat_s=1.0), ("suspectS=2.0", "at least 3")),
        (replace(Timing(), promise_s=3.0), ("promiseS=3.0", "at least 4")),
        (replace(Timing(), promise_s=100.0), ("marginS=0.5", "at least 1")),
    ],
)
def test_a_contradiction_names_the_value_and_the_remedy(timing: Timing, words: tuple[str, ...]) -> None:
    with pytest.raises(UnsafeTiming) as refusal:
        budget(timing)
    for word in words:
        assert word in str(refusal.value)


def test_every_contradiction_is_named_at_once() -> None:
    with pytest.raises(UnsafeTiming, match=r"suspectS=.*promiseS="):
        budget(replace(Timing(), heartbeat_s=2.0, promise_s=1.0))
