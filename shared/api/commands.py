"""Actions on a running cluster: which node gets which command, and when the operation has ended. Pure.

- `swap` and `restart` go to the node that serves; `start` and `stop` to both, unless the caller names a node.
- `stop` of both stops the replica first and the serving node after it: the other way round the replica would take
  over in between.
- In a farm every action goes to all nodes unless one is named; `restart` to those that run, in turn, so that the others
  serve meanwhile, and it ends at the first node that does not come back. There is nothing to swap.
- An operation ends when every command has ended, or at its time limit, which is what the application's own limits
  allow plus the way there and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from mirror_agent.contract import CommandAction, NodeName, Role

from shared.api.problem import Problem
from shared.model.cluster import ClusterRecord, OperationRef
from shared.model.node_state import CommandStatus, NodeCommand, NodeState
from shared.model.operation import ErrorDetail, Operation, OperationStatus, Step, finished, shortened, with_steps

# Two heartbeats to hand over the command and its result, a resync of little data, and the load balancer's probe.
ALLOWANCE_S: Final = 60.0
# A node that was heard of so much later than another one is not the next to be restarted.
SILENCE: Final = timedelta(seconds=60)
_SERVING: Final = frozenset({Role.PRIM, Role.ALONE})


def serving_node(states: Mapping[NodeName, NodeState]) -> NodeName | None:
    """The node that says it serves; of two (one of them stale) the one with the greater epoch."""
    serving = [state for state in states.values() if state.heartbeat.role in _SERVING]
    return max(serving, key=lambda state: (state.heartbeat.epoch, state.received_at)).node if serving else None


def targets(
    record: ClusterRecord, action: CommandAction, node: NodeName | None, states: Mapping[NodeName, NodeState]
) -> tuple[NodeName, ...]:
    """The nodes in the order in which they are to act. Raises Problem."""
    if node is not None and node not in record.nodes:
        raise Problem("InvalidField", f"{node!r} is no node of {record.name!r}: {', '.join(record.nodes)}", "node")
    if record.is_farm:
        if action is CommandAction.SWAP:
            raise Problem("ActionNotSupported", f"{record.name!r} is a farm: all nodes serve, there is nothing to swap")
        return (node,) if node is not None else _of_farm(record, action, states)
    serving = serving_node(states)
    match action:
        case CommandAction.SWAP | CommandAction.RESTART:
            if serving is None:
                raise Problem("NoServingNode", f"no node serves, so there is nothing to {action.value}; start it first")
            if node is not None and node != serving:
                raise Problem("NoServingNode", f"node {node!r} does not serve ({serving!r} does)", "node")
            return (serving,)
        case CommandAction.START:
            return (node,) if node is not None else record.nodes
        case CommandAction.STOP:
            if node is not None:
                return (node,)
            return tuple(sorted(record.nodes, key=lambda name: name == serving))


def _of_farm(
    record: ClusterRecord, action: CommandAction, states: Mapping[NodeName, NodeState]
) -> tuple[NodeName, ...]:
    """All nodes; of a restart those that run, and a silent one at the end, where it keeps nobody waiting."""
    if action is not CommandAction.RESTART:
        return record.nodes
    running = [node for node in record.nodes if node in states and states[node].heartbeat.role is Role.UP]
    if not running:
        raise Problem("NoServingNode", "no node runs the application, so there is nothing to restart; start it first")
    newest = max(states[node].received_at for node in running)
    return tuple(sorted(running, key=lambda node: newest - states[node].received_at > SILENCE))


def planned(
    record: ClusterRecord, ref: OperationRef, states: Mapping[NodeName, NodeState], now: datetime
) -> tuple[NodeCommand, ...]:
    """The commands of an accepted action; ids are derived from the operation, so a repetition writes the same ones."""
    if ref.action is None:
        raise ValueError(f"operation {ref.id} is no action")
    commands: list[NodeCommand] = []
    for node in targets(record, ref.action, ref.node, states):
        waits = ref.action is CommandAction.RESTART if record.is_farm else ref.action is CommandAction.STOP
        in_turn = waits and commands and commands[-1].node in states
        commands.append(
            NodeCommand(
                id=f"{ref.id}-{node}",
                operation_id=ref.id,
                cluster_id=record.id,
                node=node,
                action=ref.action,
                requested_by=ref.requested_by,
                reason=ref.reason,
                after=commands[-1].id if in_turn else None,
                created_at=now,
                updated_at=now,
            )
        )
    return tuple(commands)


def deliverable(commands: Sequence[NodeCommand], node: NodeName) -> tuple[NodeCommand, ...]:
    """What a node is to be told now. A command is repeated until the node says that it has it."""
    ended = {command.id for command in commands if command.is_final}
    known = {command.id for command in commands}
    off = called_off(commands)
    return tuple(
        command
        for command in commands
        if command.node == node
        and command.status is CommandStatus.PENDING
        and command.id not in off
        and (command.after is None or command.after in ended or command.after not in known)
    )


def called_off(commands: Sequence[NodeCommand]) -> frozenset[str]:
    """Restarts that wait for one that failed, directly or by way of another: the next node is not risked too."""
    off: set[str] = set()
    failed = {command.id for command in commands if command.status is CommandStatus.FAILED}
    waiting = [c for c in commands if c.action is CommandAction.RESTART and c.status is CommandStatus.PENDING]
    while more := {command.id for command in waiting if command.after in failed | off} - off:
        off |= more
    return frozenset(off)


def time_limit(record: ClusterRecord) -> timedelta:
    application = record.spec.application
    turns = len(record.nodes) if record.is_farm else 1
    one_s = 2 * (application.start_timeout_s + application.stop_timeout_s) + ALLOWANCE_S
    return timedelta(seconds=turns * one_s)


def progressed(
    operation: Operation, commands: Sequence[NodeCommand], limit: timedelta, now: datetime
) -> Operation | None:
    """The operation as its commands say, None if nothing changed."""
    if operation.is_final:
        return None
    steps = tuple(_step(command) for command in commands)
    off = called_off(commands)
    if commands and all(command.is_final or command.id in off for command in commands):
        failed = [command for command in commands if command.status is CommandStatus.FAILED]
        status = OperationStatus.FAILED if failed else OperationStatus.SUCCEEDED
        error = None
        if failed:
            sentences = "; ".join(f"node {command.node}: {command.message or 'failed'}" for command in failed)
            error = ErrorDetail(code="CommandFailed", message=shortened(sentences))
        return finished(_with(operation, steps, now), status, now, error)
    if now - operation.created_at > limit:
        waiting = ", ".join(
            f"node {command.node} ({command.status.value})" for command in commands if not command.is_final
        )
        error = ErrorDetail(
            code="CommandTimedOut",
            message=f"no result within {limit.total_seconds():.0f} s from {waiting or 'any node'}; "
            "the node may still carry it out, look at its state",
        )
        return finished(_with(operation, steps, now), OperationStatus.FAILED, now, error)
    if steps != operation.steps:
        return _with(operation, steps, now)
    return None


def _with(operation: Operation, steps: tuple[Step, ...], now: datetime) -> Operation:
    return with_steps(operation.model_copy(update={"steps": ()}), steps, now)


def _step(command: NodeCommand) -> Step:
    status = {
        CommandStatus.PENDING: OperationStatus.NOT_STARTED,
        CommandStatus.ACCEPTED: OperationStatus.RUNNING,
        CommandStatus.SUCCEEDED: OperationStatus.SUCCEEDED,
        CommandStatus.FAILED: OperationStatus.FAILED,
    }[command.status]
    return Step(
        name=f"node-{command.node}",
        title=f"{command.action.value} on node {command.node}",
        status=status,
        message=command.message,
        updated_at=command.updated_at,
    )
