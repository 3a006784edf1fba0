"""The permission of the relay: SECOND of the hand-over's own epoch, after a swap of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from mirror_agent.core.decision import Decision
from mirror_agent.core.model import Epoch, Instant, Node, Phase, Role, State, Timing
from mirror_agent.node.handover import Handover, window_s

from tests.agent_samples import settle


@dataclass
class SampleRelay:
    is_open: bool = False
    opened: list[float] = field(default_factory=list)

    def open(self, *, window_s: float) -> None:
        self.is_open = True
        self.opened.append(window_s)

    async def close(self) -> None:
        self.is_open = False


@dataclass
class Bench:
    relay: SampleRelay = field(default_factory=SampleRelay)

    def __post_init__(self) -> None:
        self.state = State(Node("a"), Node("b"), Timing(), Instant(0.0))
        self.decision: Decision | None = None
        self.handover = Handover(self.relay, facts=lambda: (self.state, self.decision))

    async def become(self, role: Role, epoch: int, rule: str) -> None:
        self.state = self.state.with_(role=role, epoch=Epoch(epoch))
        self.decision = Decision(rule, role, Epoch(epoch), Phase.TRANSIENT)
        self.handover.changed()
        await settle()


async def test_it_runs_after_a_swap_until_the_epoch_ends() -> None:
    bench = Bench()
    await bench.become(Role.PRIM, 4, "swap-publish")
    assert not bench.relay.is_open
    await bench.become(Role.SECOND, 5, "swap-done")
    assert bench.relay.is_open
    await bench.become(Role.SECOND, 5, "joining")
    assert bench.relay.is_open
    await bench.become(Role.SECOND, 6, "joined-in-sync")
    assert not bench.relay.is_open


@pytest.mark.parametrize("role", [Role.WAIT, Role.STOP, Role.ALONE, Role.PRIM])
async def test_no_other_role_keeps_it(role: Role) -> None:
    bench = Bench()
    await bench.become(Role.SECOND, 5, "swap-done")
    await bench.become(role, 5, "stopping")
    assert not bench.relay.is_open


@pytest.mark.parametrize(
    ("role", "rule"),
    [(Role.STOP, "stopped-here"), (Role.WAIT, "superseded"), (Role.SECOND, "joining"), (Role.PRIM, "swap-done")],
)
async def test_only_an_own_swap_opens_it(role: Role, rule: str) -> None:
    bench = Bench()
    await bench.become(Role.PRIM, 4, "swap-publish")
    await bench.become(role, 5, rule)
    assert bench.relay.opened == []


async def test_one_hand_over_opens_it_once() -> None:
    bench = Bench()
    await bench.become(Role.SECOND, 5, "swap-done")
    await bench.become(Role.SECOND, 5, "swap-done")
    assert bench.relay.opened == [window_s(Timing())]
    await bench.become(Role.PRIM, 6, "handed-over")
    await bench.become(Role.SECOND, 7, "swap-done")
    assert len(bench.relay.opened) == 2


def test_the_window_covers_every_failed_probe() -> None:
    assert window_s(Timing(probe_interval_s=5.0, probe_threshold=2, margin_s=0.5)) == 10.5
