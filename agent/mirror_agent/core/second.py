"""Rules of SECOND: catching up, standing ready, promising, and taking over.

A SECOND takes over only if the record, read after the primary fell silent, lists it as in sync for the epoch its data
is of; it seals the old stream first and serves only after its own conditional write has succeeded.
"""

from __future__ import annotations

from dataclasses import replace

from .actions import Action, BecomeReplica, FinishOrder, Persist, Seal, StopMirror
from .decision import Decision, become, propose, reads_due, stay
from .model import (
    SERVING,
    Epoch,
    Instant,
    Link,
    Mode,
    Phase,
    Record,
    Role,
    State,
    Wish,
    failed_lately,
    link_alive,
    peer_alive,
    silent_s,
    written_by,
)


def second(state: State, now: Instant) -> Decision:
    """The first rule that applies, from the record inwards."""
    return (
        _record_names_me(state, now)
        or _forced(state, now)
        or _replica_missing(state, now)
        or _leaving(state, now)
        or _peer_published(state, now)
        or _peer_gone(state, now)
        or _standing(state, now)
    )


def _data_epoch_matches(state: State, record: Record) -> bool:
    durable = state.durable
    return durable.complete and record.epoch in (durable.complete_epoch, durable.prepared)


def _record_names_me(state: State, now: Instant) -> Decision | None:
    record = state.record
    if record is None or record.primary != state.me:
        return None
    if record.nonce == state.won or _data_epoch_matches(state, record):
        role = Role.PRIM if state.peer_name in record.in_sync else Role.ALONE
        rule = "won-primary" if record.nonce == state.won else "handed-over"
        durable = replace(state.durable, complete=True, complete_epoch=record.epoch, trusted=True)
        return become(role, record.epoch, rule, Phase.TRANSIENT, Persist(durable), detail=record.rule)
    if state.peer.role in SERVING and record.epoch <= state.epoch:
        return None  # an old record of our own; the peer is ahead and a fresh read will show it
    return become(Role.WAIT, state.epoch, "recorded-without-data", Phase.NOT_READY)


def _forced(state: State, now: Instant) -> Decision | None:
    """An operator's forced start is for a waiting node; a SECOND becomes one, unless its primary serves."""
    order = state.order
    if order is None or order.action != "force":
        return None
    if peer_alive(state, now) and state.peer.role in SERVING:
        message = "the peer serves; stop it first (mirrorctl stop on the peer)"
        return stay(state, "force-refused", Phase.TRANSIENT, FinishOrder(order.id, False, message), detail=message)
    return become(Role.WAIT, state.epoch, "forced-by-operator", Phase.TRANSIENT, detail=f"{order.who}: {order.why}")


def _replica_missing(state: State, now: Instant) -> Decision | None:
    if state.mirror.mode is Mode.REPLICA or state.mirror.sealed > state.epoch:
        return None  # a sealed engine has ended its replica on purpose
    if state.mirror.mode is Mode.PRIMARY:
        return become(Role.WAIT, state.epoch, "clean-front", Phase.TRANSIENT)
    if failed_lately(state, "BecomeReplica", now) or state.mirror.mode is Mode.FAILED:
        return become(Role.WAIT, state.epoch, "replica-lost", Phase.NOT_READY)
    return stay(state, "replica-starts", Phase.TRANSIENT, BecomeReplica(state.epoch))


def _leaving(state: State, now: Instant) -> Decision | None:
    if state.durable.wish is not Wish.STOP:
        return None
    peer = state.peer
    published_out = peer_alive(state, now) and state.me not in peer.record_in_sync and peer.record_epoch >= state.epoch
    if published_out or not state.durable.complete or not peer_alive(state, now):
        return become(Role.STOP, state.epoch, "stopping", Phase.TRANSIENT, StopMirror())
    return stay(state, "leaving", Phase.TRANSIENT)


def _peer_published(state: State, now: Instant) -> Decision | None:
    """What the living peer says of the record decides readiness; a takeover reads the record itself."""
    peer, durable = state.peer, state.durable
    if not peer_alive(state, now):
        return None
    if peer.record_primary == state.me and peer.record_epoch > state.epoch:
        return stay(state, "consult-record", Phase.TRANSIENT, *_read_newer(state, now))
    if peer.role not in SERVING or peer.record_primary != state.peer_name or peer.record_epoch != peer.epoch:
        return None
    if state.me not in peer.record_in_sync:
        # Not from an epoch before the one this node is prepared for: there the preparation is asked for, or else the
        # heartbeat was long on its way (found by the simulator: one such took back what the record then relied on).
        if durable.complete and peer.epoch > durable.complete_epoch and peer.epoch >= durable.prepared:
            changed = replace(durable, complete=False, prepared=Epoch(0))
            return become(Role.SECOND, peer.epoch, "unpublished", Phase.TRANSIENT, Persist(changed))
    elif _complete_at(state) and (state.epoch != peer.epoch or durable.complete_epoch != peer.epoch):
        changed = replace(durable, complete=True, complete_epoch=peer.epoch, trusted=True)
        return become(Role.SECOND, peer.epoch, "joined-in-sync", Phase.READY, Persist(changed))
    asked = peer.asks_prepare
    # A joining peer must be live in the stream; in a hand-over the stream is drained, and this node was in sync.
    caught_up = state.mirror.link is Link.LIVE or (peer.role is Role.PRIM and durable.complete_epoch == peer.epoch)
    if asked == peer.epoch + 1 and asked > durable.prepared and caught_up:
        # Asked only after the primary has required this node for every acknowledgement and flushed what was before. A
        # heartbeat that was long on its way must not take back a later preparation (found by the simulator).
        return stay(
            state, "prepare", Phase.TRANSIENT, Persist(replace(durable, complete=True, prepared=asked, trusted=True))
        )
    return None


def _complete_at(state: State) -> bool:
    """The primary lists this node as in sync for its epoch. That is so when this node had prepared for it, or when the
    paired stream is live, which the engines allow only between identical copies."""
    peer, durable = state.peer, state.durable
    paired = peer.role is Role.PRIM and state.mirror.link is Link.LIVE
    return peer.epoch in (durable.prepared, durable.complete_epoch) or paired


def _read_newer(state: State, now: Instant) -> tuple[Action, ...]:
    record = state.record
    known = record.epoch if record else Epoch(0)
    every_s = 0.0 if known < state.peer.record_epoch else state.timing.witness_poll_s
    return reads_due(state, now, every_s)


def _peer_gone(state: State, now: Instant) -> Decision | None:
    timing, durable = state.timing, state.durable
    alive, linked = peer_alive(state, now), link_alive(state, now)
    idle = alive and state.peer.role not in SERVING
    sealed = state.mirror.sealed > state.epoch
    committed = sealed or state.witness.unresolved is not None
    if (alive and not idle and not committed) or (linked and not committed):
        return None
    if not durable.complete:
        # A node that had sealed its stream and was then published out has no replica any more: it starts over.
        if sealed or (not linked and (idle or not alive)):
            return become(Role.WAIT, state.epoch, "not-in-sync", Phase.NOT_READY)
        return None
    since = state.peer.idle_since if idle else state.peer.heard_at
    if _handed_over_from_here(state):
        # A peer that was handed the role just now, maybe by a write given up long ago, needs its time, heard or not.
        since = max(since, state.role_since, state.witness.learnt_at)
    elif idle:
        since = max(since, state.role_since)
    promised_until = max(state.granted_until, since + timing.promise_s) + timing.margin_s
    watched = idle or silent_s(state, now) >= timing.suspect_s
    if not committed and (now < promised_until or not watched):
        return stay(state, "suspect-peer", Phase.NOT_READY)
    if not state.failover and not committed:
        return stay(state, "failover-off", Phase.NOT_READY, detail=state.failover_by)
    record = state.record
    if record is None or state.witness.known_at < since:
        if state.witness.failure and now - state.witness.failed_at < timing.retry_s:
            return stay(state, "witness-unreachable", Phase.NOT_READY, detail=state.witness.failure)
        return stay(state, "takeover-consult", Phase.NOT_READY, *reads_due(state, now, 0.0))
    entitled = record.primary == state.peer_name and state.me in record.in_sync and _data_epoch_matches(state, record)
    if not entitled:
        if alive and linked and not idle and not sealed:
            return None  # a forced write that may still land is no reason to leave a primary that lives
        return become(Role.WAIT, state.epoch, "not-in-sync", Phase.NOT_READY)
    if state.mirror.sealed <= record.epoch:
        if failed_lately(state, "Seal", now):
            return stay(state, "takeover-seal", Phase.NOT_READY, detail="sealing failed, trying again")
        return stay(state, "takeover-seal", Phase.NOT_READY, Seal(Epoch(record.epoch + 1)))
    rule = "peer-does-not-serve" if idle else "takeover"
    return stay(state, rule, Phase.NOT_READY, *propose(state, now, state.me, state.in_sync_alone(), rule))


def _handed_over_from_here(state: State) -> bool:
    return state.record is not None and written_by(state.durable, state.record)


def _standing(state: State, now: Instant) -> Decision:
    refusal: tuple[Action, ...] = ()
    if state.order is not None:
        message = f"{state.order.action} is for the serving node; this one is SECOND"
        refusal = (FinishOrder(state.order.id, False, message),)
    reads = reads_due(state, now, state.timing.witness_poll_s)
    in_sync = state.durable.complete and state.durable.complete_epoch == state.epoch
    if not in_sync:
        return stay(state, "joining", Phase.TRANSIENT, *reads, *refusal)
    if state.mirror.link is not Link.LIVE:
        return stay(state, "link-lost", Phase.NOT_READY, *reads, *refusal)
    return stay(state, "in-sync", Phase.READY, *reads, *refusal)
