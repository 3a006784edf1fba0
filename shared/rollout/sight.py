"""What a rollout sees of a cluster, out of what the nodes last said. Pure.

A heartbeat counts while it is fresh by our own clock of arrival. "All well" means that one node can be missed without
loss of service: of a mirror one node PRIM and the other SECOND, both ready and of one epoch (or the module stopped on
both, where nothing can be lost); of a farm every node UP and ready (or stopped on all).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from mirror_agent.contract import Heartbeat, NodeName, Phase, Role, RolloutReport

from shared.model.cluster import ClusterRecord
from shared.model.node_state import NodeCommand, NodeState

_SERVING = frozenset({Role.PRIM, Role.ALONE})


@dataclass(frozen=True, slots=True)
class NodeSight:
    """`report` None: its agent takes no orders. `said`: its own last sentence."""

    name: NodeName
    fresh: bool
    heard_at: datetime | None
    serves: bool
    resyncing: bool
    version: str
    report: RolloutReport | None
    said: str


@dataclass(frozen=True, slots=True)
class Sight:
    """`unwell`: why the nodes are not all well, "" if they are. `busy`: what else is at work, "" if nothing is.
    `command`: the hand-over of the present turn, if it was given. `farm`: every node serves, none hands over."""

    nodes: tuple[NodeSight, ...]
    unwell: str
    busy: str = ""
    command: NodeCommand | None = None
    farm: bool = False

    def node(self, name: NodeName) -> NodeSight:
        return next(node for node in self.nodes if node.name == name)

    @property
    def serving(self) -> NodeName | None:
        return next((node.name for node in self.nodes if node.serves and node.fresh), None)


def look(
    record: ClusterRecord,
    states: Mapping[NodeName, NodeState],
    commands: Iterable[NodeCommand],
    *,
    busy: str,
    fresh_s: float,
    now: datetime,
) -> Sight:
    turn = None if record.rollout is None else record.rollout.turn
    nodes = tuple(_node(name, states.get(name), fresh_s, now) for name in record.nodes)
    fresh = {node.name: states[node.name].heartbeat for node in nodes if node.fresh}
    silent = [node.name for node in nodes if not node.fresh]
    if silent:
        unwell = f"node {silent[0]} has said nothing for {fresh_s:g} s"
    else:
        unwell = farm_unwell(fresh) if record.is_farm else mirror_unwell(fresh)
    command = next((command for command in commands if turn is not None and command.id == turn.id), None)
    return Sight(nodes, unwell, busy, command, farm=record.is_farm)


def mirror_unwell(beats: Mapping[NodeName, Heartbeat]) -> str:
    words = ", ".join(f"node {name} is {beat.role.value} {beat.phase.value}" for name, beat in sorted(beats.items()))
    if all(beat.role is Role.STOP for beat in beats.values()):
        return ""
    settled = {beat.role for beat in beats.values() if beat.phase is Phase.READY}
    if settled != {Role.PRIM, Role.SECOND}:
        return f"the pair is not in sync: {words}"
    if len({beat.epoch for beat in beats.values()}) != 1:
        return f"the pair is changing its roles: {words}"
    return ""


def farm_unwell(beats: Mapping[NodeName, Heartbeat]) -> str:
    if all(beat.role is Role.STOP for beat in beats.values()):
        return ""
    for name, beat in sorted(beats.items()):
        if beat.role is not Role.UP or beat.phase is not Phase.READY:
            return f"node {name} of the farm is {beat.role.value} {beat.phase.value}"
    return ""


def _node(name: NodeName, state: NodeState | None, fresh_s: float, now: datetime) -> NodeSight:
    if state is None:
        return NodeSight(name, False, None, False, False, "", None, "it has never reported")
    beat = state.heartbeat
    return NodeSight(
        name=name,
        fresh=(now - state.received_at).total_seconds() <= fresh_s,
        heard_at=state.received_at,
        serves=beat.role in _SERVING,
        resyncing=beat.mirror is not None and beat.mirror.link == "resync",
        version=state.agent_version,
        report=beat.rollout,
        said=beat.sentence,
    )
