"""The only place where a node's state changes: `apply(state, event, now)`, and `settle` for what was decided.

Pure. A record is adopted only when it is not older than the one known (by epoch, the writer's total order); a write
whose outcome was unknown is resolved when the record shows its nonce, or when the record has moved off its base.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .events import (
    ActionFailed,
    AnswerArrived,
    AppReported,
    Beat,
    BeatArrived,
    Event,
    FailoverSet,
    LanesBusy,
    MirrorReported,
    OrderFinished,
    OrderGiven,
    Persisted,
    PromiseGiven,
    RecordRead,
    Tick,
    WishGiven,
    WitnessUnknown,
    WriteBegan,
    WriteWon,
)
from .model import (
    NEVER,
    NO_EPOCH,
    NOBODY,
    SERVING,
    App,
    Durable,
    Epoch,
    Instant,
    Node,
    Peer,
    Phase,
    Record,
    Role,
    State,
    Unresolved,
    Wish,
    Witness,
)

if TYPE_CHECKING:
    from .decision import Decision

MAX_RESTARTS_KEPT = 32


def apply(state: State, event: Event, now: Instant) -> State:
    """The state after `event`, which happened at `now`."""
    match event:
        case BeatArrived(beat):
            return state.with_(peer=_peer(state.peer, beat, now))
        case AnswerArrived(beat, sent_at, promise_s):
            held = Instant(sent_at + promise_s) if promise_s > 0 else NEVER
            until = max(state.held_until, held) if state.role in SERVING else state.held_until
            return state.with_(peer=_peer(state.peer, beat, now), held_until=until)
        case PromiseGiven(promise_s):
            return state.with_(granted_until=max(state.granted_until, Instant(now + promise_s)))
        case RecordRead(record, etag, requested_at):
            return _adopt(state, record, etag, requested_at)
        case WriteBegan(proposal, nonce, base_etag):
            unresolved = Unresolved(proposal, nonce, base_etag, _listed_before(state.witness.unresolved, base_etag))
            return state.with_(witness=_witness(state.witness, unresolved=unresolved))
        case WriteWon(record, etag, requested_at):
            return _adopt(state, record, etag, requested_at).with_(won=record.nonce)
        case WitnessUnknown(reason):
            return state.with_(witness=_witness(state.witness, failure=reason, failed_at=now))
        case MirrorReported(mirror):
            since = (state.drained_since if state.mirror.drained else now) if mirror.drained else NEVER
            return state.with_(mirror=mirror, drained_since=since)
        case AppReported(app, error):
            return _application(state, app, error, now)
        case Persisted(durable):
            return state.with_(durable=durable)
        case LanesBusy(lanes):
            return state.with_(doing=lanes)
        case ActionFailed(kind, message):
            return state.with_(failures=_noted(state, kind, message, now))
        case OrderGiven(order):
            return state.with_(order=order, order_since=now, restarts=())
        case OrderFinished(id):
            current = state.order
            return state.with_(order=None) if current is not None and current.id == id else state
        case WishGiven(wish, reason):
            durable = _wished(state.durable, wish, reason)
            return state.with_(durable=durable, restarts=() if wish is Wish.RUN else state.restarts)
        case FailoverSet(on, by):
            return state.with_(failover=on, failover_by=by)
        case Tick(late_s):
            return state.with_(woke_at=now) if late_s > state.timing.heartbeat_s else state


def settle(state: State, decision: Decision, now: Instant) -> State:
    """The state after a decision has been taken: role and epoch. Service begins without old promises.

    A promise is about the peer not taking over, whatever our epoch; it lives from ALONE to PRIM and back.
    """
    if decision.role is state.role and decision.epoch == state.epoch:
        return state
    kept = state.role in SERVING and decision.role in SERVING
    held_until = state.held_until if kept else NEVER
    changed = state.with_(role=decision.role, epoch=decision.epoch, role_since=now, held_until=held_until)
    if state.role in SERVING and decision.role not in SERVING:
        changed = changed.with_(won="")  # to serve again this node needs another write of its own
    exposed = decision.role is Role.ALONE
    since = (state.exposed_since if state.exposed_since is not None else now) if exposed else None
    return changed.with_(exposed_since=since)


def beat_of(state: State, phase: Phase, *, flushed: Durable | None) -> Beat:
    """How this node describes itself to its peer.

    `flushed`: the durable state that is on the disk. A preparation is told only from there: the primary publishes on
    its strength, and a node that forgot it in a crash would not know its own record (found by the simulator).
    """
    record = state.record
    return Beat(
        node=state.me,
        role=state.role,
        phase=phase,
        epoch=state.epoch,
        leaving=state.durable.wish is Wish.STOP,
        trusted=state.durable.trusted,
        prepared=flushed.prepared if flushed is not None else NO_EPOCH,
        prepare=_asks_to_prepare(state),
        record_epoch=record.epoch if record else NO_EPOCH,
        record_primary=record.primary if record else NOBODY,
        record_in_sync=record.in_sync if record else frozenset(),
    )


def _asks_to_prepare(state: State) -> Epoch:
    record = state.record
    if record is None or record.primary != state.me or state.role not in SERVING:
        return NO_EPOCH
    joining = state.role is Role.ALONE and state.mirror.required
    handing_over = state.role is Role.PRIM and state.mirror.drained
    return Epoch(record.epoch + 1) if joining or handing_over else NO_EPOCH


def _peer(old: Peer, beat: Beat, now: Instant) -> Peer:
    serving = beat.role in SERVING
    return Peer(
        heard_at=now,
        first_heard_at=old.first_heard_at if old.first_heard_at > NEVER else now,
        idle_since=NEVER if serving else (old.idle_since if old.idle_since > NEVER else now),
        role=beat.role,
        phase=beat.phase,
        epoch=beat.epoch,
        leaving=beat.leaving,
        trusted=beat.trusted,
        prepared=beat.prepared,
        asks_prepare=beat.prepare,
        record_epoch=beat.record_epoch,
        record_primary=beat.record_primary,
        record_in_sync=beat.record_in_sync,
    )


def _witness(
    old: Witness, *, unresolved: Unresolved | None = None, failure: str = "", failed_at: Instant = NEVER
) -> Witness:
    keep = old.unresolved if failure else unresolved
    return Witness(
        record=old.record,
        etag=old.etag,
        known_at=old.known_at,
        learnt_at=old.learnt_at,
        unresolved=keep,
        failure=failure,
        failed_at=failed_at if failure else old.failed_at,
    )


def _listed_before(old: Unresolved | None, base_etag: str) -> frozenset[Node]:
    """Whom writes that were given up, but may land as long as the record keeps this base, would list."""
    if old is None or old.base_etag != base_etag:
        return frozenset()
    return old.proposal.in_sync | old.earlier


def _adopt(state: State, record: Record | None, etag: str, requested_at: Instant) -> State:
    old = state.witness
    newer = record is not None and (old.record is None or record.epoch > old.record.epoch)
    if requested_at < old.known_at and not newer:
        return state  # an answer that was overtaken; a later epoch is believed whatever this node's clock did meanwhile
    if record is None and old.record is not None:
        return state.with_(witness=_witness(old, failure="the record vanished", failed_at=requested_at))
    if record is not None and old.record is not None and record.epoch < old.record.epoch:
        # A record never goes back; a smaller epoch means the row was restored from somewhere. Refuse to know it.
        return state.with_(witness=_witness(old, failure="the record went back in epoch", failed_at=requested_at))
    unresolved, won = old.unresolved, state.won
    if unresolved is not None:
        if record is not None and record.nonce == unresolved.nonce:
            unresolved, won = None, record.nonce
        elif etag != unresolved.base_etag:
            unresolved = None
    learnt_at = old.learnt_at if record is not None and record == old.record else requested_at
    witness = Witness(record=record, etag=etag, known_at=requested_at, learnt_at=learnt_at, unresolved=unresolved)
    return state.with_(witness=witness, won=won)


def _noted(state: State, kind: str, message: str, now: Instant) -> tuple[tuple[str, Instant, str], ...]:
    others = tuple(entry for entry in state.failures if entry[0] != kind)
    return (*others, (kind, now, message))


def _application(state: State, app: App, error: str, now: Instant) -> State:
    """A failure out of STOPPING is a stop that failed, however often: it counts nothing against the application."""
    if app is App.FAILED and state.app is App.STOPPING:
        state = state.with_(failures=_noted(state, "StopApplication", error, now))
    if app is App.FAILED and state.app not in (App.FAILED, App.STOPPING):
        window = tuple(at for at in state.restarts if now - at < state.restart_window_s)
        return state.with_(app=app, app_error=error, restarts=(*window, now)[-MAX_RESTARTS_KEPT:])
    return state.with_(app=app, app_error=error if app is App.FAILED else state.app_error)


def _wished(durable: Durable, wish: Wish, reason: str) -> Durable:
    return replace(durable, wish=wish, stop_reason=reason if wish is Wish.STOP else "")
