"""A new configuration on a farm node that runs, and when the node may begin anew for the rest of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from mirror_agent.app.finding import Surroundings
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.contract import Checker, CheckerKind, FarmConfiguration, Phase, Role
from mirror_agent.eventlog import EventLog
from mirror_agent.farm.live import LiveFarmConfiguration
from mirror_agent.farm.model import Decision
from mirror_agent.farm.turn import hold, rollout_facts
from mirror_agent.net.identity import AgentFile, load_agent_file
from mirror_agent.node.rollout_rules import NotYet, Proven, proof
from mirror_agent.paths import Paths

from tests.agent_samples import application, configuration, eventually
from tests.unit.farm.small_farm import farm

UP = Decision("up", "It runs.", Role.UP, Phase.READY)
STOPPED = Decision("stopped", "It is stopped.", Role.STOP, Phase.NOT_READY)


def live(root: Path, running: FarmConfiguration) -> LiveFarmConfiguration:
    paths = Paths(root)
    paths.agent_file.parent.mkdir(parents=True)
    agent = AgentFile(control_plane_url="https://plane", configuration=running)
    paths.agent_file.write_text(agent.model_dump_json(by_alias=True))
    log = EventLog(paths.events, stderr=io.StringIO())
    checkers = NodeCheckers(running.application, Surroundings(root, dict, list), on_trip=lambda _: None, log=log.record)
    return LiveFarmConfiguration(running, paths=paths, checkers=checkers, changed=lambda: None, log=log)


async def test_checkers_and_the_minimum_are_taken_at_once(tmp_path: Path) -> None:
    subject = live(tmp_path, farm())
    checker = Checker(name="listens", kind=CheckerKind.TCP, port=8080)
    newer = farm(version=2, minimum_healthy=2, application=application(replicated_paths=(), checkers=(checker,)))
    subject.take(newer)
    assert (subject.in_use, subject.running.minimum_healthy) == (2, 2)
    await eventually(lambda: subject.stored == 2, "it is on the disk")
    assert load_agent_file(Paths(tmp_path)).configuration == newer


async def test_scripts_wait_for_the_next_start(tmp_path: Path) -> None:
    subject = live(tmp_path, farm())
    subject.take(farm(version=2, application=application(replicated_paths=(), start_prim="false\n")))
    await eventually(lambda: subject.stored == 2, "it is on the disk")
    assert subject.in_use == 1


async def test_a_configuration_of_a_mirror_is_refused(tmp_path: Path) -> None:
    subject = live(tmp_path, farm())
    subject.take(configuration(version=2))
    assert (subject.in_use, subject.stored) == (1, 1)
    assert "of a mirror" in subject.refused


@pytest.mark.parametrize(
    ("decision", "others", "minimum", "may_go"),
    [(UP, 1, 1, True), (UP, 0, 1, False), (UP, 1, 2, False), (STOPPED, 0, 1, True)],
)
def test_a_node_begins_anew_when_it_can_be_missed(decision: Decision, others: int, minimum: int, may_go: bool) -> None:
    assert (hold(decision, others, minimum) == "") is may_go


@pytest.mark.parametrize(
    ("decision", "began_stopped", "delivered", "is_proof"),
    [(UP, False, True, True), (UP, False, False, False), (STOPPED, True, True, True), (STOPPED, False, True, False)],
)
def test_what_proves_a_new_agent(decision: Decision, began_stopped: bool, delivered: bool, is_proof: bool) -> None:
    facts = rollout_facts(
        decision,
        others_serving=1,
        minimum_healthy=1,
        began_stopped=began_stopped,
        delivered=delivered,
        stored=1,
        refused="",
    )
    found = proof(facts)
    assert isinstance(found, Proven if is_proof else NotYet)
