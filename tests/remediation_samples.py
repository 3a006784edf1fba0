"""A cluster as remediation sees it, put together from a few words: for golden scenarios, unit and property tests.

A scene says what is true of the two nodes; `verdict` gives what the audit would hand over.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from mirror_agent.contract import ALL_NODES, ApplicationState, NodeName, Phase, Role

from shared.health.facts import Beat, Fact, FactKind, Notice, Power, ProbeSeen, Trust, WitnessSeen
from shared.health.verdict import ClusterVerdict, Fleet, Health, NodeVerdict
from shared.model.node_state import ProbeOutcome
from shared.model.remediation import ActionStatus, RemediationRecord
from shared.model.remediation_policy import RemediationPolicy
from shared.remediation.model import FRESH_S, Decision, History, Policy
from shared.remediation.plan import plan
from shared.remediation.settle import decided
from shared.remediation.watch import watched
from tests.control_plane_samples import NOW

CLUSTER_ID = "6f1d2c3b-0000-4000-8000-00000000abcd"
LONG_AGO = NOW - timedelta(days=30)
AUDIT_S = 30.0


@dataclass(frozen=True)
class NodeScene:
    """`age_s` None: the node was never heard. `power` "": nobody looked."""

    role: Role = Role.SECOND
    age_s: float | None = 2.0
    probe: ProbeOutcome | None = ProbeOutcome.STANDBY
    power: str = ""
    customer_initiated: bool = False
    boot_id: str = "boot-1"


@dataclass(frozen=True)
class Scene:
    nodes: dict[NodeName, NodeScene] = field(default_factory=lambda: {"a": NodeScene(Role.ALONE), "b": NodeScene()})
    serving: NodeName | None = "a"
    sick: tuple[NodeName, ...] = ()
    unknown: tuple[NodeName, ...] = ()
    witness: tuple[str, tuple[NodeName, ...]] | None = ("a", ("a",))
    sacred: tuple[NodeName, ...] = ("a",)
    paused_by: tuple[str, ...] = ()
    storm: bool = False
    busy_zones: frozenset[str] = frozenset()
    policy: RemediationPolicy = field(default_factory=RemediationPolicy)
    changing: bool = False
    changed_at: datetime = LONG_AGO
    generation: int = 1
    farm: bool = False
    minimum_healthy: int = 1


def farm_scene(count: int) -> Scene:
    nodes = {node: NodeScene(Role.UP, probe=ProbeOutcome.SERVING) for node in ALL_NODES[:count]}
    return Scene(nodes=nodes, serving=None, witness=None, sacred=(), farm=True)


def verdict(scene: Scene, now: datetime) -> ClusterVerdict:
    facts: list[Fact] = []
    if scene.witness is not None:
        primary, in_sync = scene.witness
        facts.append(Fact(FactKind.WITNESS, None, "witness", now, Trust.RECORD, WitnessSeen(5, primary, in_sync)))
    nodes: dict[NodeName, NodeVerdict] = {}
    for node in scene.nodes:
        seen = scene.nodes[node]
        facts += _facts(node, seen, now)
        state = Health.HEALTHY
        if node in scene.sick:
            state = Health.DOWN
        elif node in scene.unknown:
            state = Health.UNKNOWN
        nodes[node] = NodeVerdict(node, state, "made-up", "made up", now)
    return ClusterVerdict(
        cluster="pay",
        cluster_id=CLUSTER_ID,
        state=Health.EXPOSED if scene.sick else Health.HEALTHY,
        rule="made-up",
        sentence="made up",
        since=now,
        at=now,
        nodes=nodes,
        facts=tuple(facts),
        serving=scene.serving,
        sick=scene.sick,
        sacred=scene.sacred,
        paused_by=scene.paused_by,
        up=_up(scene),
    )


def _up(scene: Scene) -> tuple[NodeName, ...]:
    serves = (node for node, seen in scene.nodes.items() if seen.role is Role.UP and (seen.age_s or 999) <= FRESH_S)
    return tuple(node for node in serves if scene.farm and node not in scene.sick)


def _facts(node: NodeName, seen: NodeScene, now: datetime) -> list[Fact]:
    facts: list[Fact] = []
    if seen.age_s is not None:
        beat = Beat(
            seen.role,
            Phase.READY,
            5,
            (),
            ApplicationState.RUNNING,
            seen.role in (Role.PRIM, Role.ALONE, Role.UP),
            seen.boot_id,
            "start-1",
            1,
            "made up",
        )
        at = now - timedelta(seconds=seen.age_s)
        facts.append(Fact(FactKind.HEARTBEAT, node, f"agent-{node}", at, Trust.SELF_REPORT, beat))
    if seen.probe is not None:
        facts.append(Fact(FactKind.PROBE, node, "probe", now, Trust.OWN_LOOK, ProbeSeen(seen.probe)))
    if seen.power:
        facts.append(Fact(FactKind.POWER, node, "arm", now, Trust.PLATFORM, Power(seen.power)))
    if seen.customer_initiated:
        notice = Notice("annotated", "event-1", "Customer Initiated", customer_initiated=True)
        facts.append(Fact(FactKind.NOTICE, node, "event-grid", now, Trust.PLATFORM, notice))
    return facts


@dataclass
class Watcher:
    """Audits one after the other; `act` lets the executor's part come true at once."""

    record: RemediationRecord = field(
        default_factory=lambda: RemediationRecord(cluster_id=CLUSTER_ID, cluster="pay", generation=1)
    )
    now: datetime = NOW

    def look(self, scene: Scene) -> Decision:
        policy = Policy(
            scene.policy,
            scene.generation,
            scene.changing,
            scene.changed_at,
            {"a": "weu-1", "b": "weu-2", "c": "weu-3", "d": "weu-1"},
            nodes=tuple(scene.nodes),
            is_farm=scene.farm,
            minimum_healthy=scene.minimum_healthy,
        )
        seen = verdict(scene, self.now)
        self.record = watched(seen, self.record, policy, self.now)
        decision = plan(seen, History(self.record, scene.busy_zones), policy, Fleet(storm=scene.storm), self.now)
        self.record = decided(self.record, decision, policy, self.now)
        return decision

    def act(self) -> None:
        """What was planned is done."""
        sent = {"status": ActionStatus.SENT, "started_at": self.now}
        self.record = self.record.model_copy(
            update={
                "actions": tuple(
                    action.model_copy(update=sent) if action.status is ActionStatus.PLANNED else action
                    for action in self.record.actions
                )
            }
        )

    def watch(self, scene: Scene, seconds: float, *, every_s: float = AUDIT_S) -> list[Decision]:
        """Audits for so long, acting on what they plan; the decisions that are no repetition of the one before."""
        decisions: list[Decision] = []
        end = self.now + timedelta(seconds=seconds)
        while self.now < end:
            decision = self.look(scene)
            self.act()
            if not decisions or decision.rule != decisions[-1].rule or decision.action is not None:
                decisions.append(decision)
            self.now += timedelta(seconds=every_s)
        return decisions


def changed(scene: Scene, **changes: Any) -> Scene:
    """`scene` with changes; `a=`, `b=`… change a node's own scene, `policy=` is a spec's JSON."""
    nodes = dict(scene.nodes)
    for node in scene.nodes:
        if node in changes:
            nodes[node] = replace(nodes[node], **changes.pop(node))
    if "policy" in changes:
        changes["policy"] = RemediationPolicy.model_validate(changes["policy"])
    return replace(scene, nodes=nodes, **changes)


SICK_B = changed(Scene(), b={"role": Role.WAIT, "age_s": 300.0, "probe": ProbeOutcome.REFUSED}, sick=("b",))
