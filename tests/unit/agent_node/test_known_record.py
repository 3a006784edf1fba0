"""What a node says of the witness record is the newest that it knows, read by itself or told by the other node."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mirror_agent.core.model import (
    NOBODY,
    Epoch,
    Instant,
    Node,
    Peer,
    Record,
    State,
    Timing,
    Witness,
)
from mirror_agent.node.report import known_record

A, B = Node("a"), Node("b")
BOTH, ONLY_B = frozenset({A, B}), frozenset({B})
NOW = Instant(1000.0)
TOLD = Peer(heard_at=NOW, record_epoch=Epoch(8), record_primary=B, record_in_sync=BOTH)


def state(own: Record | None, peer: Peer) -> State:
    return State(A, B, Timing(), Instant(0.0), witness=replace(Witness(), record=own), peer=peer)


def test_a_replica_that_has_just_joined_by_the_primarys_word() -> None:
    assert known_record(state(Record(Epoch(7), B, ONLY_B, "b.1"), TOLD)) == (8, B, BOTH)


def test_a_replica_that_was_just_left_out_does_not_call_itself_in_sync() -> None:
    left_out = replace(TOLD, record_in_sync=ONLY_B)
    assert known_record(state(Record(Epoch(7), B, BOTH, "b.1"), left_out)) == (8, B, ONLY_B)


@pytest.mark.parametrize("epoch", [8, 9])
def test_what_the_node_has_read_itself_is_not_older(epoch: int) -> None:
    assert known_record(state(Record(Epoch(epoch), A, BOTH, "a.1"), TOLD)) == (epoch, A, BOTH)


def test_before_the_first_read() -> None:
    assert known_record(state(None, Peer())) is None
    assert known_record(state(None, TOLD)) == (8, B, BOTH)


def test_the_record_of_a_new_cluster_names_no_primary() -> None:
    new = Record(Epoch(0), NOBODY, frozenset({A}), "provisioned")
    assert known_record(state(new, Peer())) == (0, NOBODY, frozenset({A}))
