"""No schedule of facts ever yields an action on a node that serves or may serve, nor more than the budget allows."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from mirror_agent.contract import MIRROR_NODES, NodeName, Phase, Role

from shared.model.node_state import ProbeOutcome
from shared.model.remediation import SPENT, ActionRecord, ActionStatus, Step
from shared.model.remediation_policy import RemediationPolicy
from shared.remediation.last_look import LastLook, reason_against
from shared.remediation.model import Policy
from shared.store.ports import WitnessRecord
from tests.control_plane_samples import NOW, node_state
from tests.remediation_samples import CLUSTER_ID, LONG_AGO, NodeScene, Scene, Watcher

EAGER = RemediationPolicy.model_validate(
    {"limits": {"sickForS": 0, "graceS": 0, "agentStepS": 5, "machineStepS": 5, "replaceStepS": 60, "coolDownS": 0}}
)
NODE = st.sampled_from(MIRROR_NODES)
IN_SYNC = st.lists(NODE, unique=True).map(tuple)
NODE_SCENES = st.builds(
    NodeScene,
    role=st.sampled_from(Role),
    age_s=st.sampled_from([None, 1.0, 40.0, 50.0, 4000.0]),
    probe=st.sampled_from([None, *ProbeOutcome]),
    power=st.sampled_from(["", "running", "stopped", "deallocated", "absent"]),
    customer_initiated=st.booleans(),
    boot_id=st.sampled_from(["boot-1", "boot-2"]),
)
SCENES = st.builds(
    Scene,
    nodes=st.fixed_dictionaries({"a": NODE_SCENES, "b": NODE_SCENES}),
    serving=st.sampled_from([None, *MIRROR_NODES]),
    # Also what the audit would never say: the planner must be safe by itself.
    sick=IN_SYNC,
    unknown=IN_SYNC,
    witness=st.none() | st.tuples(st.sampled_from(["", *MIRROR_NODES]), IN_SYNC),
    sacred=IN_SYNC,
    paused_by=st.sampled_from([(), (), ("maintenance",)]),
    storm=st.booleans(),
    busy_zones=st.sampled_from([frozenset(), frozenset({"weu-1"}), frozenset({"weu-2"})]),
    policy=st.just(EAGER),
    changing=st.booleans(),
)
LIKELY = st.builds(
    Scene,
    nodes=st.fixed_dictionaries({"a": st.just(NodeScene(Role.ALONE)), "b": NODE_SCENES}),
    sick=st.sampled_from([(), ("b",), ("b",)]),
    witness=st.tuples(st.just("a"), st.sampled_from([("a",), ("a",), ("a", "b")])),
    policy=st.just(EAGER),
)
SCHEDULES = st.lists(st.tuples(SCENES | LIKELY, st.sampled_from([1, 30, 30, 60, 600, 7200])), min_size=1, max_size=40)


@settings(max_examples=300, deadline=None)
@given(SCHEDULES)
def test_no_schedule_of_facts_touches_a_serving_node_or_exceeds_a_budget(
    schedule: list[tuple[Scene, int]],
) -> None:
    watcher = Watcher()
    for scene, pause_s in schedule:
        before = {action.id for action in watcher.record.actions if action.status in SPENT}
        decision = watcher.look(scene)
        if decision.action is not None:
            _assert_harmless(scene, decision.action.node)
            assert decision.action.id not in before, "an id is never used twice"
            assert not scene.storm
            assert not scene.paused_by
            assert not scene.changing
        watcher.act()
        assert len([action for action in watcher.record.actions if action.ended_at is None]) <= 1
        watcher.now += timedelta(seconds=pause_s)
    _assert_budget(watcher)


def _assert_harmless(scene: Scene, node: NodeName) -> None:
    peer: NodeName = "b" if node == "a" else "a"
    seen = scene.nodes[node]
    assert scene.serving == peer
    assert node not in scene.sacred
    assert scene.witness is not None
    assert scene.witness[0] == peer
    assert node not in scene.witness[1]
    assert not (seen.age_s is not None and seen.age_s <= 45 and seen.role in (Role.PRIM, Role.ALONE))
    assert seen.probe is not ProbeOutcome.SERVING


def _assert_budget(watcher: Watcher) -> None:
    done = [action for action in watcher.record.actions if action.status in SPENT]
    for action in done:
        began = action.started_at or action.planned_at
        around = [
            other
            for other in done
            if other.node == action.node
            and began <= (other.started_at or other.planned_at) < began + timedelta(hours=24)
        ]
        assert len(around) <= EAGER.limits.actions_per_day
        soon = Counter(
            other.step for other in around if (other.started_at or other.planned_at) < began + timedelta(hours=6)
        )
        assert max(soon.values()) == 1


STATES = st.builds(
    lambda role, phase, age_s: (role, phase, age_s),
    st.sampled_from(Role),
    st.sampled_from(Phase),
    st.sampled_from([0, 30, 46, 9000]),
)
WITNESS = st.none() | st.builds(
    WitnessRecord,
    epoch=st.integers(0, 9),
    primary=st.sampled_from(["", "a", "b"]),
    in_sync=st.sampled_from(["", "a", "b", "a,b"]),
    nonce=st.just("n"),
    rule=st.just("r"),
)


@settings(max_examples=500, deadline=None)
@given(NODE, WITNESS, st.none() | STATES, st.none() | STATES)
def test_the_last_look_lets_nothing_pass_that_may_serve(
    node: NodeName,
    witness: WitnessRecord | None,
    mine: tuple[Role, Phase, int] | None,
    peer: tuple[Role, Phase, int] | None,
) -> None:
    other: NodeName = "b" if node == "a" else "a"
    states = {
        name: node_state(CLUSTER_ID, name, at=NOW - timedelta(seconds=told[2]), role=told[0], phase=told[1])
        for name, told in ((node, mine), (other, peer))
        if told is not None
    }
    action = ActionRecord(
        id="x",
        node=node,
        incident="i",
        step=Step.MACHINE_RESTART,
        status=ActionStatus.PLANNED,
        rule="r",
        sentence="s",
        planned_at=NOW,
    )
    look = LastLook(witness, states, Policy(EAGER, 1, False, LONG_AGO))
    if reason_against(look, action, NOW) is None:
        assert witness is not None
        assert witness.primary == other
        assert node not in witness.in_sync
        assert peer is not None
        assert peer[0] in (Role.PRIM, Role.ALONE)
        assert peer[2] <= 45
        assert mine is None or mine[2] > 45 or mine[0] is Role.WAIT or (mine[0], mine[1]) != (Role.SECOND, Phase.READY)
        assert mine is None or mine[2] > 45 or mine[0] not in (Role.PRIM, Role.ALONE, Role.STOP)
