"""What a tripped checker does to the node, by its action and the node's role."""

from __future__ import annotations

from mirror_agent.contract import Checker, CheckerAction
from mirror_agent.core.events import AppReported
from mirror_agent.core.model import SERVING, App, Role, Wish
from mirror_agent.node.commands import Commands
from mirror_agent.node.node import Node


def act_on_trip(node: Node, commands: Commands, checker: Checker, sentence: str) -> None:
    """A replica has nothing to restart or to hand over; there, the event log and the heartbeat carry it."""
    serving = node.state.role in SERVING
    match checker.action:
        case CheckerAction.FAILOVER if node.state.role is Role.PRIM:
            commands.start_order("swap", who=f"checker {checker.name}", why=sentence)
        case CheckerAction.RESTART | CheckerAction.FAILOVER if serving:
            node.post(AppReported(App.FAILED, sentence))
        case CheckerAction.STOP:
            node.wish(Wish.STOP, who=f"checker {checker.name}", reason=sentence)
        case CheckerAction.NONE | CheckerAction.RESTART | CheckerAction.FAILOVER:
            pass
