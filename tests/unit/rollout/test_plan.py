"""The order of a rolling change: scenarios as people would tell them, and crashes at every step of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from mirror_agent.contract import RolloutStage

from shared.rollout.rules import RULES, STOPPED
from tests.unit.rollout.world import LIMITS, NEW, OLD, World, farm, pair

PAGE = Path(__file__).parents[3] / "docs" / "upgrade.md"


def test_the_replica_first_then_a_swap_then_the_other_node() -> None:
    world = pair().run()
    assert world.rules == [
        "node-begins", "node-at-work", "node-done",
        "hand-over-begins", "handing-over", "handed-over",
        "node-begins", "node-at-work", "node-done", "everywhere",
    ]  # fmt: skip
    assert ([node.version for node in world.nodes], world.swaps) == ([NEW, NEW], 1)
    assert [node.starts for node in world.nodes] == [1, 1]
    assert world.ended is not None
    assert world.ended.ended == ""


def test_a_configuration_takes_the_same_way() -> None:
    world = pair(agent=None, configuration=2).run()
    assert ([node.in_use for node in world.nodes], world.swaps) == ([2, 2], 1)


def test_nothing_to_do_ends_at_once() -> None:
    world = pair(agent=None, configuration=1).run()
    assert world.rules == ["everywhere"]


def test_only_the_serving_node_lacks_it() -> None:
    """As after an upgrade that stopped half way: asked for again, it goes on from there."""
    world = pair()
    world.nodes[1].version = NEW
    world.run()
    assert (world.nodes[1].starts, world.nodes[0].starts, world.swaps) == (0, 1, 1)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_farm_goes_node_by_node_without_a_swap(count: int) -> None:
    world = farm(count).run()
    assert ([node.version for node in world.nodes], world.swaps) == ([NEW] * count, 0)


@pytest.mark.parametrize(("answer", "rule"), [("refused", "node-refused"), ("returned", "node-returned")])
def test_a_node_that_fails_stops_it_and_the_other_is_not_touched(answer: str, rule: str) -> None:
    world = pair()
    world.nodes[1].answer = RolloutStage(answer)
    world.run()
    assert world.ended is not None
    assert (world.ended.rule, world.ended.ended) == (rule, STOPPED[rule])
    assert "node b" in world.ended.sentence
    assert ([node.version for node in world.nodes], world.swaps, world.nodes[0].starts) == ([OLD, OLD], 0, 0)


def test_a_swap_that_fails_stops_it() -> None:
    world = pair()
    world.swap_fails = True
    world.run()
    assert world.ended is not None
    assert (world.ended.rule, world.ended.sentence) == ("hand-over-failed", "node a: it would not")
    assert [node.version for node in world.nodes] == [OLD, NEW]


def test_nothing_begins_while_something_else_is_at_work() -> None:
    world = pair()
    world.busy = "a repair is at work"
    for _ in range(3):
        assert world.tick().rule == "waits-for-others"
        world.live()
    world.busy = ""
    assert world.tick().rule == "node-begins"


def test_what_does_not_end_in_its_time_stops_it() -> None:
    world = pair()
    world.busy = "a repair is at work"
    world.tick()
    world.now += timedelta(seconds=LIMITS.patience_s + 1)
    step = world.tick()
    assert (step.rule, step.ended) == ("waited-too-long", "RolloutWaitedTooLong")


def test_a_node_that_never_comes_back_stops_it() -> None:
    world = pair()
    world.tick()
    world.live()
    world.now += timedelta(seconds=LIMITS.silent_s - 10)
    assert world.tick().rule == "node-at-work"
    world.now += timedelta(seconds=20)
    step = world.tick()
    assert (step.rule, step.ended) == ("node-late", "NodeLate")
    assert "silent" in step.sentence


def test_a_node_that_speaks_and_never_ends_its_turn_stops_it() -> None:
    world = pair()
    world.tick()
    world.now += timedelta(seconds=LIMITS.turn_s + 1)
    world.nodes[1].heard_at = world.now
    step = world.tick()
    assert (step.ended, "has not heard of its turn yet" in step.sentence) == ("NodeLate", True)


def test_versions_too_far_apart_are_named() -> None:
    world = pair()
    world.nodes[0].version = "0.3.0"
    step = world.tick()
    assert step.ended == "AgentVersionRefused"
    assert "0.1.0" in step.sentence
    assert "0.3.0" in step.sentence


def _refusing() -> World:
    world = pair()
    world.nodes[0].answer = RolloutStage.REFUSED
    return world


@pytest.mark.parametrize("made", [pair, lambda: pair(agent=None, configuration=7), lambda: farm(3), _refusing])
def test_a_crash_at_any_step_or_any_two_changes_nothing_in_the_end(made: Callable[[], World]) -> None:
    """Every write of the record may be lost after what went with it was done: the end is the same, each node began anew
    at most once, and there was at most one swap. (That two nodes are never away, and that a serving one is never told
    to begin anew, the world itself asserts at each step.)"""
    quiet = made().run()
    length = 3 * len(quiet.rules) + 8
    singles = [frozenset({first}) for first in range(length)]
    doubles = [frozenset(two) for two in itertools.combinations(range(length), 2)]
    bursts = [frozenset(range(first, first + 5)) for first in range(length)]
    for crashes in (*singles, *doubles, *bursts):
        world = made().run(crashes)
        assert world.ended is not None
        assert quiet.ended is not None
        assert (world.ended.rule, [node.version for node in world.nodes]) == (
            quiet.ended.rule,
            [node.version for node in quiet.nodes],
        )
        assert all(node.starts <= 1 for node in world.nodes)
        assert world.swaps <= 1


def test_the_page_has_every_rule_with_its_sentence_and_its_error() -> None:
    rows = {
        line.split("|")[1].strip(" `"): line for line in PAGE.read_text(encoding="utf-8").splitlines() if "|" in line
    }
    for rule, sentence in RULES.items():
        assert sentence in rows[rule]
        assert rule not in STOPPED or f"`{STOPPED[rule]}`" in rows[rule]
