"""Orders to a farm node: what each does, what is refused, and what a restart of the agent remembers."""

from __future__ import annotations

from pathlib import Path

import pytest
from mirror_agent.contract import Command, CommandAction, CommandResult, Role
from mirror_agent.core.model import Wish
from mirror_agent.farm.model import Action
from mirror_agent.web.actions import NodeAction, NodeRequest

from tests.agent_samples import eventually
from tests.unit.farm.small_farm import SmallFarm


def order(action: NodeAction) -> NodeRequest:
    return NodeRequest(action, "ada", "because")


async def up(farm: SmallFarm) -> None:
    await eventually(lambda: farm.node.decision.serves, "the node serves")


async def test_stop_then_start(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await up(farm)
        stopped = await farm.commands.request(order(NodeAction.STOP))
        assert (stopped.status, farm.node.decision.role) == ("succeeded", Role.STOP)
        assert farm.store.load().wish is Wish.STOP, "known to the next life before the operator reads 'done'"
        started = await farm.commands.request(order(NodeAction.START))
        assert started.status == "succeeded"
        assert farm.node.decision.serves


async def test_a_stopped_node_stays_stopped_in_its_next_life(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await up(farm)
        await farm.commands.request(order(NodeAction.STOP))
    async with SmallFarm(tmp_path).running() as farm:
        assert farm.node.decision.rule == "stopped"
        assert "ada: because" in farm.node.decision.sentence


async def test_the_end_of_the_service_is_forgotten_by_the_next_life(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await up(farm)
        farm.node.wish_until_restart(Wish.STOP, who="service", why="the agent is being stopped")
        await eventually(lambda: farm.node.decision.rule == "stopped", "it left")
    async with SmallFarm(tmp_path).running() as farm:
        await up(farm)


async def test_restart_stops_and_starts(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await up(farm)
        outcome = await farm.commands.request(order(NodeAction.RESTART))
        assert outcome.status == "succeeded"
        assert farm.begun == [Action.PREPARE, Action.START, Action.STOP, Action.START]


async def test_a_restart_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await up(farm)
        farm.failing[Action.START] = "start_prim exited with 7"
        outcome = await farm.commands.request(order(NodeAction.RESTART))
        assert (outcome.status, "exited with 7" in outcome.message) == ("failed", True)


async def test_a_restart_of_what_does_not_run_is_refused(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await up(farm)
        await farm.commands.request(order(NodeAction.STOP))
        assert (await farm.commands.request(order(NodeAction.RESTART))).status == "refused"


@pytest.mark.parametrize("action", [NodeAction.SWAP, NodeAction.FORCE, NodeAction.FAILOVER_ON, NodeAction.FAILOVER_OFF])
async def test_what_only_a_pair_can_do_is_refused_with_a_sentence(tmp_path: Path, action: NodeAction) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await up(farm)
        outcome = await farm.commands.request(NodeRequest(action, "ada", "why", confirm="web"))
        assert (outcome.status, "a farm" in outcome.message) == ("refused", True)
        assert farm.node.decision.serves
        assert farm.kinds().count("command.ended") == 1


async def test_the_control_plane_hears_accepted_and_the_end(tmp_path: Path) -> None:
    heard: list[CommandResult] = []
    async with SmallFarm(tmp_path).running() as farm:
        await up(farm)
        for number, action in enumerate((CommandAction.STOP, CommandAction.SWAP)):
            farm.commands.from_control_plane(
                Command(id=str(number), action=action, requested_by="ada", reason="r"), heard.append
            )
        await eventually(lambda: len(heard) == 4, "both are over")
    assert {(result.id, result.status) for result in heard} == {
        ("0", "accepted"),
        ("0", "succeeded"),
        ("1", "accepted"),
        ("1", "failed"),
    }


async def test_a_node_that_leaves_for_a_maintenance_comes_back(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await up(farm)
        left, _ = await farm.commands.leave_for(who="scheduled event", why="Reboot", within_s=None)
        assert left
        assert farm.node.decision.rule == "away"
        assert Action.STOP not in farm.begun
        farm.commands.come_back()
        assert farm.node.decision.serves


async def test_a_wish_the_disk_refuses_counts_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await up(farm)
        farm.store.path.mkdir()  # nothing can be put in the place of a directory
        outcome = await farm.commands.request(order(NodeAction.STOP))
        assert (outcome.status, "disk refuses" in outcome.message) == ("failed", True)
        assert farm.node.decision.rule == "stopped"


async def test_a_stop_that_fails_does_not_leave_a_node_stopped_that_was_to_start_again(tmp_path: Path) -> None:
    async with SmallFarm(tmp_path).running() as farm:
        await up(farm)
        farm.store.path.mkdir()  # the wish to stop cannot be kept
        outcome = await farm.commands.request(order(NodeAction.STOPSTART))
        assert (outcome.status, "disk refuses" in outcome.message) == ("failed", True)
        assert farm.node.decision.serves
