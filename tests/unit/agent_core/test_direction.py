"""The table of directions is closed, has no dead row, and two nodes that use it never copy over the only good data."""

from __future__ import annotations

from itertools import combinations

from mirror_agent.core.direction import FACTS, ROWS, Row, Source, direction
from mirror_agent.core.rules import RULES

from tools.automaton_doc import Copy, Meeting, meetings


def good(copy: Copy, *, listed: bool) -> bool:
    return listed and copy.complete and copy.trusted


def test_there_is_a_row_for_whatever_holds_and_facts_for_every_row() -> None:
    chosen: set[Row] = set()
    for size in range(len(FACTS) + 1):
        chosen |= {direction(frozenset(known)) for known in combinations(FACTS, size)}
    assert chosen == set(ROWS)
    assert {row.rule for row in ROWS} <= set(RULES)
    assert {fact for row in ROWS for fact in (*row.needs, *row.lacks)} <= set(FACTS)


def test_one_begins_wherever_a_listed_copy_is_complete_and_trusted() -> None:
    for met in meetings():
        if good(met.a, listed=True) or good(met.b, listed=met.b_listed):
            assert Source.MINE in (met.row("a").source, met.row("b").source), met


def test_whoever_begins_is_listed_and_complete_and_both_begin_only_when_both_are() -> None:
    for met in (met for met in meetings() if met.claimed):
        if met.row("a").source is Source.MINE:
            assert met.a.complete, met
        if met.row("b").source is Source.MINE:
            assert met.b_listed, met
            assert met.b.complete, met
            assert good(met.b, listed=True), met


def test_a_copy_that_lost_its_memory_lets_a_listed_one_that_did_not_go_first() -> None:
    for met in meetings():
        if met.claimed and not met.a.trusted and met.b_listed and met.b.trusted and met.b.complete:
            assert met.row("a").source is not Source.MINE, met
            assert met.row("b").source is Source.MINE, met


def test_an_operator_is_asked_only_when_no_listed_copy_is_good() -> None:
    asked = [met for met in meetings() if "operator" in met.outcome]
    assert asked
    for met in asked:
        assert not good(met.a, listed=True), met
        assert not good(met.b, listed=met.b_listed), met
    assert Meeting(True, True, Copy(True, False), Copy(False, True)) in asked
