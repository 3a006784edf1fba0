"""What a tripped checker does to a farm node. Pure.

`restart` counts as a failure of the application, `stop` takes the node out of the farm for good, in order: the load
balancer is told first. `failover` means the same as `stop` (the others serve); the control plane refuses the word for a
farm, a configuration file of a node may hold it.
"""

from __future__ import annotations

from enum import Enum, auto

from mirror_agent.contract import Application as ApplicationSpec
from mirror_agent.contract import CheckerAction, CheckerReport, CheckerWhen


class Reaction(Enum):
    FAIL_APPLICATION = auto()
    LEAVE_FARM = auto()
    NOTHING = auto()


def reaction(action: CheckerAction) -> Reaction:
    match action:
        case CheckerAction.RESTART:
            return Reaction.FAIL_APPLICATION
        case CheckerAction.STOP | CheckerAction.FAILOVER:
            return Reaction.LEAVE_FARM
        case CheckerAction.NONE:
            return Reaction.NOTHING


def proven(application: ApplicationSpec, reports: tuple[CheckerReport, ...], *, checkers_on: bool) -> bool:
    """Every checker that may act finds the application healthy now; true without any, and with all switched off."""
    if not checkers_on:
        return True
    acting = {
        checker.name
        for checker in application.checkers
        if checker.action is not CheckerAction.NONE and checker.when is not CheckerWhen.SECOND
    }
    return all(report.healthy is True for report in reports if report.name in acting)
