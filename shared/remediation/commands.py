"""Restart of a node's module by command, in the answers to its heartbeats. Pure.

The agent's own `restart` is for the serving node; a redundant one is stopped and started. The start is written first
and waits for the stop, so that no crash of the control plane leaves a node stopped. A stop is handed over only to a
node whose heartbeat, in that very post, says that it waits: never to one that serves or holds every write. A farm's
node gets it unless it says that it is UP and ready.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from mirror_agent.contract import CommandAction, Heartbeat, Phase, Role

from shared.model.node_state import CommandStatus, NodeCommand
from shared.model.remediation import ActionRecord

REQUESTED_BY: Final = "mirrorplane-remediation"


def restart_commands(cluster_id: str, action: ActionRecord, now: datetime) -> tuple[NodeCommand, NodeCommand]:
    """In the order in which they are to be written; the same ids whenever they are made for the same action."""

    def command(word: CommandAction, after: str | None) -> NodeCommand:
        return NodeCommand(
            id=f"{action.id}-{word.value}",
            operation_id=action.id,
            cluster_id=cluster_id,
            node=action.node,
            action=word,
            requested_by=REQUESTED_BY,
            reason=action.sentence,
            after=after,
            created_at=now,
            updated_at=now,
        )

    stop = command(CommandAction.STOP, None)
    return command(CommandAction.START, stop.id), stop


def withheld(command: NodeCommand, beat: Heartbeat) -> bool:
    """Whether this command must not be handed to the node that has just sent this heartbeat."""
    if command.requested_by != REQUESTED_BY or command.action is not CommandAction.STOP:
        return False
    if beat.role is Role.UP:
        return beat.phase is Phase.READY
    return beat.role is not Role.WAIT or beat.node in beat.in_sync


def leftovers(commands: list[NodeCommand], action: ActionRecord) -> tuple[str, ...]:
    """Ids of commands of an ended action that can go: all of them, unless a stop went out and its start has not."""
    mine = {command.action: command for command in commands if command.operation_id == action.id}
    stop, start = mine.get(CommandAction.STOP), mine.get(CommandAction.START)
    stopped = stop is not None and stop.status is not CommandStatus.PENDING
    if stopped and start is not None and not start.is_final:
        return ()
    # The stop first: a start whose stop is gone is harmless, the reverse is not.
    return tuple(command.id for command in (stop, start) if command is not None)
