"""What a farm node tells: the heartbeat, the probe, its status and its metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
from mirror_agent.contract import ApplicationState, Phase, Role
from mirror_agent.farm.copies import FarmCopies
from mirror_agent.farm.events import ApplicationFailed
from mirror_agent.web.dry_run import Sight, dry_run
from mirror_agent.web.mirror_control import MIRROR_ACTIONS, MirrorRequest, NoCopies
from mirror_agent.web.probe import HealthState, ProbeAnswer, health_state

from tests.agent_samples import eventually
from tests.unit.farm.small_farm import SmallFarm


async def test_the_heartbeat_of_a_serving_node(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await eventually(lambda: farm.node.decision.serves, "it serves")
        first, second = farm.reporter.heartbeat(), farm.reporter.heartbeat()
    assert (first.role, first.phase, first.probe_ok, first.application) == (
        Role.UP,
        Phase.READY,
        True,
        ApplicationState.RUNNING,
    )
    assert (first.epoch, first.in_sync, first.mirror, first.exposed_for_s, first.failover) == (0, (), None, None, None)
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.peers_up is None, "nobody was asked yet"


async def test_the_probe_says_no_in_the_moment_the_application_fails(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await eventually(lambda: farm.node.decision.serves, "it serves")
        farm.node.post(ApplicationFailed("its processes are gone"))
        answer = farm.reporter.probe_answer()
        assert not answer.ok
        assert health_state(answer) is HealthState.INITIALIZING
        beat = farm.reporter.heartbeat()
        assert (beat.probe_ok, beat.restarts_in_window) == (False, 1)


@pytest.mark.parametrize(
    ("role", "phase", "ok", "state"),
    [
        (Role.UP, Phase.READY, True, HealthState.HEALTHY),
        (Role.UP, Phase.TRANSIENT, False, HealthState.INITIALIZING),
        (Role.UP, Phase.NOT_READY, False, HealthState.UNHEALTHY),
        (Role.STOP, Phase.NOT_READY, False, HealthState.UNKNOWN),
        (Role.WAIT, Phase.NOT_READY, False, HealthState.UNHEALTHY),
    ],
)
def test_what_the_platform_is_told_of_a_machine(role: Role, phase: Phase, ok: bool, state: HealthState) -> None:
    assert health_state(ProbeAnswer(ok, role, phase, 0, "")) is state


async def test_what_a_stop_would_do_is_said_before(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        sight = Sight(farm.reporter.status(), farm.commands.drill(), None, None)
        assert dry_run("stop", sight) == ("No other node says that it serves: nobody would.",)
        assert dry_run("force", sight) == ()


async def test_the_status_names_the_others_and_no_copies(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        status = farm.reporter.status()
    assert status["kind"] == "farm"
    others = status["others"]
    assert isinstance(others, list)
    assert [(other["node"], other["serves"], other["sentence"]) for other in others] == [
        ("b", False, "not asked yet"),
        ("c", False, "not asked yet"),
    ]
    assert not {"mirror", "witness", "inSync", "epoch", "promise"} & set(status)


async def test_metrics_tell_nothing_of_copies_or_a_peer(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await eventually(lambda: farm.node.decision.serves, "it serves")
        text = farm.reporter.metrics()
    assert 'mirrorplane_node_role{cluster="web",node="a",role="UP"} 1' in text
    assert "mirrorplane_node_probe_ok" in text
    for absent in ("mirrorplane_mirror_", "mirrorplane_peer_", "epoch", "in_sync", "exposed"):
        assert absent not in text


async def test_questions_about_copies_are_answered_with_the_reason() -> None:
    copies = FarmCopies(lambda: "")
    with pytest.raises(NoCopies, match="replicate nothing"):
        copies.mirror()
    with pytest.raises(NoCopies):
        await copies.verified()
    with pytest.raises(NoCopies):
        await copies.quarantine()
    for op in MIRROR_ACTIONS:
        assert (await copies.operate(MirrorRequest(op, "ada"))).status == "refused"
