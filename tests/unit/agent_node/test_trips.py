"""What a tripped checker does, by its action, the node's role and what was found."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mirror_agent.app.checkers import Trip
from mirror_agent.contract import Checker, CheckerAction, CheckerKind
from mirror_agent.core.model import Durable, Instant, Peer, Role, State, Timing
from mirror_agent.node.trips import Reaction, reaction

from tests.unit.agent_node.small_node import A, B

NOW = Instant(100.0)


def trip(action: CheckerAction, *, broken: bool = False) -> Trip:
    checker = Checker.model_validate({"name": "data", "kind": CheckerKind.DISK, "path": "/data", "action": action})
    return Trip(checker, "checker data failed 2 times", broken=broken)


def node(role: Role, peer: Role = Role.SECOND, *, heard_s: float = 0.1) -> State:
    state = State(A, B, Timing(), Instant(0.0), durable=Durable(identity="id-a"))
    return state.with_(role=role, peer=replace(Peer(), role=peer, heard_at=Instant(NOW - heard_s)))


@pytest.mark.parametrize(
    ("action", "role", "expected"),
    [
        (CheckerAction.FAILOVER, Role.PRIM, Reaction.SWAP),
        (CheckerAction.FAILOVER, Role.ALONE, Reaction.FAIL_APPLICATION),
        (CheckerAction.FAILOVER, Role.SECOND, Reaction.NOTHING),
        (CheckerAction.RESTART, Role.PRIM, Reaction.FAIL_APPLICATION),
        (CheckerAction.RESTART, Role.SECOND, Reaction.NOTHING),
        (CheckerAction.STOP, Role.SECOND, Reaction.STOP_NODE),
        (CheckerAction.NONE, Role.PRIM, Reaction.NOTHING),
    ],
)
def test_by_action_and_role(action: CheckerAction, role: Role, expected: Reaction) -> None:
    assert reaction(node(role), NOW, trip(action)) is expected


def test_a_disk_that_takes_nothing_more_is_left_at_once() -> None:
    assert reaction(node(Role.PRIM), NOW, trip(CheckerAction.FAILOVER, broken=True)) is Reaction.STOP_NODE


@pytest.mark.parametrize(
    "state",
    [
        node(Role.PRIM, peer=Role.WAIT),
        node(Role.PRIM, heard_s=10.0),
        node(Role.PRIM).with_(failover=False),
    ],
    ids=["no replica", "peer silent", "failover off"],
)
def test_but_not_without_a_peer_that_goes_on(state: State) -> None:
    assert reaction(state, NOW, trip(CheckerAction.FAILOVER, broken=True)) is Reaction.SWAP


def test_alone_on_a_broken_disk_the_application_fails_as_ever() -> None:
    found = reaction(node(Role.ALONE), NOW, trip(CheckerAction.FAILOVER, broken=True))
    assert found is Reaction.FAIL_APPLICATION
