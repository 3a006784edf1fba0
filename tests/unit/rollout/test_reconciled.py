"""Rolling changes through the reconciler's own ticks, with nodes that obey their orders; also killed in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mirror_agent.contract import NodeName, Phase, Role, RolloutReport, RolloutStage

from shared.api.problem import Problem
from shared.api.wishes import Wish
from shared.model.cluster import ClusterRecord, ProvisioningState
from shared.model.node_state import CommandStatus
from shared.model.operation import OperationKind, OperationStatus
from shared.model.rollout import Rollout
from shared.provisioning.configuration import configuration_version
from shared.rollout.advance import order_for, outdated, see
from shared.rollout.wish import decide_upgrade
from shared.store.ports import Changed
from tests.control_plane_samples import node_state
from tests.unit.provisioning.world import CLUSTER_ID, Fuse, World
from tests.unit.rollout.world import NEW, OLD, RELEASE

AWAY_S = 4


@dataclass
class Agent:
    version: str = OLD
    in_use: int = 0
    order: str = ""
    stage: RolloutStage = RolloutStage.IDLE
    away_s: int = 0
    starts: int = 0
    answer: RolloutStage = RolloutStage.DONE


class Rolling(World):
    """As the provisioner's world; once the cluster is up its nodes take orders, and no configuration while they run."""

    def __init__(self, wheel: Path, **more: Any) -> None:
        super().__init__(wheel, **more)
        self.agents: dict[NodeName, Agent] = {name: Agent() for name in self.record.nodes}
        self.swaps = 0
        self.refused: list[str] | None = None  # orders to swap that a node refused, when it does

    async def nodes_live(self) -> None:
        stored = await self.store.clusters.get("pay")
        if stored is None or not stored.value.ever_succeeded:
            await super().nodes_live()
            return
        record = stored.value
        for name, agent in self.agents.items():
            if agent.away_s:
                agent.away_s -= 1
                if not agent.away_s:
                    self._back(record, agent)
            if not agent.away_s:
                await self._report(record, name, agent)
                await self._obey(record, name, agent)
        assert sum(1 for agent in self.agents.values() if agent.away_s) <= 1
        await self._swap(record)

    def _back(self, record: ClusterRecord, agent: Agent) -> None:
        agent.stage = agent.answer
        if agent.answer is RolloutStage.DONE:
            agent.version, agent.in_use = NEW, configuration_version(record, self.clock())

    async def _report(self, record: ClusterRecord, name: NodeName, agent: Agent) -> None:
        report = RolloutReport(
            configuration_in_use=agent.in_use, order=agent.order, stage=agent.stage, reason="it did not come up"
        )
        state = node_state(
            CLUSTER_ID, name, at=self.clock(), role=self.roles[name], phase=Phase.READY, rollout=report
        ).model_copy(
            update={
                "agent_version": agent.version,
                "configuration_version": configuration_version(record, self.clock()),
            }
        )
        current = await self.store.node_states.get(CLUSTER_ID, name)
        await self.store.node_states.put(state, None if current is None else current.etag)
        self.beat = state.heartbeat

    async def _obey(self, record: ClusterRecord, name: NodeName, agent: Agent) -> None:
        order = order_for(record, name, self.beat)
        if order is None or order.id == agent.order:
            return
        assert self.roles[name] is not Role.PRIM, "the serving node is told to begin anew"
        agent.order, agent.stage, agent.away_s = order.id, RolloutStage.RESTARTING, AWAY_S
        agent.starts += 1

    async def _swap(self, record: ClusterRecord) -> None:
        for entry in await self.store.commands.of_cluster(CLUSTER_ID):
            command = entry.value
            if command.status is CommandStatus.PENDING and not outdated(record, command):
                status = CommandStatus.SUCCEEDED
                if self.refused is None:
                    self.roles = dict(zip(self.roles, reversed(self.roles.values()), strict=True))
                    self.swaps += 1
                else:
                    self.refused.append(command.id)
                    status = CommandStatus.FAILED
                try:
                    await self.store.commands.replace(command.model_copy(update={"status": status}), entry.etag)
                except Changed as error:
                    raise AssertionError("only the nodes change commands here") from error

    # -- what is asked for ------------------------------------------------------------------------------------------
    async def up(self) -> Rolling:
        await self.request(OperationKind.CREATE)
        await self.drive()
        version = configuration_version(await self.record_now(), self.clock())
        for agent in self.agents.values():
            agent.in_use = version
        await self.nodes_live()
        return self

    async def upgrade(self) -> str:
        def wanted(record: ClusterRecord) -> ClusterRecord:
            generation = record.generation + 1
            rollout = Rollout(
                operation_id=f"00000000-0000-4000-8000-{generation:012d}", requested_by="test", agent=RELEASE
            )
            return record.model_copy(update={"rollout": rollout})

        return await self.request(OperationKind.UPGRADE, wanted)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "mirror_agent-0.1.0-py3-none-any.whl"
    path.write_bytes(b"wheel")
    return path


async def test_an_upgrade_has_a_step_for_each_node_and_one_swap(wheel: Path) -> None:
    world = await Rolling(wheel).up()
    operation = await world.operation_now(await _driven(world, world.upgrade))
    assert operation.status is OperationStatus.SUCCEEDED
    assert [(step.name, step.status.value) for step in operation.steps] == [
        ("node-a", "Succeeded"), ("node-b", "Succeeded"), ("handOver", "Succeeded"),
    ]  # fmt: skip
    assert ({agent.version for agent in world.agents.values()}, world.swaps) == ({NEW}, 1)
    record = await world.record_now()
    assert (record.rollout, record.state) == (None, ProvisioningState.SUCCEEDED)
    assert await world.store.commands.of_cluster(CLUSTER_ID) == []
    titles = [event.type for event in (await world.store.events.page(world.clock().date(), None, 50)).items]
    assert titles[0] == "Rolling change (agent 0.1.0): everywhere"
    assert len(titles) == 7  # two nodes and a hand-over, each begun and done, and the end


async def test_a_configuration_that_needs_it_is_rolled_out_by_its_put(wheel: Path) -> None:
    world = await Rolling(wheel).up()
    operation = await world.operation_now(await _driven(world, lambda: world.request(OperationKind.UPDATE)))
    assert (operation.status, operation.steps[-1].name) == (OperationStatus.SUCCEEDED, "inUse")
    version = configuration_version(await world.record_now(), world.clock())
    assert ({agent.in_use for agent in world.agents.values()}, world.swaps) == ({version}, 1)


async def test_one_that_stops_says_why_and_can_be_asked_for_again(wheel: Path) -> None:
    world = await Rolling(wheel).up()
    world.agents["b"].answer = RolloutStage.RETURNED
    operation = await world.operation_now(await _driven(world, world.upgrade))
    assert operation.status is OperationStatus.FAILED
    assert operation.error is not None
    assert operation.error.code == "NodeReturned"
    assert "it did not come up. Left as it is: node a serves; node a has version 0.0.9" in operation.error.message
    assert (world.agents["a"].starts, world.swaps) == (0, 0)
    record = await world.record_now()
    assert (record.rollout, record.state) == (None, ProvisioningState.FAILED)
    world.agents["b"].answer = RolloutStage.DONE
    again = decide_upgrade(record, RELEASE, await see(world.store, record, world.clock(), 30.0), NEW, _wish(world), "")
    assert again is not None
    assert again.state is ProvisioningState.UPDATING


async def test_it_is_refused_while_the_pair_is_not_in_sync(wheel: Path) -> None:
    world = await Rolling(wheel).up()
    world.roles = {"a": Role.ALONE, "b": Role.WAIT}
    await world.nodes_live()
    record = await world.record_now()
    sight = await see(world.store, record, world.clock(), 30.0)
    with pytest.raises(Problem, match="not in sync: node a is ALONE") as refused:
        decide_upgrade(record, RELEASE, sight, NEW, _wish(world), "")
    assert refused.value.code == "UpgradeNotPossible"


@pytest.mark.parametrize("after", [False, True], ids=["before-the-call", "after-the-call"])
async def test_killed_at_any_call_it_ends_the_same(wheel: Path, after: bool) -> None:
    counting = await Rolling(wheel).up()
    before = counting.fuse.calls
    await _driven(counting, counting.upgrade)
    for at in range(before + (2 if after else 1), counting.fuse.calls, 11):
        world = await Rolling(wheel, fuse=Fuse(after=after)).up()
        world.fuse.at = at
        operation = await world.operation_now(await _driven(world, world.upgrade))
        assert operation.status is OperationStatus.SUCCEEDED, f"killed at call {at}: {operation}"
        assert world.swaps == 1, f"killed at call {at}"
        assert [agent.starts for agent in world.agents.values()] == [1, 1], f"killed at call {at}"


@pytest.mark.parametrize("after", [False, True], ids=["before-the-call", "after-the-call"])
async def test_a_hand_over_that_was_refused_is_ordered_once_however_it_is_recorded(wheel: Path, after: bool) -> None:
    counting = await Rolling(wheel).up()
    counting.refused = []
    before = counting.fuse.calls
    await _driven(counting, counting.upgrade)
    assert len(counting.refused) == 1
    last = counting.fuse.calls
    for at in range(max(before + 2, last - 40), last):
        world = await Rolling(wheel, fuse=Fuse(after=after)).up()
        world.refused = []
        world.fuse.at = at
        operation = await world.operation_now(await _driven(world, world.upgrade))
        assert operation.status is OperationStatus.FAILED, f"killed at call {at}: {operation}"
        assert len(world.refused) == 1, f"killed at call {at}"


async def _driven(world: Rolling, ask: Callable[[], Any]) -> str:
    operation: str = await ask()
    await world.drive()
    return operation


def _wish(world: World) -> Wish:
    return Wish(principal="token:test", operation_id="id", named=False, now=world.clock())
