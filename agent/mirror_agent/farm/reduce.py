"""How facts change what a farm node knows. Pure: `apply` for what happened, `settle` for what was just decided.

An action counts as begun the moment it is decided (`settle`), so that no decision is taken twice; its end is a fact
like any other. The end of a start that was meanwhile broken off by a stop says nothing: the stop's own end does.
"""

from __future__ import annotations

from dataclasses import replace

from mirror_agent.core.model import NEVER, App, Instant, Wish
from mirror_agent.farm.events import (
    ApplicationFailed,
    AwayOrdered,
    BackOrdered,
    Event,
    PrepareEnded,
    ProbeRefused,
    RestartOrdered,
    StartEnded,
    StopEnded,
    Tick,
    WishGiven,
)
from mirror_agent.farm.model import MAX_FAILURES_KEPT, Action, Decision, Leaving, Prepared, State


def apply(state: State, event: Event, now: Instant) -> State:
    match event:
        case Tick(proven):
            return replace(state, proven=True) if proven and state.app is App.RUNNING else state
        case ProbeRefused():
            return _refused(state, now)
        case WishGiven(wish, reason):
            return _wished(state, wish, reason)
        case RestartOrdered():
            return replace(state, restart=True, failures=())
        case AwayOrdered(reason):
            return replace(state, away=reason, away_since=now)
        case BackOrdered():
            return replace(state, away="")
        case PrepareEnded(error):
            if not error:
                return replace(state, prepared=Prepared.DONE, app_error="")
            return replace(state, prepared=Prepared.FAILED, prepare_failed_at=now, app_error=error)
        case StartEnded(error):
            return _start_ended(state, error, now)
        case StopEnded(error):
            return _stop_ended(state, error, now)
        case ApplicationFailed(error):
            # What is being started or stopped ends by itself, and says how.
            return _with_failure(state, error, now) if state.app is App.RUNNING else state


def settle(state: State, decision: Decision, now: Instant) -> State:
    """What is so because it was decided."""
    state = _follow_probe(state, decision, now)
    match decision.action:
        case Action.PREPARE:
            return replace(state, prepared=Prepared.UNDER_WAY)
        case Action.START:
            return replace(state, app=App.STARTING, proven=False, served=False, restart=False)
        case Action.STOP:
            return replace(state, app=App.STOPPING)
        case Action.GIVE_UP | Action.NOTHING:
            return state


def _follow_probe(state: State, decision: Decision, now: Instant) -> State:
    """When the load balancer began to hear no, as far as clients may still come."""
    if decision.serves:
        return state if state.served and state.leaving is None else replace(state, served=True, leaving=None)
    if state.served and state.leaving is None:
        return replace(state, leaving=Leaving(now))
    return state


def _refused(state: State, now: Instant) -> State:
    if state.leaving is None:
        return state
    return replace(state, leaving=replace(state.leaving, heard=state.leaving.heard + 1, heard_at=now))


def _wished(state: State, wish: Wish, reason: str) -> State:
    """A start is a fresh start: whoever orders it takes the earlier failures as dealt with."""
    if wish is Wish.STOP:
        return replace(state, wish=wish, wish_reason=reason, restart=False)
    return replace(state, wish=wish, wish_reason=reason, failures=(), start_failed_at=NEVER, stop_failed_at=NEVER)


def _start_ended(state: State, error: str, now: Instant) -> State:
    if state.app is not App.STARTING:
        return state
    if not error:
        return replace(state, app=App.RUNNING, app_error="")
    return replace(_with_failure(state, error, now), start_failed_at=now)


def _stop_ended(state: State, error: str, now: Instant) -> State:
    """A stop that fails is no failure of the application: it adds nothing to its budget."""
    if error:
        return replace(state, app=App.FAILED, app_error=error, stop_failed_at=now)
    return replace(state, app=App.STOPPED, proven=False, served=False, leaving=None)


def _with_failure(state: State, error: str, now: Instant) -> State:
    kept = tuple(at for at in state.failures if now - at < state.limits.restart_window_s)
    failures = (*kept, now)[-MAX_FAILURES_KEPT:]
    return replace(state, app=App.FAILED, app_error=error, failures=failures, restart=False)
