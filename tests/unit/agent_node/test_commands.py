"""Operators' commands on a node with the production core: carried out, refused, and written down with who and why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from mirror_agent.app.finding import Surroundings
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.contract import Command, CommandAction, CommandResult
from mirror_agent.core.events import Beat, BeatArrived
from mirror_agent.core.model import Durable, Epoch, Link, Phase, Record, Role, Wish
from mirror_agent.net.peer_wire import Switch
from mirror_agent.node import commands
from mirror_agent.node.commands import Commands
from mirror_agent.node.engine import Engine
from mirror_agent.node.probe_rhythm import ProbeRhythm
from mirror_agent.node.report import Reporter
from mirror_agent.node.switches import Switches
from mirror_agent.web.actions import NodeAction, NodeRequest

from tests.agent_samples import Recorded, application, configuration, eventually
from tests.unit.agent_node.small_node import A, B, SmallNode


@dataclass
class Bench:
    small: SmallNode
    switches: Switches
    commands: Commands

    async def ask(self, action: NodeAction, why: str = "patch day", confirm: str = "") -> tuple[str, str]:
        outcome = await self.commands.request(NodeRequest(action, "ann", why, confirm))
        return outcome.status, outcome.message

    def role(self) -> Role:
        return self.small.node.state.role

    def events(self, kind: str) -> list[dict[str, object]]:
        return [event for event in self.small.log.tail(1000) if event["kind"] == kind]


def bench_on(small: SmallNode, tmp_path: Path) -> Bench:
    from mirror_agent.node.build import mirror_config
    from mirror_agent.paths import Paths

    switches = Switches(tmp_path / "switches.json", configured_failover=True, log=small.log)
    surroundings = Surroundings(tmp_path, dict, list)
    checkers = NodeCheckers(application(), surroundings, on_trip=lambda *_: None, log=Recorded())
    engine = Engine(mirror_config(configuration(), Paths(tmp_path)), on_report=lambda _: None, log=Recorded())
    reporter = Reporter(
        small.node,
        engine,
        checkers,
        switches=switches,
        peer_paths=dict,
        cluster="demo",
        name="a",
        boot_id="boot",
        start_id="start",
    )
    rhythm = ProbeRhythm(interval_s=5.0, slack_s=0.5)
    made = Commands(
        small.node, reporter, cluster="demo", switches=switches, rhythm=rhythm, self_fence=lambda: "", log=small.log
    )
    return Bench(small, switches, made)


@pytest_asyncio.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Bench]:
    """The first node of a new cluster: it becomes ALONE by itself."""
    small = SmallNode(tmp_path)
    small.start()
    await eventually(lambda: small.node.decision is not None and small.node.decision.rule == "serving-exposed", "ALONE")
    yield bench_on(small, tmp_path)
    await small.close()


@pytest_asyncio.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[Bench]:
    """A node that is not in sync while the other one burns."""
    small = SmallNode(tmp_path, record=Record(Epoch(8), B, frozenset({B}), "id-b.1"), durable=Durable(identity="id-a"))
    small.start()
    await eventually(lambda: small.node.decision is not None and small.node.decision.rule == "not-in-sync", "WAIT")
    yield bench_on(small, tmp_path)
    await small.close()


async def test_stop_start_and_who_wanted_it(serving: Bench) -> None:
    assert await serving.ask(NodeAction.STOP) == ("succeeded", "the module is stopped on this node")
    assert serving.role() is Role.STOP
    assert await serving.ask(NodeAction.START) == ("succeeded", "the module runs on this node")
    assert serving.role() is Role.ALONE
    begun = [(event["action"], event["who"], event["why"]) for event in serving.events("command.begun")]
    assert begun == [("stop", "ann", "patch day"), ("start", "ann", "patch day")]
    assert [event["status"] for event in serving.events("command.ended")] == ["succeeded", "succeeded"]


async def test_stopstart_ends_where_it_began(serving: Bench) -> None:
    epoch = serving.small.node.state.epoch
    assert await serving.ask(NodeAction.STOPSTART) == ("succeeded", "the module runs on this node")
    assert serving.role() is Role.ALONE
    assert serving.small.node.state.epoch > epoch, "it was really stopped"
    assert serving.small.node.state.durable.wish is Wish.RUN


async def test_restart_and_swap_are_for_the_serving_node(serving: Bench, waiting: Bench) -> None:
    assert (await serving.ask(NodeAction.RESTART))[0] == "succeeded"
    status, message = await serving.ask(NodeAction.SWAP)
    assert (status, message) == ("failed", "there is no synchronised peer")
    for action in (NodeAction.RESTART, NodeAction.SWAP):
        status, message = await waiting.ask(action)
        assert (status, "this one is WAIT" in message) == ("refused", True)


async def test_a_forced_start_makes_this_copy_the_truth(waiting: Bench) -> None:
    status, message = await waiting.ask(NodeAction.FORCE, why="b burnt down", confirm="demo")
    assert (status, message) == ("succeeded", "this node is primary now")
    assert waiting.role() is Role.ALONE
    assert waiting.small.record == Record(Epoch(9), A, frozenset({A}), "id-a.9", "forced by ann: b burnt down"), (
        "who and why are in the record itself"
    )


async def test_a_second_whose_primary_no_longer_serves_is_forced_as_well(waiting: Bench) -> None:
    small = waiting.small
    small.node.post(small.engine_reports(link=Link.LIVE, heard_at=small.node.now))
    small.node.post(BeatArrived(beat_of_b(Role.ALONE)))
    await eventually(lambda: waiting.role() is Role.SECOND, "SECOND")
    small.node.post(BeatArrived(beat_of_b(Role.WAIT)))
    status, message = await waiting.ask(NodeAction.FORCE, why="b has a new disk", confirm="demo")
    assert (status, message) == ("succeeded", "this node is primary now")


def beat_of_b(role: Role) -> Beat:
    return Beat(B, role, Phase.READY, Epoch(8), False, True, Epoch(0), Epoch(0), Epoch(8), B, frozenset({B}))


async def test_a_stopped_node_is_started_for_it(waiting: Bench) -> None:
    await waiting.ask(NodeAction.STOP)
    assert (await waiting.ask(NodeAction.FORCE, why="b burnt down", confirm="demo"))[0] == "succeeded"
    assert waiting.role() is Role.ALONE


@pytest.mark.parametrize(
    ("why", "confirm", "said"), [("", "demo", "a reason"), ("b burnt", "prod", "'demo', not 'prod'")]
)
async def test_it_wants_a_reason_and_the_clusters_name(waiting: Bench, why: str, confirm: str, said: str) -> None:
    status, message = await waiting.ask(NodeAction.FORCE, why=why, confirm=confirm)
    assert (status, said in message) == ("refused", True)
    assert waiting.role() is Role.WAIT
    assert waiting.small.record.epoch == 8


async def test_it_is_refused_where_somebody_serves(serving: Bench, waiting: Bench) -> None:
    status, message = await serving.ask(NodeAction.FORCE, confirm="demo")
    assert (status, message) == ("refused", "this node serves already, as ALONE")
    beat = Beat(B, Role.ALONE, Phase.READY, Epoch(8), False, True, Epoch(0), Epoch(0), Epoch(8), B, frozenset({B}))
    waiting.small.node.post(BeatArrived(beat))
    status, message = await waiting.ask(NodeAction.FORCE, confirm="demo")
    assert (status, "stop it first" in message) == ("refused", True)


async def test_failover_is_told_to_the_peer(serving: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "AGREE_DEADLINE_S", 0.01)
    status, message = await serving.ask(NodeAction.FAILOVER_OFF)
    assert (status, "as soon as it is heard" in message) == ("accepted", True)
    assert serving.switches.failover == Switch(False, 1, "ann", "patch day")
    monkeypatch.setattr(commands, "AGREE_DEADLINE_S", 10.0)
    on = Switch(True, 2, "ann", "patch day")
    serving.switches.watch(lambda: serving.switches.learn_failover(on) if serving.switches.failover == on else None)
    assert await serving.ask(NodeAction.FAILOVER_ON) == ("succeeded", "failover is on on both nodes")


async def test_checkers_are_a_switch_of_this_node(serving: Bench) -> None:
    assert await serving.ask(NodeAction.CHECKERS_OFF) == ("succeeded", "checkers are off on this node")
    assert serving.switches.checkers == Switch(False, 1, "ann", "patch day")
    assert await serving.ask(NodeAction.CHECKERS_ON) == ("succeeded", "checkers are on on this node")


async def test_the_control_planes_commands_end_with_a_result(serving: Bench) -> None:
    said: list[CommandResult] = []
    command = Command(id="c-1", action=CommandAction.SWAP, requested_by="bob")
    serving.commands.from_control_plane(command, said.append)
    await eventually(lambda: len(said) == 2, "two results")
    assert [(result.id, result.status) for result in said] == [("c-1", "accepted"), ("c-1", "failed")]


async def test_a_drill_names_the_node(serving: Bench) -> None:
    found = serving.commands.drill()
    assert (found["node"], found["role"]) == ("a", "ALONE")
    assert serving.role() is Role.ALONE


async def test_status_shows_the_switches(serving: Bench) -> None:
    await serving.ask(NodeAction.CHECKERS_OFF)
    status = serving.commands.status()
    assert status["cluster"] == "demo"
    assert status["checkersSwitch"] == {"on": False, "serial": 1, "who": "ann", "why": "patch day"}
    assert status["failover"] == {"on": True, "serial": 0, "who": "", "why": "", "agreed": False}
