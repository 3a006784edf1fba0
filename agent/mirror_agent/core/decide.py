"""`decide(state, now)`: what one node does now, and the named rule that says why.

Read in this order: `model` (the facts), `waiting` (who may start) with `direction` (whose copy is the truth), `second`
(who may take over), `serving` (who may acknowledge), `reduce` (how facts change), `automaton` (every change of role).
The safety argument in one paragraph: the witness record is changed only by conditional writes, so its epochs form one
chain with one primary each. A primary acknowledges without its peer only after the record says {me} (rule `release`),
and a replica becomes primary only after its own write, on the very record that lists it as in sync, has succeeded
(`takeover`), having sealed the old stream before. So between the last acknowledgement that a peer did not see and the
record that excludes that peer there is always that record first (I3), and whoever is listed has every acknowledged
write (I1). Nothing of this reads a clock (I4).
"""

from __future__ import annotations

from .actions import AbortMirror, BecomePrimary, Release, StartApplication, WriteWitness
from .automaton import EDGES
from .decision import Decision
from .model import SERVING, Instant, Role, State, engine_busy, writing
from .second import second
from .serving import serving
from .waiting import stopped, waiting


def decide(state: State, now: Instant) -> Decision:
    """The decision for this moment. Pure; called again after every event and every tick."""
    match state.role:
        case Role.STOP:
            decision = stopped(state, now)
        case Role.WAIT:
            decision = waiting(state, now)
        case Role.SECOND:
            decision = second(state, now)
        case Role.PRIM | Role.ALONE:
            decision = serving(state, now)
    _assert_invariants(state, decision)
    return decision


def _assert_invariants(state: State, decision: Decision) -> None:
    """I1–I5 as far as one node can see them; a violation is a programming error and must stop the node."""
    record, edge = state.record, (state.role, decision.rule, decision.role)
    assert decision.role is state.role or edge in EDGES, f"no such change of role: {edge}"
    for action in decision.actions:
        match action:
            case Release(epoch):
                assert record is not None, "I3: release without a record"
                assert record.in_sync == state.in_sync_alone(), f"I3: release while in sync is {set(record.in_sync)}"
                assert record.primary == state.me, "I3: release without being primary"
                assert epoch == record.epoch, "I2: release for another epoch than the record's"
                assert not writing(state), "I3: release while a write of ours may still land"
            case WriteWitness(proposal):
                pairs = proposal.primary == state.me and state.peer_name in proposal.in_sync
                assert not (pairs and engine_busy(state)), "I3: publishing the peer while the engine changes its mode"
                assert not pairs or state.mirror.required, "I1: publishing a peer that is not required"
            case BecomePrimary(epoch, paired):
                assert record is not None, "I2: front without a record"
                assert record.primary == state.me, "I2: front without being primary"
                assert epoch == record.epoch, "I2: front for another epoch than the record's"
                alone = record.in_sync == state.in_sync_alone()
                assert paired or alone, "I3: solo front while the peer is published as in sync"
            case StartApplication(epoch):
                assert decision.role in SERVING, "I2: application outside a serving role"
                assert record is not None, "I2: application without a record"
                assert record.primary == state.me, "I2: application without being primary"
                assert epoch == record.epoch, "I2: application for another epoch than the record's"
            case _:
                pass
    if decision.role in SERVING:
        assert record is not None, "I2: serving without a record"
        if record.primary != state.me:
            aborting = any(isinstance(action, AbortMirror) for action in decision.actions)
            assert aborting or decision.role is not state.role, "I2: keeps serving although the record names the peer"
