"""What a farm node does next. Pure: state and time in, a named rule with one sentence and at most one action out.

Guarantee: the probe says yes only under the rule `up`, that is while the application was started, has been found
healthy once by every checker that may act, is wanted and is not about to be stopped. A stop that somebody wants
(operator, control plane, checker, service manager) begins with the probe alone: the application goes on until the load
balancer sends nobody new. Only an application that has failed is stopped at once, since it serves nobody anyway.
The restart budget is the mirror's: more than `restart_limit` failures within `restart_window_s` stop the node for good.
"""

from __future__ import annotations

from typing import Final

from mirror_agent.contract import Phase, Role
from mirror_agent.core.model import App, Instant, Wish
from mirror_agent.farm.model import MAX_AWAY_S, RETRY_S, Action, Decision, Prepared, State, drained, recent_failures

RULES: Final = {
    "up": "The application runs here and takes its share of the clients.",
    "away": "The application runs, but this node takes no clients for now.",
    "starting": "The application is being started.",
    "warming-up": "The application was started; not every checker has found it healthy yet, so it gets no clients yet.",
    "retry-later": "The application could not be started; it is tried again in a moment.",
    "application-failed": "The application has failed: it is stopped and started anew.",
    "restarts-used-up": "The application has failed too often: this node leaves the farm until it is started again.",
    "restarting": "The application is being restarted.",
    "draining-for-restart": "The load balancer is told to send nobody new; the application is restarted then.",
    "draining": "The load balancer is told to send nobody new; the application is stopped then.",
    "stopping": "The application is being stopped.",
    "stop-failed": "The application cannot be stopped; it is tried again in a moment.",
    "stopped": "The module is stopped on this node by request.",
    "preparing": "The module's files and its prepare script are being brought in place.",
    "prepare-failed": "The module cannot be prepared on this node; it is tried again in a moment.",
}


def decide(state: State, now: Instant) -> Decision:
    """The first rule that applies."""
    match state.wish:
        case Wish.STOP:
            return _to_stop(state, now)
        case Wish.RUN:
            return _unprepared(state, now) or _to_run(state, now)


def _to_stop(state: State, now: Instant) -> Decision:
    match state.app:
        case App.STOPPED:
            return _decision("stopped", Role.STOP, Phase.NOT_READY, detail=state.wish_reason)
        case App.RUNNING if not drained(state, now):
            return _decision("draining", Role.UP, Phase.TRANSIENT, detail=state.wish_reason)
        case App.RUNNING | App.STARTING:
            return _decision("stopping", Role.STOP, Phase.TRANSIENT, Action.STOP, detail=state.wish_reason)
        case App.STOPPING:
            return _decision("stopping", Role.STOP, Phase.TRANSIENT, detail=state.wish_reason)
        case App.FAILED if now - state.stop_failed_at < RETRY_S:
            return _decision("stop-failed", Role.STOP, Phase.NOT_READY, detail=state.app_error)
        case App.FAILED:
            return _decision("stopping", Role.STOP, Phase.TRANSIENT, Action.STOP, detail=state.wish_reason)


def _unprepared(state: State, now: Instant) -> Decision | None:
    """Only before the first start: what runs does not wait for it."""
    match state.prepared:
        case Prepared.DONE:
            return None
        case Prepared.NOT_YET:
            return _decision("preparing", Role.WAIT, Phase.TRANSIENT, Action.PREPARE)
        case Prepared.UNDER_WAY:
            return _decision("preparing", Role.WAIT, Phase.TRANSIENT)
        case Prepared.FAILED:
            due = now - state.prepare_failed_at >= RETRY_S
            action = Action.PREPARE if due else Action.NOTHING
            return _decision("prepare-failed", Role.WAIT, Phase.NOT_READY, action, detail=state.app_error)


def _to_run(state: State, now: Instant) -> Decision:
    match state.app:
        case App.RUNNING:
            return _running(state, now)
        case App.STOPPED if now - state.start_failed_at < RETRY_S:
            return _decision("retry-later", Role.UP, Phase.NOT_READY, detail=state.app_error)
        case App.STOPPED:
            return _decision("starting", Role.UP, Phase.TRANSIENT, Action.START)
        case App.STARTING:
            return _decision("starting", Role.UP, Phase.TRANSIENT)
        case App.STOPPING:
            return _decision("restarting", Role.UP, Phase.TRANSIENT, detail=state.app_error)
        case App.FAILED:
            return _failed(state, now)


def _running(state: State, now: Instant) -> Decision:
    if state.restart:
        if not drained(state, now):
            return _decision("draining-for-restart", Role.UP, Phase.TRANSIENT)
        return _decision("restarting", Role.UP, Phase.TRANSIENT, Action.STOP)
    if state.away and now - state.away_since < MAX_AWAY_S:
        return _decision("away", Role.UP, Phase.TRANSIENT, detail=state.away)
    if not state.proven:
        return _decision("warming-up", Role.UP, Phase.TRANSIENT)
    return _decision("up", Role.UP, Phase.READY)


def _failed(state: State, now: Instant) -> Decision:
    """A stop that failed is tried again first: two instances of an application are worse than none."""
    if now - state.stop_failed_at < RETRY_S:
        return _decision("stop-failed", Role.UP, Phase.NOT_READY, detail=state.app_error)
    if recent_failures(state, now) > state.limits.restart_limit:
        return _decision(
            "restarts-used-up", Role.STOP, Phase.TRANSIENT, Action.GIVE_UP, detail=budget_spent(state, now)
        )
    return _decision("application-failed", Role.UP, Phase.TRANSIENT, Action.STOP, detail=state.app_error)


def budget_spent(state: State, now: Instant) -> str:
    """Why the node gives up, as its history and its sentence say it later."""
    count = recent_failures(state, now)
    return f"{count} failures in {state.limits.restart_window_s:.0f} s, the last: {state.app_error}"


def _decision(rule: str, role: Role, phase: Phase, action: Action = Action.NOTHING, *, detail: str = "") -> Decision:
    sentence = f"{RULES[rule]} ({detail})" if detail else RULES[rule]
    return Decision(rule, sentence, role, phase, action, detail)
