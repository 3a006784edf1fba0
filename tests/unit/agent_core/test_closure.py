"""The rules are closed: for every pair (mine, peer's) and every fact around it there is a decision, and it is lawful.

`decide` asserts I1-I5 as far as one node can see them, so a state that provokes an unlawful decision raises. The same
states are seen in every run; that they are enough is checked by what they lead to: every rule and every change of role.
"""

from __future__ import annotations

from collections import Counter

import pytest
from mirror_agent.core.actions import BecomePrimary, Release, StartApplication, WriteWitness
from mirror_agent.core.automaton import EDGES
from mirror_agent.core.decide import decide
from mirror_agent.core.decision import Decision
from mirror_agent.core.model import SERVING, App, Role, State, engine_busy, grant_s, probe_ok
from mirror_agent.core.reduce import beat_of, settle
from mirror_agent.core.rules import RULES

from tests.golden.situation import NOW
from tests.unit.agent_core.states import states

COUNT = 40_000


@pytest.fixture(scope="module")
def decided() -> list[tuple[State, Decision]]:
    return [(state, decide(state, NOW)) for state in states(COUNT)]


def test_every_pair_of_roles_every_rule_and_every_change_of_role_is_among_them(
    decided: list[tuple[State, Decision]],
) -> None:
    pairs = Counter((state.role, state.peer.role) for state, _ in decided)
    assert {(mine, theirs) for mine in Role for theirs in Role} == set(pairs)
    assert set(RULES) - {decision.rule for _, decision in decided} == set()
    changes = {(state.role, decision.rule, decision.role) for state, decision in decided}
    assert {change for change in changes if change[0] is not change[2]} == EDGES


def test_every_state_has_a_decision_that_can_be_told_and_settled(decided: list[tuple[State, Decision]]) -> None:
    for state, decision in decided:
        assert decision.sentence
        after = settle(state, decision, NOW)
        assert beat_of(after, decision.phase, flushed=after.durable).node == state.me


def test_only_the_recorded_primary_acts_as_one(decided: list[tuple[State, Decision]]) -> None:
    """I2, I3, I5 from the outside: what a decision may do to data or service, the record allows."""
    for state, decision in decided:
        record, me, other = state.record, state.me, state.peer_name
        for action in decision.actions:
            match action:
                case Release() | BecomePrimary() | StartApplication():
                    assert record is not None
                    assert record.primary == me
                case WriteWitness(proposal):
                    assert record is not None
                    assert proposal.epoch == record.epoch + 1
                    if proposal.primary == me and other in proposal.in_sync:
                        assert state.mirror.required
                        assert not engine_busy(state)
                    if record.primary == other and not (state.order and state.order.action == "force"):
                        assert me in record.in_sync, "I5: only a listed node takes over"
                case _:
                    pass


def test_no_promise_is_given_while_taking_over(decided: list[tuple[State, Decision]]) -> None:
    promising = [s for s, _ in decided if grant_s(s, beat_role=Role.PRIM, beat_epoch=s.epoch) > 0]
    assert promising
    for state in promising:
        assert state.role is Role.SECOND
        assert state.mirror.sealed <= state.epoch
        assert state.witness.unresolved is None


def test_the_probe_says_ok_only_where_the_record_the_promise_and_the_application_agree(
    decided: list[tuple[State, Decision]],
) -> None:
    serving = [state for state, _ in decided if probe_ok(state, NOW)[0]]
    assert serving
    for state in serving:
        record = state.record
        assert state.role in SERVING
        assert record is not None
        assert record.primary == state.me
        assert state.app is App.RUNNING
        if state.role is Role.PRIM:
            assert state.held_until > NOW
