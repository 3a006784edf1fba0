"""A drill puts questions to the production core and changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mirror_agent.core.model import (
    Acknowledging,
    App,
    Durable,
    Epoch,
    Instant,
    Link,
    Mirror,
    Mode,
    Node,
    Order,
    Peer,
    Phase,
    Record,
    Role,
    State,
    Timing,
    Wish,
    Witness,
)
from mirror_agent.node.drill import Permission, drill

NOW = Instant(1000.0)
A, B = Node("a"), Node("b")
EPOCH = Epoch(7)


def state(role: Role, *, me: Node = A, primary: Node = A, in_sync: frozenset[Node] = frozenset({A, B})) -> State:
    """A settled pair in epoch 7."""
    peer = B if me == A else A
    serving = role in (Role.PRIM, Role.ALONE)
    acknowledging = {Role.PRIM: Acknowledging.PAIRED, Role.ALONE: Acknowledging.SOLO}.get(role, Acknowledging.NONE)
    return State(
        me=me,
        peer_name=peer,
        timing=Timing(),
        started_at=Instant(0.0),
        role=role,
        epoch=EPOCH,
        role_since=Instant(100.0),
        witness=Witness(Record(EPOCH, primary, in_sync, "x.1", ""), "etag", Instant(NOW - 3)),
        peer=Peer(
            heard_at=NOW,
            first_heard_at=Instant(1.0),
            role=Role.SECOND if serving else Role.PRIM,
            phase=Phase.READY,
            epoch=EPOCH,
            prepared=EPOCH,
            record_epoch=EPOCH,
            record_primary=primary,
            record_in_sync=in_sync,
        ),
        mirror=Mirror(
            mode=Mode.PRIMARY if serving else Mode.REPLICA,
            epoch=EPOCH,
            link=Link.LIVE,
            acknowledging=acknowledging,
            heard_at=NOW,
        ),
        app=App.RUNNING if serving else App.STOPPED,
        durable=Durable(complete=True, complete_epoch=EPOCH, identity="me"),
        held_until=Instant(NOW + 3.5),
        granted_until=Instant(NOW + 3.5),
    )


def answers(given: State, self_fence: str = "") -> dict[str, Permission]:
    before = given.with_()
    found = {permission.act: permission for permission in drill(given, NOW, self_fence=self_fence)}
    assert given == before, "nothing is changed"
    assert all(permission.sentence for permission in found.values())
    return found


def test_a_primary_may_swap_and_leave_its_peer_out() -> None:
    found = answers(state(Role.PRIM))
    assert (found["swap"].allowed, found["swap"].rule) == (True, "swap-stop-application")
    assert (found["exclude-peer"].allowed, found["exclude-peer"].rule) == (True, "publish-alone")
    assert not found["promote"].allowed
    assert not found["resync"].allowed


def test_a_replica_in_sync_may_take_over() -> None:
    found = answers(state(Role.SECOND, me=B))
    assert (found["promote"].allowed, found["promote"].rule) == (True, "takeover-seal")
    assert not found["swap"].allowed
    assert not found["exclude-peer"].allowed


def test_failover_off_forbids_it_and_says_so() -> None:
    found = answers(state(Role.SECOND, me=B).with_(failover=False))
    assert (found["promote"].allowed, found["promote"].rule) == (False, "failover-off")


def test_a_copy_that_is_behind_may_not_take_over() -> None:
    behind = state(Role.SECOND, me=B, in_sync=frozenset({A})).with_(durable=Durable(identity="me"))
    behind = behind.with_(mirror=replace(behind.mirror, link=Link.RESYNC))
    found = answers(behind)
    assert (found["promote"].allowed, found["promote"].rule) == (False, "not-in-sync")
    assert found["resync"].allowed


@pytest.mark.parametrize(
    ("trusted", "rule", "allowed"), [(True, "takeover-at-start", True), (False, "untrusted-refused", False)]
)
def test_a_waiting_node(trusted: bool, rule: str, allowed: bool) -> None:
    waiting = state(Role.WAIT, me=B)
    waiting = waiting.with_(durable=replace(waiting.durable, trusted=trusted))
    found = answers(waiting)
    assert (found["promote"].rule, found["promote"].allowed) == (rule, allowed)


def test_without_a_synchronised_peer_there_is_no_swap() -> None:
    alone = state(Role.ALONE, in_sync=frozenset({A}))
    found = answers(alone)
    assert (found["swap"].allowed, found["swap"].rule) == (False, "swap-refused")
    assert found["resync"].allowed
    assert not found["exclude-peer"].allowed


def test_a_failing_witness_keeps_the_peer_in() -> None:
    failing = state(Role.PRIM)
    failing = failing.with_(witness=replace(failing.witness, failure="timed out", failed_at=NOW))
    found = answers(failing)
    assert (found["exclude-peer"].allowed, found["exclude-peer"].rule) == (False, "parked-no-witness")
    assert "timed out" in found["exclude-peer"].supposed


def test_an_order_in_progress_stands_in_the_way() -> None:
    found = answers(state(Role.PRIM).with_(order=Order("restart", "restart-1", "ann")))
    assert "restart of ann" in found["swap"].sentence


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"peer": Peer()}, "not heard"),
        ({"durable": Durable(wish=Wish.STOP)}, "mirrorctl start"),
        ({"mirror": Mirror(mode=Mode.PRIMARY, link=Link.LOST, error="refused")}, "refused"),
    ],
)
def test_why_nothing_is_resynchronised(change: dict[str, object], reason: str) -> None:
    found = answers(state(Role.ALONE, in_sync=frozenset({A})).with_(**change))
    assert not found["resync"].allowed
    assert reason in found["resync"].sentence


def test_self_fencing_says_what_is_missing() -> None:
    assert answers(state(Role.PRIM))["fence-self"].allowed
    refused = answers(state(Role.PRIM), "CAP_SYS_BOOT is missing")["fence-self"]
    assert (refused.allowed, refused.sentence) == (False, "CAP_SYS_BOOT is missing")


@pytest.mark.parametrize("role", list(Role))
def test_every_role_answers_every_question(role: Role) -> None:
    in_sync = frozenset({A}) if role is Role.ALONE else frozenset({A, B})
    acts = ["promote", "swap", "resync", "exclude-peer", "fence-self"]
    assert list(answers(state(role, in_sync=in_sync))) == acts
