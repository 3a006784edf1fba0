"""Checkers of the serving node and of the replica: which run where, and the switch over both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest_asyncio
from mirror_agent.app.finding import Surroundings
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.contract import Checker

from tests.agent_samples import FakeClock, Recorded, application, eventually


def custom(name: str, when: str, command: str = "false") -> Checker:
    body = {"name": name, "kind": "custom", "command": command, "when": when, "action": "none", "threshold": 1}
    return Checker.model_validate(body | {"timeout_s": 20.0})


@dataclass
class Bench:
    clock: FakeClock = field(default_factory=FakeClock)
    tripped: list[str] = field(default_factory=list)

    def make(self, directory: Path) -> NodeCheckers:
        app = application(
            checkers=(custom("here", "prim"), custom("there", "second"), custom("everywhere", "both")),
            start_timeout_s=0.001,
        )
        self.checkers = NodeCheckers(
            app,
            Surroundings(directory, dict, list),
            on_trip=lambda trip: self.tripped.append(trip.checker.name),
            log=Recorded(),
            clock=self.clock,
        )
        return self.checkers

    def healthy(self) -> dict[str, bool | None]:
        return {report.name: report.healthy for report in self.checkers.reports()}

    def messages(self) -> set[str]:
        return {report.message for report in self.checkers.reports()}


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench()
    made.make(tmp_path)
    yield made
    made.checkers.leave_replica()
    await made.checkers.stop()


async def test_the_replica_has_its_own_and_no_grace(bench: Bench) -> None:
    bench.checkers.become_replica()
    await eventually(lambda: sorted(bench.tripped) == ["everywhere", "there"], "both of the replica's")
    assert bench.healthy() == {"here": None, "there": False, "everywhere": False}


async def test_a_new_role_starts_anew(bench: Bench) -> None:
    bench.checkers.become_replica()
    await eventually(lambda: len(bench.tripped) == 2, "as replica")
    bench.checkers.leave_replica()
    assert bench.healthy() == {"here": None, "there": None, "everywhere": None}
    bench.tripped.clear()
    bench.checkers.start()
    await bench.clock.advance(10)
    await eventually(lambda: sorted(bench.tripped) == ["everywhere", "here"], "as serving node")
    assert bench.healthy() == {"here": False, "there": None, "everywhere": False}


async def test_switched_off_nothing_is_tested_and_on_again_it_goes_on(bench: Bench) -> None:
    bench.checkers.switch_off("switched off by ann")
    bench.checkers.start()
    bench.checkers.become_replica()
    assert bench.messages() == {"switched off by ann"}
    bench.checkers.leave_replica()
    assert bench.messages() == {"switched off by ann"}
    assert bench.tripped == []
    bench.checkers.switch_on()
    await bench.clock.advance(10)
    await eventually(lambda: sorted(bench.tripped) == ["everywhere", "here"], "the application is still there")


async def test_a_test_under_way_does_not_count_any_more(bench: Bench) -> None:
    bench.checkers.become_replica()
    bench.checkers.switch_off("switched off by ann")
    await bench.clock.advance(10)
    assert bench.tripped == []
    await bench.checkers.stop()
    bench.checkers.leave_replica()
    bench.checkers.switch_on()
    assert bench.messages() == {"not running"}
    assert bench.tripped == []
