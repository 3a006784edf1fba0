"""Rules of STOP and WAIT: who may start, and who waits for whom."""

from __future__ import annotations

from dataclasses import replace

from .actions import AbortMirror, Action, BecomeReplica, FinishOrder, KillApplication, Persist, StopMirror
from .decision import Decision, become, propose, reads_due, stay
from .direction import Source, direction
from .model import (
    NO_EPOCH,
    NOBODY,
    SERVING,
    App,
    Epoch,
    Instant,
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

WAIT_POLL_S = 1.0  # a waiting node has nothing better to do than to look at the record


def stopped(state: State, now: Instant) -> Decision:
    """STOP: nothing runs here until somebody asks for it."""
    if state.app is not App.STOPPED:
        return stay(state, "clean-application", Phase.TRANSIENT, KillApplication())
    if state.mirror.mode is Mode.PRIMARY:
        return stay(state, "clean-front", Phase.TRANSIENT, AbortMirror())
    if state.durable.wish is Wish.RUN:
        return become(Role.WAIT, state.epoch, "start", Phase.TRANSIENT)
    leave_mirror: tuple[Action, ...] = (StopMirror(),) if state.mirror.mode is not Mode.STOPPED else ()
    refusal = _refuse_order(state)
    if state.order is not None and state.order.action == "force":
        refusal = (FinishOrder(state.order.id, False, "the module is stopped on this node; start it first"),)
    return stay(state, "stopped", Phase.NOT_READY, *leave_mirror, *refusal, detail=state.durable.stop_reason)


def waiting(state: State, now: Instant) -> Decision:
    """WAIT: clean up, learn the record, then start, follow or stand by."""
    if state.app is not App.STOPPED:
        return stay(state, "clean-application", Phase.TRANSIENT, KillApplication(), *reads_due(state, now, WAIT_POLL_S))
    if state.mirror.mode is Mode.PRIMARY:
        return stay(state, "clean-front", Phase.TRANSIENT, AbortMirror(), *reads_due(state, now, WAIT_POLL_S))
    if state.durable.wish is Wish.STOP:
        return become(Role.STOP, state.epoch, "stopping", Phase.TRANSIENT)
    record = state.record
    if record is None:
        return _without_record(state, now)
    won = bool(state.won) and record.nonce == state.won
    if won and record.primary == state.me and record.in_sync == state.in_sync_alone():
        durable = replace(state.durable, complete=True, complete_epoch=record.epoch, trusted=True)
        finish: tuple[Action, ...] = ()
        if state.order is not None and state.order.action == "force":
            finish = (FinishOrder(state.order.id, True, "this node is primary now"),)
        actions = (Persist(durable), *finish)
        return become(Role.ALONE, record.epoch, "won-primary", Phase.TRANSIENT, *actions, detail=record.rule)
    if state.order is not None and state.order.action == "force":
        return _forced(state, record, now)
    row = direction(facts(state, record, now))
    match row.source:
        case Source.MINE:
            # The front is not mounted; a replica, if any, is sealed before it is (serving: seal-before-mount).
            actions = propose(state, now, state.me, state.in_sync_alone(), row.rule)
            return stay(state, row.rule, Phase.TRANSIENT, *actions)
        case Source.PEERS:
            detail = state.failover_by if row.rule == "failover-off" else ""
            return _follow(state, row.rule, record.epoch, now, detail=detail)
        case Source.OPERATOR:
            reads = reads_due(state, now, WAIT_POLL_S)
            return stay(state, row.rule, Phase.NOT_READY, *reads, *_refuse_order(state))


def facts(state: State, record: Record, now: Instant) -> frozenset[str]:
    """What holds of `direction.FACTS` for this node at this moment."""
    timing, peer = state.timing, state.peer
    heard = peer_alive(state, now)
    patience_s = timing.promise_s + timing.margin_s
    watched_s = now - max(peer.idle_since, state.role_since) if heard else silent_s(state, now)
    if written_by(state.durable, record):
        # Handed over by this node, maybe only just now: by a write that it had given up, or before it crashed.
        watched_s = min(watched_s, now - max(state.role_since, state.witness.learnt_at))
    known = {
        "unclaimed": record.primary == NOBODY,
        "named": record.primary == state.me,
        "listed": state.me in record.in_sync,
        "complete": _data_is_of(state, record),
        "trusted": state.durable.trusted,
        "peer listed": state.peer_name in record.in_sync,
        "peer heard": heard,
        "peer serves": heard and peer.role in SERVING,
        "peer waits": heard and peer.role is Role.WAIT,
        "peer trusted": heard and peer.trusted,
        "patience over": watched_s >= patience_s,
        "failover": state.failover,
    }
    return frozenset(fact for fact, holds in known.items() if holds)


def _without_record(state: State, now: Instant) -> Decision:
    peer = state.peer
    if peer_alive(state, now) and peer.role in SERVING and peer.epoch >= state.durable.complete_epoch:
        return _follow(state, "follow-serving-peer", peer.epoch, now)
    detail = state.witness.failure
    reads = reads_due(state, now, 0.0)
    return stay(state, "record-unknown", Phase.NOT_READY, *reads, *_refuse_order(state), detail=detail)


def _data_is_of(state: State, record: Record) -> bool:
    """This node's data is complete for the record: by its own epoch, by preparation, or by its own write.

    A record that names this node and is of its own hand needs no other proof: it was entitled when it wrote it, and
    nobody else has written since. It may have crashed before it could note that its data is complete.
    """
    durable = state.durable
    own = written_by(durable, record)
    if own and record.primary == state.me:
        return True
    return durable.complete and (durable.complete_epoch == record.epoch or durable.prepared == record.epoch or own)


def _follow(state: State, rule: str, epoch: Epoch, now: Instant, *, detail: str = "") -> Decision:
    """Run a replica and become SECOND once the primary is connected; meanwhile keep looking at the record."""
    reads = (*reads_due(state, now, WAIT_POLL_S), *_refuse_order(state))
    mirror = state.mirror
    epoch = Epoch(max(epoch, mirror.sealed))  # an engine never goes back below what it was sealed for
    if mirror.mode is not Mode.REPLICA or mirror.sealed > NO_EPOCH:
        if failed_lately(state, "BecomeReplica", now):
            return stay(state, rule, Phase.NOT_READY, *reads, detail="the replica could not start")
        return stay(state, rule, Phase.NOT_READY, BecomeReplica(epoch), *reads, detail=detail)
    if link_alive(state, now) and peer_alive(state, now) and state.peer.role in SERVING:
        return become(Role.SECOND, state.peer.epoch, "joining", Phase.TRANSIENT)
    return stay(state, rule, Phase.NOT_READY, *reads, detail=detail)


def _forced(state: State, record: Record, now: Instant) -> Decision:
    order = state.order
    assert order is not None
    if peer_alive(state, now) and state.peer.role in SERVING:
        message = "the peer serves; stop it first (mirrorctl stop on the peer)"
        return stay(state, "force-refused", Phase.NOT_READY, FinishOrder(order.id, False, message), detail=message)
    if now < state.granted_until + state.timing.margin_s:
        detail = "this node has promised the peer not to take over, and waits for the end of that"
        return stay(state, "forced-by-operator", Phase.TRANSIENT, detail=detail)
    if now - state.witness.known_at > WAIT_POLL_S:
        return stay(state, "record-unknown", Phase.NOT_READY, *reads_due(state, now, 0.0))
    rule = f"forced by {order.who}: {order.why}"
    actions = propose(state, now, state.me, state.in_sync_alone(), rule)
    return stay(state, "forced-by-operator", Phase.TRANSIENT, *actions, detail=f"{order.who}: {order.why}")


def _refuse_order(state: State) -> tuple[Action, ...]:
    order = state.order
    if order is None or order.action == "force":
        return ()
    return (FinishOrder(order.id, False, f"{order.action} needs a serving node; this one is {state.role.value}"),)
