"""In a farm nothing is done to a node while fewer than the minimum of the others serve: when planned, and when done."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirror_agent.contract import ALL_NODES, ApplicationState, CommandAction, NodeName, Phase, Role

from shared.model.node_state import ProbeOutcome
from shared.remediation.commands import restart_commands, withheld
from shared.remediation.last_look import LastLook, reason_against
from shared.remediation.model import Policy
from tests.control_plane_samples import NOW, farm_heartbeat
from tests.remediation_samples import LONG_AGO, Scene, Watcher, changed, farm_scene
from tests.unit.remediation.bench import Bench
from tests.unit.remediation.test_properties import EAGER, NODE_SCENES

NODES = st.lists(st.sampled_from(ALL_NODES), unique=True).map(tuple)
FARMS = st.builds(
    Scene,
    nodes=st.fixed_dictionaries(dict.fromkeys(ALL_NODES, NODE_SCENES)),
    serving=st.just(None),
    witness=st.just(None),
    # Also what the audit would never say: the planner must be safe by itself.
    sick=NODES,
    unknown=NODES,
    sacred=NODES,
    policy=st.just(EAGER),
    farm=st.just(True),
    minimum_healthy=st.integers(1, 3),
)
LIKELY = st.builds(
    lambda lost, minimum: changed(
        farm_scene(4),
        sick=lost,
        minimum_healthy=minimum,
        policy=EAGER.model_dump(),
        **{node: {"role": Role.WAIT, "age_s": 300.0, "probe": ProbeOutcome.TIMEOUT} for node in lost},
    ),
    NODES,
    st.integers(1, 3),
)
SCHEDULES = st.lists(st.tuples(FARMS | LIKELY, st.sampled_from([1, 30, 30, 60, 600, 7200])), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@given(SCHEDULES)
def test_no_schedule_of_facts_goes_below_the_minimum_or_touches_a_node_that_serves(
    schedule: list[tuple[Scene, int]],
) -> None:
    watcher = Watcher()
    for scene, pause_s in schedule:
        decision = watcher.look(scene)
        if decision.action is not None:
            node = decision.action.node
            serve = [name for name in scene.nodes if name != node and _serves(scene, name)]
            assert len(serve) >= scene.minimum_healthy
            assert not _serves(scene, node)
            assert scene.nodes[node].probe is not ProbeOutcome.SERVING
            assert node not in scene.sacred
        watcher.act()
        assert len([action for action in watcher.record.actions if action.ended_at is None]) <= 1
        watcher.now += timedelta(seconds=pause_s)


def _serves(scene: Scene, node: NodeName) -> bool:
    seen = scene.nodes[node]
    fresh = seen.age_s is not None and seen.age_s <= 45
    return seen.role is Role.UP and fresh and node not in scene.sick and node not in scene.unknown


async def farm(minimum: int, **changes: Any) -> Bench:
    bench = Bench(kind="farm", compute__nodes=3, minimumHealthy=minimum, **changes)
    return await bench.prepare()


async def up(bench: Bench, *nodes: NodeName) -> None:
    for node in nodes:
        await bench.heard(node, Role.UP, epoch=0, in_sync=())


LOST_B = changed(farm_scene(3), b={"role": Role.WAIT, "age_s": 300.0, "probe": ProbeOutcome.REFUSED}, sick=("b",))


async def planned(bench: Bench) -> None:
    for _ in range(20):
        await up(bench, "a", "c")
        await bench.audit(LOST_B)
        if (await bench.row()).open_action is not None:
            await up(bench, "a", "c")
            return
    raise AssertionError(f"nothing was planned: {(await bench.row()).sentence}")


async def test_it_acts_where_enough_others_say_that_they_serve() -> None:
    bench = await farm(2)
    await planned(bench)
    await bench.run()
    assert bench.machines.done == ["run pay-b: systemctl restart mirrorplane-agent"]


async def test_the_last_look_counts_again() -> None:
    bench = await farm(2)
    await planned(bench)
    await bench.heard("c", Role.UP, phase=Phase.TRANSIENT)
    await bench.run()
    assert bench.machines.done == []
    assert "1 other nodes report that they serve, 2 must" in (await bench.row()).actions[-1].result


@pytest.mark.parametrize(
    ("mine", "rule"),
    [
        (farm_heartbeat("b"), "decision-changed"),
        (farm_heartbeat("b", phase=Phase.NOT_READY, probe_ok=False), None),
        (farm_heartbeat("b", application=ApplicationState.FAILED, phase=Phase.NOT_READY), None),
    ],
)
async def test_a_node_that_serves_again_is_left_alone(mine: Any, rule: str | None) -> None:
    bench = await farm(1)
    await planned(bench)
    action = (await bench.row()).actions[-1]
    states = dict(await bench.store.node_states.of_cluster(action.id[:36]))
    states["b"] = states["a"].model_copy(update={"node": "b", "heartbeat": mine})
    policy = Policy(EAGER, 1, False, LONG_AGO, is_farm=True, minimum_healthy=1)
    against = reason_against(LastLook(None, states, policy), action, bench.clock())
    assert (None if against is None else against[0]) == rule


async def test_a_stop_of_ours_never_reaches_a_node_that_serves() -> None:
    bench = await farm(1)
    await planned(bench)
    start, stop = restart_commands("id", (await bench.row()).actions[-1], NOW)
    assert (start.action, stop.action) == (CommandAction.START, CommandAction.STOP)
    assert withheld(stop, farm_heartbeat("b"))
    assert not withheld(stop, farm_heartbeat("b", phase=Phase.NOT_READY))
    assert not withheld(start, farm_heartbeat("b"))
