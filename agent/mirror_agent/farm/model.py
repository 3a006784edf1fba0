"""What a farm node knows of itself, as frozen values, and what it may do next.

Nodes of a farm agree on nothing: each one decides for itself, and the load balancer spreads the clients over those that
answer its probe. So there is no epoch, no witness and no promise here; the words for the application and for time are
the core's. Times are seconds on a clock that counts suspend.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final

from mirror_agent.contract import Phase, Role
from mirror_agent.core.model import NEVER, App, Instant, Wish

# Pause between two attempts of something that failed: long enough not to spin, short enough for a port to become free.
RETRY_S: Final = 2.0
# The load balancer has heard "no": connections it was just opening may still arrive for so long.
LINGER_S: Final = 0.5
MAX_FAILURES_KEPT: Final = 32
# A maintenance is over by then: platforms announce at most 15 minutes ahead. Who is away longer was forgotten.
MAX_AWAY_S: Final = 1800.0
# Whatever the probe's rhythm is, a stop does not wait longer for the load balancer than this.
MAX_DRAIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`drain_probes`: after so many answers "no" the load balancer sends nobody new; `drain_s`: waited at most, for a
    node that no load balancer asks."""

    restart_limit: int = 3
    restart_window_s: float = 86400.0
    drain_probes: int = 1
    drain_s: float = 6.0


class Prepared(Enum):
    NOT_YET = auto()
    UNDER_WAY = auto()
    FAILED = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Leaving:
    """Since when the probe has said no while the application goes on; how often the load balancer has heard it."""

    since: Instant
    heard: int = 0
    heard_at: Instant = NEVER


@dataclass(frozen=True, slots=True)
class State:
    """`proven`: since its start the application was found healthy by every checker that may act. `served`: the probe
    has said yes since the start, so clients may be on their way. `away`: why the node serves nobody although it could;
    "" if it may serve."""

    limits: Limits = Limits()
    wish: Wish = Wish.RUN
    wish_reason: str = ""
    prepared: Prepared = Prepared.NOT_YET
    app: App = App.STOPPED
    app_error: str = ""
    proven: bool = False
    served: bool = False
    restart: bool = False
    away: str = ""
    away_since: Instant = NEVER
    leaving: Leaving | None = None
    failures: tuple[Instant, ...] = ()
    prepare_failed_at: Instant = NEVER
    start_failed_at: Instant = NEVER
    stop_failed_at: Instant = NEVER


class Action(StrEnum):
    """What the hands do; `GIVE_UP` turns the wish to STOP until a person or the control plane starts the node again."""

    NOTHING = "nothing"
    PREPARE = "prepare"
    START = "start"
    STOP = "stop"
    GIVE_UP = "give-up"


@dataclass(frozen=True, slots=True)
class Decision:
    """`detail`: what the sentence adds to that of the rule."""

    rule: str
    sentence: str
    role: Role
    phase: Phase
    action: Action = Action.NOTHING
    detail: str = ""

    @property
    def serves(self) -> bool:
        """The probe's answer."""
        return self.role is Role.UP and self.phase is Phase.READY


def recent_failures(state: State, now: Instant) -> int:
    return sum(1 for at in state.failures if now - at < state.limits.restart_window_s)


def drained(state: State, now: Instant) -> bool:
    """Nobody new comes any more: the load balancer was told often enough, or nobody asked for long enough."""
    if not state.served:
        return True
    leaving = state.leaving
    if leaving is None:
        return False
    told = leaving.heard >= state.limits.drain_probes and now - leaving.heard_at >= LINGER_S
    return told or now - leaving.since >= state.limits.drain_s
