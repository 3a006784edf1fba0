"""What a tripped checker does to the node, by its action and the node's role.

A failover is a swap: in order, without an acknowledgement missing. A disk that takes nothing more cannot be drained, so
there it would end where it began, and the application be started on that disk again. The node stops instead, and the
synchronised peer takes over; the operator who has repaired the disk starts the node.
"""

from __future__ import annotations

from enum import Enum, auto

from mirror_agent.app.checkers import Trip
from mirror_agent.contract import CheckerAction
from mirror_agent.core.events import AppReported
from mirror_agent.core.model import SERVING, App, Instant, Role, State, Wish, peer_alive
from mirror_agent.node.commands import Commands
from mirror_agent.node.node import Node


class Reaction(Enum):
    SWAP = auto()
    FAIL_APPLICATION = auto()
    STOP_NODE = auto()
    NOTHING = auto()


def reaction(state: State, now: Instant, trip: Trip) -> Reaction:
    """A replica has nothing to restart or to hand over; there, the event log and the heartbeat carry it."""
    match trip.checker.action:
        case CheckerAction.FAILOVER if state.role is Role.PRIM:
            return Reaction.STOP_NODE if trip.broken and _peer_stands_ready(state, now) else Reaction.SWAP
        case CheckerAction.RESTART | CheckerAction.FAILOVER if state.role in SERVING:
            return Reaction.FAIL_APPLICATION
        case CheckerAction.STOP:
            return Reaction.STOP_NODE
        case CheckerAction.NONE | CheckerAction.RESTART | CheckerAction.FAILOVER:
            return Reaction.NOTHING


def _peer_stands_ready(state: State, now: Instant) -> bool:
    """Nobody gives up what service there is without one who goes on with it."""
    return state.failover and state.peer.role is Role.SECOND and peer_alive(state, now)


def act_on_trip(node: Node, commands: Commands, trip: Trip) -> None:
    who = f"checker {trip.checker.name}"
    match reaction(node.state, node.now, trip):
        case Reaction.SWAP:
            commands.start_order("swap", who=who, why=trip.sentence)
        case Reaction.FAIL_APPLICATION:
            node.post(AppReported(App.FAILED, trip.sentence))
        case Reaction.STOP_NODE:
            node.wish(Wish.STOP, who=who, reason=trip.sentence)
        case Reaction.NOTHING:
            pass
