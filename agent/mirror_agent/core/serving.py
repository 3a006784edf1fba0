"""Rules of PRIM and ALONE: who may acknowledge, and how service is kept, handed over or given up.

Order matters: first what ends service at once, then what the record demands of the engine, then a lost peer, then the
operator's orders, then the application, last the peer that wants to join.
"""

from __future__ import annotations

from dataclasses import replace

from .actions import (
    AbortMirror,
    Action,
    BecomePrimary,
    BecomeReplica,
    Drain,
    FinishOrder,
    KillApplication,
    Persist,
    RaiseEpoch,
    Release,
    RequirePeer,
    Seal,
    StartApplication,
    StopApplication,
    StopMirror,
)
from .decision import Decision, become, propose, reads_due, stay
from .model import (
    NEVER,
    SERVING,
    Acknowledging,
    App,
    Instant,
    Link,
    Mode,
    Phase,
    Record,
    Role,
    State,
    Wish,
    engine_busy,
    failed_lately,
    needs_promise,
    peer_alive,
    promise_holds,
    writing,
)


def serving(state: State, now: Instant) -> Decision:
    """The first rule that applies."""
    record = state.record
    assert record is not None, "I2: serving without a record"
    return (
        _superseded(state, record, now)
        or _promise_expired(state, now)
        or _adopted(state, record)
        or _engine_failed(state, now)
        or _forced_already(state)
        or _peer_lost(state, record, now)
        or _handing_over(state, record, now)
        or _front(state, record, now)
        or _application(state, now)
        or _joining(state, record, now)
        or _steady(state, now)
    )


def _superseded(state: State, record: Record, now: Instant) -> Decision | None:
    if record.primary != state.me:
        quiet = state.app is App.STOPPED and state.mirror.mode is not Mode.PRIMARY
        if quiet and state.me in record.in_sync and record.nonce == state.won:
            durable = replace(state.durable, complete=True, complete_epoch=record.epoch, prepared=record.epoch)
            finish = _finish(state, True, "the peer is primary now")
            replica = BecomeReplica(record.epoch)
            return become(Role.SECOND, record.epoch, "swap-done", Phase.TRANSIENT, Persist(durable), replica, *finish)
        finish = _finish(state, True, "the peer serves now") if record.nonce == state.won else ()
        durable = replace(state.durable, complete=state.durable.complete and state.me in record.in_sync)
        kill: tuple[Action, ...] = () if quiet else (KillApplication(), AbortMirror())
        rule = "stopped-here" if quiet and state.durable.wish is Wish.STOP else "superseded"
        role = Role.STOP if rule == "stopped-here" else Role.WAIT
        return become(role, record.epoch, rule, Phase.TRANSIENT, *kill, Persist(durable), *finish)
    peer = state.peer
    newer = peer.record_epoch > record.epoch and peer.record_primary == state.peer_name and peer.role in SERVING
    if newer and peer_alive(state, now):
        return become(Role.WAIT, state.epoch, "superseded-says-peer", Phase.TRANSIENT, KillApplication(), AbortMirror())
    return None


def _promise_expired(state: State, now: Instant) -> Decision | None:
    """Before everything that may have to wait for the disk: whoever needs a promise and has none ends service at once.

    A new role has the time of a promise to get its first one, but only as long as no application runs: one that ran
    before the role has its promise from then (found by the simulator, the disk being full between the two).
    """
    if not needs_promise(state):
        return None
    granted = state.role_since + state.timing.promise_s if state.app is App.STOPPED else NEVER
    if now < max(state.held_until, granted):
        return None
    finish = _finish(state, False, "the peer was lost")
    return become(Role.WAIT, state.epoch, "promise-expired", Phase.TRANSIENT, KillApplication(), AbortMirror(), *finish)


def _adopted(state: State, record: Record) -> Decision | None:
    role = Role.PRIM if state.peer_name in record.in_sync else Role.ALONE
    if record.epoch == state.epoch and role is state.role:
        return None
    durable = replace(state.durable, complete=True, complete_epoch=record.epoch)
    return become(role, record.epoch, "adopt-record", Phase.TRANSIENT, Persist(durable), detail=record.rule)


def _engine_failed(state: State, now: Instant) -> Decision | None:
    if state.mirror.mode is not Mode.FAILED:
        return None
    return become(
        Role.WAIT,
        state.epoch,
        "mirror-failed",
        Phase.TRANSIENT,
        KillApplication(),
        AbortMirror(),
        detail=state.mirror.error,
    )


def _forced_already(state: State) -> Decision | None:
    """A forced start ends here, whichever rule has made this node the primary meanwhile."""
    if state.order is None or state.order.action != "force":
        return None
    return stay(state, "force-done", Phase.TRANSIENT, *_finish(state, True, "this node is primary"))


def _link_cut(state: State, now: Instant) -> bool:
    """The stream is no longer up although it was, or has not come up in the time a new role is given for it."""
    mirror, suspect_s = state.mirror, state.timing.suspect_s
    if engine_busy(state):
        return False  # being mounted or drained on purpose; an engine's call ends in bounded time
    if mirror.mode is not Mode.PRIMARY:
        # Not mounted yet, or drained; but an engine that refuses to start as one of a pair will not change its mind.
        return failed_lately(state, "BecomePrimary", now)
    if mirror.link is Link.LOST:
        return True
    settled = now - state.role_since >= suspect_s
    return settled and (mirror.link is not Link.LIVE or now - mirror.heard_at >= suspect_s)


def _peer_lost(state: State, record: Record, now: Instant) -> Decision | None:
    if not needs_promise(state):
        return None
    timing = state.timing
    settled = now - state.role_since >= timing.suspect_s
    silent = not peer_alive(state, now)
    # The witness must be asked while there is time for its answer (found by the simulator: a peer that was heard but
    # could not promise, its disk being slow, ended service although the witness would have recorded this node alone).
    unwilling = settled and now >= state.held_until - timing.witness_deadline_s
    leaving = state.peer.leaving and peer_alive(state, now) and state.order is None
    if not (silent or unwilling or leaving or _link_cut(state, now)):
        return None
    if now - state.witness.failed_at < timing.retry_s:
        return stay(state, "parked-no-witness", Phase.TRANSIENT, detail=state.witness.failure)
    rule = "peer-leaving" if leaving else "publish-alone" if state.role is Role.PRIM else "join-withdrawn"
    actions = propose(state, now, state.me, state.in_sync_alone(), rule)
    finish = _finish(state, False, "the peer was lost") if state.order and state.order.action == "swap" else ()
    return stay(state, rule, Phase.TRANSIENT, *actions, *finish)


def _handing_over(state: State, record: Record, now: Instant) -> Decision | None:
    """Swap, and stop: the application first, then the data, then the record. Interruptible after every step."""
    order = state.order
    swap = order is not None and order.action == "swap"
    stop = state.durable.wish is Wish.STOP
    if not swap and not stop:
        return None
    ready = state.role is Role.PRIM and state.peer.role is Role.SECOND and peer_alive(state, now)
    if swap and not stop and not ready:
        return stay(state, "swap-refused", Phase.READY, *_finish(state, False, "there is no synchronised peer"))
    if swap and not stop and state.app is App.RUNNING and state.witness.known_at < state.order_since:
        return _consulted(state, now)
    if state.app is App.FAILED and failed_lately(state, "StopApplication", now):
        return _stop_failed(state, stop=stop)
    if state.app in (App.RUNNING, App.FAILED):
        return stay(state, "stop-application" if stop else "swap-stop-application", Phase.TRANSIENT, StopApplication())
    if state.app is not App.STOPPED:
        return stay(state, "application-stopping", Phase.TRANSIENT)
    if state.mirror.mode is Mode.PRIMARY:
        if failed_lately(state, "Drain", now):
            return _drain_failed(state, stop=stop)
        return stay(state, "stop-drain" if stop else "swap-drain", Phase.TRANSIENT, Drain())
    if engine_busy(state):
        return stay(state, "stop-drain" if stop else "swap-drain", Phase.TRANSIENT, detail="the engine is at work")
    undrained = stop and not state.mirror.drained
    if not ready or undrained or (stop and not state.failover):
        finish = _finish(state, False, "the node is stopping")
        return become(Role.STOP, state.epoch, "stopped-here", Phase.TRANSIENT, StopMirror(), *finish)
    if not state.mirror.drained:
        return None  # mounted never, or an earlier attempt was cancelled: the front comes first
    if state.peer.prepared != record.epoch + 1:
        if now - state.drained_since >= state.timing.promise_s:
            return _not_prepared(state, stop=stop)
        return stay(state, "swap-prepare", Phase.TRANSIENT)
    in_sync = frozenset({state.peer_name}) if stop else state.in_sync_both()
    actions = propose(state, now, state.peer_name, in_sync, "stop" if stop else f"swap by {order.who if order else ''}")
    return stay(state, "swap-publish", Phase.TRANSIENT, *actions)


def _consulted(state: State, now: Instant) -> Decision:
    """Nothing is stopped for a swap that the witness could not record: it must have answered since the order."""
    witness = state.witness
    if witness.failure and witness.failed_at >= state.order_since:
        why = f"the witness does not answer: {witness.failure}"
        return stay(state, "swap-refused", Phase.READY, *_finish(state, False, why), detail=why)
    return stay(state, "swap-consult", Phase.READY, *reads_due(state, now, 0.0))


def _stop_failed(state: State, *, stop: bool) -> Decision:
    """A swap is given up, and the application restarted here; a stop goes on by killing what is left."""
    why = f"the application could not be stopped: {_failure(state, 'StopApplication')}"
    if stop:
        return stay(state, "stop-kill", Phase.TRANSIENT, KillApplication(), detail=why)
    return stay(state, "swap-cancelled", Phase.TRANSIENT, *_finish(state, False, why), detail=why)


def _not_prepared(state: State, *, stop: bool) -> Decision:
    """The peer does not note that it is to be primary. Nothing has been published yet, so nothing can land."""
    why = f"the peer has not noted within {state.timing.promise_s:g} s that it is to be primary"
    finish = _finish(state, False, why)
    if stop:
        return become(Role.STOP, state.epoch, "stopped-here", Phase.TRANSIENT, StopMirror(), *finish, detail=why)
    return stay(state, "swap-cancelled", Phase.TRANSIENT, *finish, detail=why)


def _drain_failed(state: State, *, stop: bool) -> Decision:
    """A swap is given up and service goes on; a stop ends without a hand-over, the peer takes over by its own rules."""
    why = _failure(state, "Drain")
    if stop:
        return stay(state, "stop-drain-failed", Phase.TRANSIENT, KillApplication(), AbortMirror(), detail=why)
    return stay(state, "swap-cancelled", Phase.TRANSIENT, *_finish(state, False, why), detail=why)


def _front(state: State, record: Record, now: Instant) -> Decision | None:
    """The engine does what the record says: mounted, in this epoch, waiting for the peer exactly when it is in sync."""
    mirror = state.mirror
    if mirror.mode is Mode.REPLICA and mirror.sealed < record.epoch:
        if failed_lately(state, "Seal", now):
            return stay(state, "seal-before-mount", Phase.TRANSIENT, detail=_failure(state, "Seal"))
        return stay(state, "seal-before-mount", Phase.TRANSIENT, Seal(record.epoch))
    if mirror.mode is not Mode.PRIMARY and writing(state):
        # A hand-over that was given up may still land; only another write of ours makes sure that it cannot.
        actions = propose(state, now, state.me, state.in_sync_alone(), "swap-withdrawn")
        return stay(state, "swap-withdrawn", Phase.TRANSIENT, *actions)
    if mirror.mode is not Mode.PRIMARY:
        if failed_lately(state, "BecomePrimary", now):
            return stay(state, "mount-front", Phase.TRANSIENT, detail=_failure(state, "BecomePrimary"))
        paired = state.role is Role.PRIM
        return stay(state, "mount-front", Phase.TRANSIENT, BecomePrimary(record.epoch, paired))
    if state.role is Role.PRIM:
        if mirror.epoch != record.epoch and mirror.acknowledging is Acknowledging.PAIRED:
            return stay(state, "raise-epoch", Phase.TRANSIENT, RaiseEpoch(record.epoch))
        return None
    if mirror.epoch != record.epoch or mirror.acknowledging is Acknowledging.PARKED:
        return _released(state, record, now)
    return None


def _released(state: State, record: Record, now: Instant) -> Decision:
    """Go on alone. If a publication of the peer may still land, only another write of ours makes sure it cannot."""
    if "witness" in state.doing:
        return stay(state, "join-withdrawn", Phase.TRANSIENT, detail="a write is on its way")
    if state.witness.unresolved is not None:
        actions = propose(state, now, state.me, state.in_sync_alone(), "join-withdrawn")
        return stay(state, "join-withdrawn", Phase.TRANSIENT, *actions)
    return stay(state, "release", Phase.TRANSIENT, Release(record.epoch))


def _application(state: State, now: Instant) -> Decision | None:
    match state.app:
        case App.STOPPED:
            if needs_promise(state) and not promise_holds(state, now):
                return stay(state, "await-promise", Phase.TRANSIENT)
            return stay(state, "start-application", Phase.TRANSIENT, StartApplication(state.epoch))
        case App.FAILED:
            recent = [at for at in state.restarts if now - at < state.restart_window_s]
            if len(recent) > state.restart_limit:
                reason = f"{len(recent)} failures in {state.restart_window_s:.0f} s, the last: {state.app_error}"
                stopping = Persist(replace(state.durable, wish=Wish.STOP, stop_reason=reason))
                return stay(state, "restart-budget-exhausted", Phase.TRANSIENT, stopping, detail=reason)
            if failed_lately(state, "StopApplication", now):
                return stay(state, "restart-application", Phase.TRANSIENT, detail=_failure(state, "StopApplication"))
            return stay(state, "restart-application", Phase.TRANSIENT, StopApplication(), detail=state.app_error)
        case App.STARTING:
            return _joining_meanwhile(state, "application-starting", now)
        case App.STOPPING:
            return stay(state, "application-stopping", Phase.TRANSIENT)
        case App.RUNNING:
            order = state.order
            if order is not None and order.action == "restart":
                finish = FinishOrder(order.id, True, "the application is being restarted")
                return stay(state, "restart-stop", Phase.TRANSIENT, StopApplication(), finish)
            return None


def _joining_meanwhile(state: State, rule: str, now: Instant) -> Decision | None:
    """A slow start of the application must not keep the pair exposed: joining goes on."""
    record = state.record
    assert record is not None
    return _joining(state, record, now) or stay(state, rule, Phase.TRANSIENT)


def _joining(state: State, record: Record, now: Instant) -> Decision | None:
    if state.role is not Role.ALONE:
        return None
    mirror, peer = state.mirror, state.peer
    heard = now - mirror.heard_at < state.timing.suspect_s
    able = (
        mirror.link is Link.LIVE
        and heard
        and peer_alive(state, now)
        and peer.role is Role.SECOND
        and not peer.leaving
        and state.durable.wish is Wish.RUN
    )
    phase = Phase.READY if state.app is App.RUNNING else Phase.TRANSIENT
    if not able:
        if mirror.acknowledging is Acknowledging.PAIRED and not engine_busy(state):
            return _abandoned(state, record, now)
        return None
    if engine_busy(state):
        return stay(state, "join-require-peer", phase, detail="the engine is at work")
    if not mirror.required:
        if failed_lately(state, "RequirePeer", now):
            return stay(state, "join-require-peer", phase, detail=_failure(state, "RequirePeer"))
        return stay(state, "join-require-peer", phase, RequirePeer(record.epoch))
    if peer.prepared != record.epoch + 1:
        return stay(state, "join-prepare", phase)
    actions = propose(state, now, state.me, state.in_sync_both(), "join-publish")
    return stay(state, "join-publish", phase, *actions)


def _abandoned(state: State, record: Record, now: Instant) -> Decision:
    if writing(state):
        return _released(state, record, now)
    return stay(state, "join-abandoned", Phase.TRANSIENT, Release(record.epoch))


def _steady(state: State, now: Instant) -> Decision:
    reads = reads_due(state, now, state.timing.witness_poll_s)
    rule = "serving-protected" if state.role is Role.PRIM else "serving-exposed"
    return stay(state, rule, Phase.READY, *reads)


def _finish(state: State, succeeded: bool, message: str) -> tuple[Action, ...]:
    order = state.order
    return (FinishOrder(order.id, succeeded, message),) if order is not None else ()


def _failure(state: State, kind: str) -> str:
    return next((message for name, _, message in state.failures if name == kind), "")
