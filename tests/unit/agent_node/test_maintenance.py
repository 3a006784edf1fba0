"""What a node tells about itself when its machine is to be maintained."""

from __future__ import annotations

import pytest
from mirror_agent.core.model import Instant, Node, Order, Peer, Role, State, Timing
from mirror_agent.node.maintenance import bridged_s, maintenance_facts

NOW = Instant(100.0)


def state(role: Role, peer_role: Role, *, heard_ago_s: float = 0.1, leaving: bool = False, order: str = "") -> State:
    peer = Peer(heard_at=Instant(NOW - heard_ago_s), role=peer_role, leaving=leaving)
    made = State(Node("a"), Node("b"), Timing(), Instant(0.0), role=role, peer=peer)
    return made.with_(order=Order(order, "o-1", "operator")) if order else made


@pytest.mark.parametrize(
    ("here", "ready", "serves"),
    [
        (state(Role.PRIM, Role.SECOND), True, False),
        (state(Role.PRIM, Role.SECOND, heard_ago_s=2.0), False, False),
        (state(Role.PRIM, Role.SECOND, leaving=True), False, False),
        (state(Role.PRIM, Role.SECOND, order="swap"), False, False),
        (state(Role.ALONE, Role.SECOND), False, False),
        (state(Role.SECOND, Role.PRIM), False, True),
        (state(Role.SECOND, Role.PRIM, heard_ago_s=2.0), False, False),
        (state(Role.WAIT, Role.ALONE), False, True),
        (state(Role.WAIT, Role.WAIT), False, False),
    ],
)
def test_the_facts(here: State, ready: bool, serves: bool) -> None:
    facts = maintenance_facts(here, NOW, relaying=False)
    assert (facts.role, facts.peer_ready, facts.peer_serves) == (here.role, ready, serves)


def test_a_pause_that_nobody_notices() -> None:
    assert bridged_s(Timing()) == 1.5
    assert bridged_s(Timing(heartbeat_s=3.0, suspect_s=2.0)) == 0.0
