"""Whatever the facts do: a node that may serve is never called sick, and clocks of nodes are not even heard."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.health.assess import assess
from shared.health.history import History
from shared.health.rules import RULES
from shared.health.storm import advance_fleet
from shared.health.verdict import ClusterVerdict, Fleet, Health
from tests.golden.verdict_story import BASE, SILENT_AFTER_S, START, changed, facts_of

ROLES = ["STOP", "WAIT", "ALONE", "PRIM", "SECOND"]
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "beat.age": st.sampled_from([1, 14, 16, 300]),
    "beat.role": st.sampled_from(ROLES),
    "beat.inSync": st.sampled_from(["", "a", "b", "ab"]),
    "beat.epoch": st.integers(3, 6),
    "beat.link": st.sampled_from(["none", "live", "lost"]),
    "beat.application": st.sampled_from(["running", "failed", "stopped"]),
    "beat.mirrorError": st.sampled_from([None, "disk full"]),
    "probe.outcome": st.sampled_from(["serving", "standby", "timeout", "refused", "unexpected"]),
    "probe.age": st.sampled_from([0, 40, 90]),
    "power": st.sampled_from([None, {"age": 1, "state": "running"}, {"age": 1, "state": "absent"}]),
}
NODE_CHANGE = st.tuples(st.sampled_from("ab"), st.sampled_from(sorted(CHANGES))).flatmap(
    lambda pair: st.tuples(st.just(f"{pair[0]}.{pair[1]}"), CHANGES[pair[1]])
)
WITNESS_CHANGE = st.tuples(
    st.just("witness"),
    st.sampled_from([None, *({"age": 0, "epoch": 5, "primary": p, "inSync": p or "a"} for p in ("", "a", "b"))]),
)
STEP = st.tuples(st.sampled_from([1, 30, 30, 30, 95]), st.lists(NODE_CHANGE | WITNESS_CHANGE, max_size=4))


def _sacred(situation: dict[str, Any], node: str) -> bool:
    """Said again, apart from the code: the node serves by a fresh fact, or the record names it."""
    known = situation[node]
    beat, probe, record = known["beat"], known["probe"], situation.get("witness")
    claims = beat["age"] <= SILENT_AFTER_S and beat["role"] in ("PRIM", "ALONE")
    answers = probe["age"] <= 45 and probe["outcome"] == "serving"
    return claims or answers or record is None or record["primary"] in (node, "")


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=25))
def test_a_node_that_may_serve_is_never_sick(steps: list[tuple[int, list[tuple[str, Any]]]]) -> None:
    situation, history, now, watching = BASE, History(None, SILENT_AFTER_S), START, START
    for seconds, changes in steps:
        now += timedelta(seconds=seconds)
        if seconds > 90:
            watching = now
        situation = changed(situation, dict(changes))
        verdict, history = assess("c", "id", facts_of(situation, now), replace(history, watching_since=watching), now)
        assert verdict.rule in RULES
        for node in verdict.sick:
            assert not _sacred(situation, node)
            peer = "b" if node == "a" else "a"
            assert verdict.serving == peer
            assert situation[peer]["beat"]["age"] <= SILENT_AFTER_S
            assert situation["witness"]["primary"] == peer
            assert (now - watching).total_seconds() >= 55, "an observer that just started accuses nobody"
        for name, found in verdict.nodes.items():
            assert found.rule in RULES
            if found.state is Health.HEALTHY and found.since == now:
                assert situation[name]["beat"]["age"] <= SILENT_AFTER_S


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(NODE_CHANGE, max_size=6), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_order_and_doubling_of_facts_change_nothing(steps: list[list[tuple[str, Any]]], random: Any) -> None:
    situation, history, now = BASE, History(START - timedelta(hours=1), SILENT_AFTER_S), START
    for changes in steps:
        now += timedelta(seconds=30)
        situation = changed(situation, dict(changes))
        facts = facts_of(situation, now)
        shuffled = [*facts, *facts]
        random.shuffle(shuffled)
        verdict, remembered = assess("c", "id", facts, history, now)
        other, also = assess("c", "id", shuffled, history, now)
        assert (verdict.state, verdict.rule, verdict.sick) == (other.state, other.rule, other.sick)
        assert remembered == also
        history = remembered


@settings(max_examples=100, deadline=None)
@given(st.lists(NODE_CHANGE, max_size=6), st.integers(1, 4))
def test_a_doubled_audit_concludes_the_same(changes: list[tuple[str, Any]], times: int) -> None:
    situation = changed(BASE, dict(changes))
    history = History(START - timedelta(hours=1), SILENT_AFTER_S)
    first, once = assess("c", "id", facts_of(situation, START), history, START)
    for _ in range(times):
        again, once = assess("c", "id", facts_of(situation, START), once, START)
        assert (again.state, again.rule, again.sick) == (first.state, first.rule, first.sick)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 10), min_size=1, max_size=60))
def test_a_storm_is_left_only_after_ten_calm_minutes(sick_counts: list[int]) -> None:
    """And while it holds, its time of entry does not move."""
    well, ill = _verdict(silent=False), _verdict(silent=True)
    fleet, now, calm_for_s = Fleet(), START, 0
    for count in sick_counts:
        now += timedelta(seconds=120)
        before = fleet
        fleet, rule = advance_fleet(before, [ill] * count + [well] * (10 - count), now)
        calm_for_s = 0 if count > 2 else calm_for_s + 120
        assert not (count > 2 and not fleet.storm)
        if before.storm and fleet.storm:
            assert fleet.entered_at == before.entered_at
        if rule == "storm-left":
            assert calm_for_s >= 600


def _verdict(*, silent: bool) -> ClusterVerdict:
    changes = {"b.beat.age": 300, "b.probe.outcome": "timeout", "a.beat.link": "lost"} if silent else {}
    facts = facts_of(changed(BASE, changes), START)
    return assess("c", "id", facts, History(START - timedelta(hours=1), SILENT_AFTER_S), START)[0]
