"""A new configuration while the agent runs: what is in force, what is stored, what is refused."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from mirror_agent.app.finding import Surroundings
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.contract import NodeConfiguration
from mirror_agent.eventlog import EventLog
from mirror_agent.net.identity import AgentFile, load_agent_file
from mirror_agent.net.witness import TableWitness
from mirror_agent.node.live_configuration import LiveConfiguration
from mirror_agent.node.switches import Switches
from mirror_agent.paths import Paths, replace_file

from tests.unit.rollout.test_taking import configuration

CHECKER = {"name": "up", "kind": "tcp", "port": 80, "intervalS": 30}


class Node:
    def __init__(self, root: Path) -> None:
        self.paths = Paths(root)
        running = configuration()
        agent = AgentFile(control_plane_url="https://plane.example.org", configuration=running)
        replace_file(self.paths.agent_file, agent.model_dump_json(by_alias=True).encode(), 0o600)
        self.log = EventLog(root / "events.jsonl", stderr=io.StringIO())
        surroundings = Surroundings(root, dict, tuple)
        self.checkers = NodeCheckers(running.application, surroundings, on_trip=lambda trip: None, log=self.log.record)
        self.switches = Switches(self.paths.switches, configured_failover=True, log=self.log)
        self.told = asyncio.Event()
        self.live = LiveConfiguration(
            running,
            paths=self.paths,
            checkers=self.checkers,
            witness=TableWitness(running.witness),
            switches=self.switches,
            changed=self.told.set,
            log=self.log,
        )

    async def take(self, **changes: Any) -> NodeConfiguration:
        given = configuration(**changes)
        self.told.clear()
        self.live.take(given)
        await asyncio.wait_for(self.told.wait(), 30)
        return given

    @property
    def stored(self) -> object:
        return load_agent_file(self.paths).configuration


@pytest.fixture
async def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_checkers_are_in_force_at_once_and_run_on(node: Node) -> None:
    node.checkers.start()
    given = await node.take(version=2, application__checkers=[CHECKER])
    assert (node.live.in_use, node.live.stored, node.stored) == (2, 2, given)
    assert [report.name for report in node.checkers.reports()] == ["up"]
    await node.checkers.stop()


async def test_checkers_that_are_switched_off_stay_so(node: Node) -> None:
    node.checkers.start()
    node.checkers.switch_off("switched off by ann")
    await node.take(version=2, application__checkers=[CHECKER])
    assert [report.message for report in node.checkers.reports()] == ["switched off by ann"]
    node.checkers.switch_on()
    await asyncio.sleep(0)
    assert [report.message for report in node.checkers.reports()] != ["switched off by ann"]
    await node.checkers.stop()


async def test_what_needs_a_new_beginning_is_stored_and_waits_as_a_whole(node: Node) -> None:
    given = await node.take(version=2, failover=False, application__startPrim="false", application__checkers=[CHECKER])
    assert (node.live.in_use, node.live.stored, node.stored) == (1, 2, given)
    assert node.checkers.reports() == ()
    assert node.switches.failover.on is False  # stands for itself
    await node.take(version=3)
    assert (node.live.in_use, node.live.stored) == (3, 3)  # back as it was: nothing waits any more


async def test_durations_that_cannot_work_together_leave_everything(node: Node) -> None:
    given = configuration(version=2)
    unsafe = given.timing.model_copy(update={"suspect_s": 100.0})
    node.live.take(given.model_copy(update={"timing": unsafe}))
    assert (node.live.in_use, node.live.stored) == (1, 1)
    assert "configuration 2 is refused" in node.live.refused


async def test_a_disk_that_refuses_is_told(node: Node) -> None:
    node.paths.agent_file.unlink()
    await node.take(version=2)
    assert (node.live.in_use, node.live.stored) == (2, 1)
    assert "could not be stored" in node.live.refused
