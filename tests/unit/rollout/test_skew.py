"""Which releases work together, and what is said of those that do not."""

from __future__ import annotations

import pytest
from mirror_agent.contract import Timing
from mirror_agent.skew import refusal, release_of

from shared.model.timing_change import mixed_timing


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("0.1.0", "0.1.0", True),
        ("0.0.9", "0.1.0", True),
        ("0.2.7", "0.1.0", True),
        ("0.1.0.dev3", "0.1.0", True),
        ("0.3.0", "0.1.0", False),
        ("1.0.0", "0.1.0", False),
        ("1.4.0", "1.2.9", False),
    ],
)
def test_one_minor_version_apart_and_no_more(one: str, other: str, together: bool) -> None:
    for first, second in ((one, other), (other, one)):
        said = refusal("node a", first, "node b", second)
        assert (said == "") is together
        assert together or (first in said and second in said)


@pytest.mark.parametrize("text", ["", "1", "1.2", "v1.2.3", "1.2.3;rm", "one"])
def test_what_is_no_version_is_refused_by_name(text: str) -> None:
    assert release_of(text) is None
    assert repr(text) in refusal("node a", text, "node b", "0.1.0")


def test_durations_that_the_nodes_could_not_mix_on_the_way() -> None:
    slow = Timing(heartbeat_s=3.0, suspect_s=12.0, promise_s=24.0)
    assert mixed_timing(Timing(), Timing(promise_s=6.0)) == ""
    assert "two steps" in mixed_timing(Timing(), slow)
    assert "two steps" in mixed_timing(slow, Timing())
