"""What can happen to a farm node. Facts only; `reduce.apply` says what each one changes."""

from __future__ import annotations

from dataclasses import dataclass

from mirror_agent.core.model import Wish


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. `proven`: every checker that may act finds the application healthy now."""

    proven: bool = False


@dataclass(frozen=True, slots=True)
class ProbeRefused:
    """The load balancer has asked and was told no."""


@dataclass(frozen=True, slots=True)
class WishGiven:
    wish: Wish
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RestartOrdered:
    pass


@dataclass(frozen=True, slots=True)
class AwayOrdered:
    """Serve nobody for a while, with the application running."""

    reason: str


@dataclass(frozen=True, slots=True)
class BackOrdered:
    pass


@dataclass(frozen=True, slots=True)
class PrepareEnded:
    """`error` "" is success; so in the following two."""

    error: str = ""


@dataclass(frozen=True, slots=True)
class StartEnded:
    error: str = ""


@dataclass(frozen=True, slots=True)
class StopEnded:
    error: str = ""


@dataclass(frozen=True, slots=True)
class ApplicationFailed:
    """It was running: a checker says so, or its processes are gone."""

    error: str


Event = (
    Tick
    | ProbeRefused
    | WishGiven
    | RestartOrdered
    | AwayOrdered
    | BackOrdered
    | PrepareEnded
    | StartEnded
    | StopEnded
    | ApplicationFailed
)
