"""A cluster in miniature for the planner: nodes that begin anew when ordered, a swap, writes that are lost.

Time goes on by ticks. What the planner decides takes effect as in production: the record is written after the decision
(or, in a crash, not), orders are read from the record, a hand-over is a command with the turn's id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mirror_agent.contract import AgentRelease, CommandAction, NodeName, RolloutReport, RolloutStage

from shared.model.node_state import CommandStatus, NodeCommand
from shared.model.rollout import Rollout, TurnKind
from shared.rollout.limits import RolloutLimits
from shared.rollout.plan import Step, next_step
from shared.rollout.sight import NodeSight, Sight

START = datetime(2026, 11, 1, tzinfo=UTC)
TICK = timedelta(seconds=2)
AWAY_TICKS = 3
OLD, NEW = "0.0.9", "0.1.0"
RELEASE = AgentRelease(version=NEW, wheel_name=f"mirror_agent-{NEW}-py3-none-any.whl", sha256="0" * 64)
LIMITS = RolloutLimits()


@dataclass
class SimNode:
    name: NodeName
    serves: bool = False
    version: str = OLD
    in_use: int = 1
    away: int = 0
    order: str = ""
    stage: RolloutStage = RolloutStage.IDLE
    reason: str = ""
    starts: int = 0
    heard_at: datetime = START
    answer: RolloutStage = RolloutStage.DONE
    """What comes of an order: done, refused, or returned."""


@dataclass
class World:
    rollout: Rollout
    nodes: list[SimNode]
    farm: bool = False
    now: datetime = START
    busy: str = ""
    swaps: int = 0
    swap_fails: bool = False
    commands: dict[str, CommandStatus] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    rules: list[str] = field(default_factory=list)
    ended: Step | None = None

    # -- the control plane --------------------------------------------------------------------------------------

    def sight(self) -> Sight:
        missing = [node.name for node in self.nodes if node.away]
        unwell = f"node {missing[0]} is away" if missing else ""
        turn = self.rollout.turn
        status = None if turn is None else self.commands.get(turn.id)
        command = None
        if turn is not None and status is not None:
            command = NodeCommand(
                id=turn.id, operation_id="op", cluster_id="c", node=turn.node, action=CommandAction.SWAP,
                requested_by="r", status=status, message="it would not", created_at=START, updated_at=START,
            )  # fmt: skip
        seen = tuple(
            NodeSight(
                name=node.name, fresh=not node.away, heard_at=node.heard_at, serves=node.serves, resyncing=False,
                version=node.version, said="something",
                report=RolloutReport(
                    configuration_in_use=node.in_use, order=node.order, stage=node.stage, reason=node.reason
                ),
            )
            for node in self.nodes
        )  # fmt: skip
        return Sight(seen, unwell, self.busy, command, self.farm)

    def tick(self, *, crash: bool = False) -> Step:
        """A look of the control plane; `crash`: it is killed between what it does and the write of the record."""
        before = self.rollout.turn
        step = next_step(self.rollout, self.sight(), LIMITS, NEW, self.now)
        if step.hand_over is not None and before is not None:
            self.commands.setdefault(before.id, CommandStatus.PENDING)
        if before is not None and before.kind is TurnKind.HAND_OVER and step.rollout.turn is None:
            self.commands.pop(before.id, None)
        if not crash:
            if not self.rules or self.rules[-1] != step.rule:
                self.rules.append(step.rule)
            self.rollout = step.rollout
            if step.ended is not None:
                self.ended = step
        return step

    # -- the nodes --------------------------------------------------------------------------------------------------

    def live(self) -> None:
        """Two seconds of the nodes' lives."""
        self.now += TICK
        for node in self.nodes:
            if node.away:
                node.away -= 1
                if not node.away:
                    self._back(node)
            if not node.away:
                node.heard_at = self.now
                self._obey(node)
        self._swap()
        assert sum(1 for node in self.nodes if node.away) <= 1, "two nodes are away at once"
        if not self.farm:
            assert any(node.serves and not node.away for node in self.nodes), "nobody serves"

    def _obey(self, node: SimNode) -> None:
        turn = self.rollout.turn
        if self.ended is not None or turn is None or turn.kind is not TurnKind.NODE or turn.node != node.name:
            return
        if node.order == turn.id:
            return
        assert self.farm or not node.serves, "the serving node was told to begin anew"
        assert not any(other.away for other in self.nodes), "another node is away"
        node.order = turn.id
        if node.answer is RolloutStage.REFUSED:
            node.stage, node.reason = RolloutStage.REFUSED, "no room on the disk"
            return
        node.stage, node.away, node.starts = RolloutStage.RESTARTING, AWAY_TICKS, node.starts + 1

    def _back(self, node: SimNode) -> None:
        node.stage, node.reason = node.answer, "it did not come up"
        if node.answer is RolloutStage.DONE:
            node.version = self.rollout.agent.version if self.rollout.agent is not None else node.version
            node.in_use = max(node.in_use, self.rollout.configuration)

    def _swap(self) -> None:
        """A node carries out each command once, whatever becomes of its row."""
        for name, status in list(self.commands.items()):
            if status is not CommandStatus.PENDING or name in self.told:
                continue
            self.told.add(name)
            if self.swap_fails:
                self.commands[name] = CommandStatus.FAILED
                continue
            assert not any(node.away for node in self.nodes), "a swap while a node is away"
            for node in self.nodes:
                node.serves = not node.serves
            self.swaps += 1
            self.commands[name] = CommandStatus.SUCCEEDED

    def run(self, crashes: frozenset[int] = frozenset(), ticks: int = 200) -> World:
        """Until it has ended; `crashes`: numbers of the ticks whose write is lost."""
        for number in range(ticks):
            self.tick(crash=number in crashes)
            if self.ended is not None:
                return self
            self.live()
        raise AssertionError(f"not ended after {ticks} ticks: {self.rules}")


def pair(**rollout: object) -> World:
    wanted = Rollout.model_validate(
        {"operationId": "op", "requestedBy": "somebody", "agent": RELEASE, "configuration": 0} | rollout
    )
    return World(wanted, [SimNode("a", serves=True), SimNode("b")])


def farm(count: int) -> World:
    world = pair()
    world.farm = True
    names: tuple[NodeName, ...] = ("a", "b", "c", "d")
    world.nodes = [SimNode(name, serves=True) for name in names[:count]]
    return world
