"""Nothing is left out without proof: every missing one leads to a full comparison, by a rule that says which."""

from __future__ import annotations

import itertools

import pytest
from mirror_agent.mirror.resync_choice import (
    CTIME_MARGIN_NS,
    DISTRUSTED,
    RULES,
    Clock,
    Gap,
    Held,
    Kind,
    choose,
    clock_gap,
    floor_ns,
    may_skip,
)

NEW, OLD = Held("s", 20, exact=True), Held("s", 10, exact=True)


def test_the_newest_common_checkpoint_is_the_base() -> None:
    assert choose((NEW, OLD), (NEW, OLD)).base == ("s", 20)
    # The replica records first: after a crash in between it holds one more.
    assert choose((OLD,), (NEW, OLD)).base == ("s", 10)
    assert choose((NEW,), (NEW,)).kind is Kind.RANGES


def test_ranges_need_a_complete_log_here_and_a_replica_that_did_not_serve() -> None:
    assert choose((Held("s", 20),), (NEW,)).rule == "candidates"
    assert choose((NEW,), (Held("s", 20, served=True),)).rule == "candidates"
    assert choose((Held("s", 20, served=True, exact=True),), (Held("s", 20),)).rule == "ranges"


@pytest.mark.parametrize("gap", [gap for gap in Gap if gap])
def test_every_gap_on_either_side_is_a_full_comparison_with_its_name(gap: Gap) -> None:
    lame = Held("s", 20, gap)
    here, there = choose((lame,), (NEW,)), choose((Held("s", 20),), (lame,))
    assert (here.rule, here.kind, here.base) == (f"{gap}-here", Kind.FULL, None)
    assert (there.rule, there.kind, there.base) == (f"{gap}-there", Kind.FULL, None)


def test_a_torn_replica_is_filled_by_a_primary_that_lost_nothing_itself() -> None:
    torn = Held("s", 20, Gap.TORN)
    assert choose((NEW,), (torn,)).rule == "ranges"
    assert choose((Held("s", 20),), (torn,)).rule == "torn-there"
    assert choose((Held("s", 20, Gap.TORN),), (NEW,)).rule == "torn-here"


def test_an_older_checkpoint_without_a_gap_serves_as_well() -> None:
    assert choose((Held("s", 20, Gap.CLOCK), OLD), (NEW, OLD)).base == ("s", 10)


def test_nothing_in_common() -> None:
    assert choose((), (NEW,)).rule == "no-checkpoint-here"
    assert choose((NEW,), ()).rule == "no-checkpoint-there"
    assert choose((NEW,), (Held("t", 20),)).rule == "no-common-checkpoint"
    assert choose((NEW,), (OLD,)).rule == "no-common-checkpoint"


def test_reasons_to_compare_everything_come_first() -> None:
    assert choose((NEW,), (NEW,), asked_for_full=True).rule == "asked-for"
    assert choose((NEW,), (NEW,), differences_stand=True).rule == "differences-found"
    assert choose((NEW,), (NEW,), shortcut_failed=True).rule == "shortcut-failed"


def test_a_base_is_named_exactly_by_the_rules_that_leave_something_out() -> None:
    helds = [
        Held("s", 20, gap, served, exact) for gap, served, exact in itertools.product(Gap, (False, True), (False, True))
    ]
    seen = set()
    for mine, peer in itertools.product([*helds, OLD], repeat=2):
        choice = choose((mine,), (peer,))
        seen.add(choice.rule)
        assert (choice.base is None) == (choice.kind is Kind.FULL)
        assert choice.sentence
        if choice.base is not None:
            assert not mine.gap
            assert not peer.gap or (peer.gap is Gap.TORN and mine.exact)
    special = {
        "configured",
        "asked-for",
        "differences-found",
        "shortcut-failed",
        "no-checkpoint-here",
        "no-checkpoint-there",
    }
    assert seen | special == set(RULES)


def test_a_clock_behind_the_checkpoint_proves_nothing() -> None:
    then = Clock("boot", 1_000, 500)
    assert clock_gap(then, Clock("boot", 2_000, 1_500)) is Gap.NONE
    assert clock_gap(then, Clock("other", 2_000, 3)) is Gap.NONE
    assert clock_gap(then, Clock("other", 999, 3)) is Gap.CLOCK
    assert clock_gap(then, Clock("boot", 999, 1_500)) is Gap.CLOCK
    assert clock_gap(then, Clock("boot", 2_000, 400)) is Gap.CLOCK


def test_change_times_are_compared_with_a_margin() -> None:
    assert floor_ns(Clock("boot", 10 * CTIME_MARGIN_NS, 0)) == 9 * CTIME_MARGIN_NS


def test_only_what_is_unchanged_on_both_sides_of_a_proven_place_is_left_out() -> None:
    left_out = [
        flags
        for flags in itertools.product((False, True), repeat=3)
        if may_skip(changed_here=flags[0], changed_there=flags[1], identity_proven=flags[2])
    ]
    assert left_out == [(False, False, True)]


def test_a_configuration_forbids_every_shortcut() -> None:
    choice = choose((NEW,), (NEW,), always_everything=True)
    assert (choice.rule, choice.base, choice.kind) == ("configured", None, Kind.FULL)
    assert "configured" not in DISTRUSTED, "nothing speaks against the checkpoints"
