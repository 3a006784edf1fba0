"""A sample of the simulator of resyncs, and bugs that it must find (`make sim` runs more)."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from mirror_agent.mirror.resync_choice import RULES, Kind

from tests.sim_resync.mutants import KNOWN, MUTANTS, finds
from tests.sim_resync.world import run_cut_off, run_seed

FOUND_BY: dict[str, int] = json.loads(KNOWN.read_text(encoding="utf-8"))


def test_a_sample_of_schedules_leaves_no_difference_and_is_not_hollow() -> None:
    rules: Counter[str] = Counter()
    skipped = by_ranges = 0
    for seed in range(40):
        story = run_seed(seed)
        rules += story.rules
        skipped += story.count.skipped
        by_ranges += story.count.by_ranges
    shortcuts = sum(count for rule, count in rules.items() if RULES[rule].kind is not Kind.FULL)
    assert shortcuts > sum(rules.values()) / 2, rules
    assert skipped > 100
    assert by_ranges > 20


def test_both_nodes_without_power_in_a_resync() -> None:
    for seed in range(60):
        run_cut_off(seed)


def test_a_seed_replays_exactly() -> None:
    assert run_seed(3).steps == run_seed(3).steps


def test_every_bug_is_hunted() -> None:
    assert FOUND_BY.keys() == MUTANTS.keys()


@pytest.mark.parametrize("name", MUTANTS)
def test_the_judge_finds_the_bug(name: str) -> None:
    assert finds(name, FOUND_BY[name])
