"""How facts change: what is adopted, what is refused, and when a write of unknown outcome is resolved."""

from __future__ import annotations

import pytest
from mirror_agent.core.events import AppReported, Event, RecordRead, WitnessUnknown, WriteBegan, WriteWon
from mirror_agent.core.model import App, Epoch, Instant, Node, Proposal, Record, Role, State, needs_promise
from mirror_agent.core.reduce import apply

from tests.golden.situation import NOW, state_of

A, B = Node("a"), Node("b")
BOTH, ALONE = frozenset({A, B}), frozenset({A})
PUBLISH = Proposal(Epoch(8), A, BOTH, "join-publish")
WITHDRAW = Proposal(Epoch(8), A, ALONE, "join-withdrawn")


def after(state: State, *events: Event) -> State:
    for event in events:
        state = apply(state, event, NOW)
    return state


def record(epoch: int, nonce: str, in_sync: frozenset[Node] = ALONE) -> Record:
    return Record(Epoch(epoch), A, in_sync, nonce)


def test_a_withdrawal_does_not_hide_the_publication_that_may_still_land() -> None:
    state = after(
        state_of("a serves alone, b has caught up", {}),
        WriteBegan(PUBLISH, "disk-a.6", "etag-7"),
        WitnessUnknown("timeout"),
        WriteBegan(WITHDRAW, "disk-a.7", "etag-7"),
    )
    assert state.role is Role.ALONE
    assert needs_promise(state)


def test_a_write_on_another_base_ends_the_uncertainty_of_the_one_before() -> None:
    state = after(
        state_of("a serves alone, b has caught up", {}),
        WriteBegan(PUBLISH, "disk-a.6", "etag-7"),
        WitnessUnknown("timeout"),
        WriteBegan(WITHDRAW, "disk-a.7", "etag-7"),
        WriteWon(record(8, "disk-a.7"), "etag-8", NOW),
    )
    assert state.witness.unresolved is None
    assert not needs_promise(state)


@pytest.mark.parametrize(
    ("read", "resolved", "won"),
    [
        (RecordRead(record(8, "disk-a.6", BOTH), "etag-8", NOW), True, "disk-a.6"),
        (RecordRead(record(8, "disk-b.3"), "etag-8", NOW), True, "disk-a.5"),
        (RecordRead(record(7, "disk-a.5"), "etag-7", NOW), False, "disk-a.5"),
    ],
    ids=["the record shows its nonce", "the record moved off its base", "the base is still there"],
)
def test_a_write_of_unknown_outcome_is_resolved_by_the_record(read: RecordRead, resolved: bool, won: str) -> None:
    began = after(state_of("a serves alone, b has caught up", {}), WriteBegan(PUBLISH, "disk-a.6", "etag-7"))
    state = after(began, WitnessUnknown("timeout"), read)
    assert (state.witness.unresolved is None) is resolved
    assert state.won == won


def test_an_answer_that_was_overtaken_is_ignored() -> None:
    state = state_of("a serves alone", {"record read": "1 s ago"})
    assert state.record is not None
    for epoch in (state.record.epoch, Epoch(state.record.epoch - 1)):
        old = RecordRead(record(epoch, "disk-b.9"), "etag-old", Instant(NOW - 2))
        assert after(state, old) == state


def test_a_later_epoch_is_believed_although_the_clock_was_set_back() -> None:
    state = state_of("a serves alone, b has caught up", {"record read": "1 s ago"})
    began = after(state, WriteBegan(PUBLISH, "disk-a.6", "etag-7"))
    assert state.record is not None
    won = Record(PUBLISH.epoch, PUBLISH.primary, PUBLISH.in_sync, "disk-a.6", PUBLISH.rule)
    changed = after(began, WriteWon(won, "etag-8", Instant(NOW - 60)))
    assert changed.record == won
    assert changed.witness.unresolved is None
    assert (changed.won, changed.witness.known_at) == ("disk-a.6", Instant(NOW - 60))


@pytest.mark.parametrize("read", [RecordRead(record(6, "x"), "etag-x", NOW), RecordRead(None, "", NOW)])
def test_a_record_that_goes_back_or_vanishes_is_not_believed(read: RecordRead) -> None:
    state = state_of("a serves alone", {})
    changed = after(state, read)
    assert changed.record == state.record
    assert changed.witness.failure


def test_an_unknown_fact_cannot_be_set() -> None:
    with pytest.raises(AssertionError, match="unknown facts"):
        state_of("a serves alone", {}).with_(rolle=Role.WAIT)


def test_a_stop_that_fails_is_not_one_more_failure_of_the_application() -> None:
    state = after(state_of("a serves, b is in sync", {}), AppReported(App.FAILED, "exit 1"))
    assert state.restarts == (NOW,)
    for _ in range(4):
        state = after(state, AppReported(App.STOPPING), AppReported(App.FAILED, "the kernel still holds [69]"))
    assert state.restarts == (NOW,)
    assert [name for name, _, _ in state.failures] == ["StopApplication"]
