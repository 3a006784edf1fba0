"""One look at a rollout, and what follows from it: called by each tick of the reconciler while one is under way.

The caller writes the record with the returned rollout; only what a turn that is already written needs is done here (the
command of a hand-over). Orders for a node that begins anew are not sent at all: the answers to that node's heartbeats
carry them while its turn stands in the record (`order_for`).
Limits: an event that cannot be written after a crash is missing from the story; the operation has the sentence too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirror_agent.contract import AGENT_VERSION, CommandAction, Heartbeat, NodeName, RolloutOrder

from shared.events.facts import standing
from shared.model.cluster import SETTLED, ClusterRecord
from shared.model.event import RecordedEvent
from shared.model.event_fact import EventFactKind
from shared.model.node_state import NodeCommand
from shared.model.operation import ErrorDetail, OperationStatus
from shared.model.rollout import Rollout, TurnKind
from shared.provisioning.progress import HAND_OVER, Broken, Complete, State, StepNews, Working, node_step
from shared.rollout.limits import RolloutLimits
from shared.rollout.plan import Step, lacks, next_step
from shared.rollout.sight import Sight, look
from shared.store.ports import Store
from shared.structured_log import Log

REQUESTED_BY: Final = "mirrorplane-rollout"
SOURCE: Final = "/mirrorplane/rollout"
_log = Log("mirrorplane.rollout")


@dataclass(frozen=True, slots=True)
class Advanced:
    """`rollout` None: it is over. `steps`: of the nodes and of the hand-over. `sentence`: where it is."""

    rollout: Rollout | None
    state: State
    steps: Mapping[str, StepNews]
    sentence: str


async def advance(
    store: Store, record: ClusterRecord, now: datetime, *, fresh_s: float, poll_s: float, limits: RolloutLimits
) -> Advanced:
    """`record.rollout` is the one that is under way. Raises StoreError."""
    rollout = record.rollout
    assert rollout is not None, "asked for during a rollout only"
    sight = await see(store, record, now, fresh_s)
    step = next_step(rollout, sight, limits, AGENT_VERSION, now)
    if step.hand_over is not None and rollout.turn is not None:
        await store.commands.create(_swap(record, rollout, step.hand_over, now))
    await _forget_ended(store, record)
    if step.rollout.turn != rollout.turn or step.ended is not None:
        _log.info("rollout", cluster=record.name, operation=rollout.operation_id, rule=step.rule, why=step.sentence)
        await store.events.record(_event(record, rollout, step, now))
    steps = _steps(rollout, sight, step)
    if step.ended is None:
        return Advanced(step.rollout, Working(poll_s), steps, step.sentence)
    if step.ended == "":
        return Advanced(None, Complete(), steps, step.sentence)
    error = ErrorDetail(code=step.ended, message=f"{step.sentence}. {_left_as(sight)}", target=step.rule)
    return Advanced(None, Broken(error), steps, step.sentence)


async def _forget_ended(store: Store, record: ClusterRecord) -> None:
    """A hand-over's command, with its answer, stays until the record itself has gone on: were that not written, the
    hand-over would be ordered once more. The last one of a rollout stays until the next; nobody is given it."""
    for entry in await store.commands.of_cluster(record.id):
        if outdated(record, entry.value):
            await store.commands.delete(record.id, entry.value.id)


async def see(store: Store, record: ClusterRecord, now: datetime, fresh_s: float) -> Sight:
    states = await store.node_states.of_cluster(record.id)
    commands = [entry.value for entry in await store.commands.of_cluster(record.id)]
    busy = await busy_with(store, record, now)
    return look(record, states, commands, busy=busy, fresh_s=fresh_s, now=now)


async def busy_with(store: Store, record: ClusterRecord, now: datetime) -> str:
    """What else is at work on the cluster: an operator's action, a repair, announced maintenance. "" for nothing."""
    if record.action is not None:
        operation = await store.operations.get(record.action.id)
        if operation is not None and not operation.value.is_final:
            return f"{operation.value.action or 'an action'} is at work (operation {operation.value.id})"
    repairs = await store.remediations.get(record.id)
    if repairs is not None and (action := repairs.value.open_action) is not None:
        return f"a repair is at work: {action.step.value} of node {action.node}"
    facts = standing(await store.alerting.event_facts.of_cluster(record.name), now)
    for fact in facts:
        if fact.kind is EventFactKind.SCHEDULED_EVENT and fact.open:
            return f"maintenance of node {fact.node or fact.subject} is announced or under way"
    return ""


def order_for(record: ClusterRecord, node: NodeName, beat: Heartbeat) -> RolloutOrder | None:
    """What this node is ordered in the answer to its heartbeat; None when it is not its turn, or it takes no orders."""
    rollout = record.rollout
    if rollout is None or rollout.turn is None or beat.rollout is None or not _stands(record, rollout):
        return None
    turn = rollout.turn
    if turn.kind is not TurnKind.NODE or turn.node != node:
        return None
    return RolloutOrder(
        id=turn.id,
        configuration_version=rollout.configuration,
        agent=rollout.agent,
        prove_within_s=RolloutLimits().prove_within_s,
    )


def outdated(record: ClusterRecord, command: NodeCommand) -> bool:
    """A hand-over of a rollout whose turn does not stand any more must not reach its node."""
    if command.requested_by != REQUESTED_BY:
        return False
    rollout = record.rollout
    if rollout is None or rollout.turn is None or not _stands(record, rollout):
        return True
    return rollout.turn.id != command.id


def _stands(record: ClusterRecord, rollout: Rollout) -> bool:
    return rollout.operation_id == record.operation.id and record.state not in SETTLED


def _swap(record: ClusterRecord, rollout: Rollout, node: NodeName, now: datetime) -> NodeCommand:
    assert rollout.turn is not None
    return NodeCommand(
        id=rollout.turn.id,
        operation_id=rollout.operation_id,
        cluster_id=record.id,
        node=node,
        action=CommandAction.SWAP,
        requested_by=REQUESTED_BY,
        reason=f"rolling change asked for by {rollout.requested_by} (operation {rollout.operation_id})",
        created_at=now,
        updated_at=now,
    )


def _steps(rollout: Rollout, sight: Sight, step: Step) -> dict[str, StepNews]:
    """A step for each node, and one for the hand-over of a mirror."""
    news: dict[str, StepNews] = {}
    turn = step.rollout.turn
    failed = step.ended is not None and step.ended != ""
    was = rollout.turn
    for node in sight.nodes:
        has = not lacks(rollout, node)
        if turn is not None and turn.kind is TurnKind.NODE and turn.node == node.name:
            news[node_step(node.name)] = StepNews(OperationStatus.RUNNING, step.sentence)
        elif failed and was is not None and was.kind is TurnKind.NODE and was.node == node.name:
            news[node_step(node.name)] = StepNews(OperationStatus.FAILED, step.sentence)
        elif has:
            news[node_step(node.name)] = StepNews(OperationStatus.SUCCEEDED, _has_words(rollout, node.version))
    if sight.farm:
        return news
    if turn is not None and turn.kind is TurnKind.HAND_OVER:
        news[HAND_OVER] = StepNews(OperationStatus.RUNNING, step.sentence)
    elif was is not None and was.kind is TurnKind.HAND_OVER:
        status = OperationStatus.FAILED if failed else OperationStatus.SUCCEEDED
        news[HAND_OVER] = StepNews(status, step.sentence)
    elif step.ended == "" and rollout.turns < len(sight.nodes) + 1:
        news[HAND_OVER] = StepNews(OperationStatus.SUCCEEDED, "not needed")
    return news


def _has_words(rollout: Rollout, version: str) -> str:
    if rollout.agent is not None:
        return f"runs version {version}"
    return "the new configuration is in force"


def _left_as(sight: Sight) -> str:
    words = ", ".join(f"node {node.name} has version {node.version or 'unknown'}" for node in sight.nodes)
    serving = "every node of the farm serves" if sight.farm else f"node {sight.serving or 'none'} serves"
    now = f"at this moment {sight.unwell}" if sight.unwell else serving
    return f"Left as it is: {now}; {words}"


def _event(record: ClusterRecord, rollout: Rollout, step: Step, now: datetime) -> RecordedEvent:
    turn = step.rollout.turn or rollout.turn
    number = step.rollout.turns
    return RecordedEvent(
        id=f"{rollout.operation_id}-{number}-{step.rule}",
        source=SOURCE,
        type=_title(rollout, step),
        subject=f"/clusters/{record.name}",
        time=now.isoformat(),
        cluster=record.name,
        data={
            "rule": step.rule,
            "sentence": step.sentence,
            "operation": rollout.operation_id,
            **({} if turn is None else {"node": turn.node}),
        },
        received_at=now,
        reason=step.sentence,
    )


def _title(rollout: Rollout, step: Step) -> str:
    what = "configuration" if rollout.agent is None else f"agent {rollout.agent.version}"
    return f"Rolling change ({what}): {step.rule.replace('-', ' ')}"
