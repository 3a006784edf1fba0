"""The rules are closed: for every pair (mine, peer's) and every fact around it there is a decision, and it is lawful.

`decide` asserts I1-I5 as far as one node can see them, so a scenario that provokes an unlawful decision raises.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from mirror_agent.core.actions import BecomePrimary, Release, StartApplication, WriteWitness
from mirror_agent.core.decide import decide
from mirror_agent.core.model import (
    NEVER,
    SERVING,
    Acknowledging,
    App,
    Durable,
    Epoch,
    Instant,
    Link,
    Mirror,
    Mode,
    Node,
    Order,
    Peer,
    Phase,
    Proposal,
    Record,
    Role,
    State,
    Timing,
    Unresolved,
    Wish,
    Witness,
    engine_busy,
    grant_s,
    probe_ok,
)
from mirror_agent.core.reduce import beat_of, settle
from mirror_agent.core.rules import RULES

A, B = Node("a"), Node("b")
NOW = Instant(1000.0)
EPOCHS = st.integers(0, 4).map(Epoch)
INSTANTS = st.sampled_from([NEVER, *(Instant(NOW - age) for age in (0.0, 0.3, 1.9, 2.1, 4.4, 4.6, 60.0))])
MEMBERS = st.sampled_from([frozenset({A}), frozenset({B}), frozenset({A, B})])


@st.composite
def records(draw: st.DrawFn) -> Record:
    members = draw(MEMBERS)
    primary = draw(st.sampled_from(sorted(members)))
    nonce = draw(st.sampled_from(["disk-a.1", "disk-b.1"]))
    epoch = draw(EPOCHS)
    return Record(epoch, primary if epoch > 0 else Node(""), members, nonce)


@st.composite
def states(draw: st.DrawFn) -> State:
    """Any state in which the role is one the record allows; a node never serves without its record (I2)."""
    record = draw(st.none() | records())
    role = draw(st.sampled_from(list(Role)))
    if role in SERVING and record is None:
        role = Role.WAIT
    epoch = draw(EPOCHS) if role not in SERVING or record is None else record.epoch
    unresolved = None
    if record is not None and draw(st.booleans()):
        members = draw(MEMBERS)
        proposal = Proposal(Epoch(record.epoch + 1), sorted(members)[0], members, "join-publish")
        unresolved = Unresolved(proposal, "disk-a.2", "7")
    mirror = Mirror(
        mode=draw(st.sampled_from(list(Mode))),
        epoch=draw(EPOCHS),
        link=draw(st.sampled_from(list(Link))),
        acknowledging=draw(st.sampled_from(list(Acknowledging))),
        heard_at=draw(INSTANTS),
        sealed=draw(EPOCHS),
        drained=draw(st.booleans()),
    )
    required = mirror.acknowledging is Acknowledging.PAIRED and mirror.link is Link.LIVE and draw(st.booleans())
    peer_record = draw(records())
    peer = Peer(
        heard_at=draw(INSTANTS),
        first_heard_at=draw(INSTANTS),
        idle_since=draw(INSTANTS),
        role=draw(st.sampled_from(list(Role))),
        phase=draw(st.sampled_from(list(Phase))),
        epoch=draw(EPOCHS),
        leaving=draw(st.booleans()),
        trusted=draw(st.booleans()),
        prepared=draw(EPOCHS),
        asks_prepare=draw(EPOCHS),
        record_epoch=peer_record.epoch,
        record_primary=peer_record.primary,
        record_in_sync=peer_record.in_sync,
    )
    durable = Durable(
        complete_epoch=draw(EPOCHS),
        complete=draw(st.booleans()),
        prepared=draw(EPOCHS),
        identity="disk-a",
        wish=draw(st.sampled_from(list(Wish))),
        trusted=draw(st.booleans()),
    )
    order = draw(st.none() | st.sampled_from(["swap", "restart", "force"]).map(lambda a: Order(a, "o1", "op", "why")))
    return State(
        me=A,
        peer_name=B,
        timing=Timing(),
        started_at=draw(INSTANTS.filter(lambda at: at > NEVER)),
        role=role,
        epoch=epoch,
        role_since=draw(INSTANTS),
        witness=Witness(
            record, "7", draw(INSTANTS), unresolved, draw(st.sampled_from(["", "timeout"])), draw(INSTANTS)
        ),
        peer=peer,
        mirror=replace(mirror, required=required),
        app=draw(st.sampled_from(list(App))),
        durable=durable,
        failover=draw(st.booleans()),
        order=order,
        held_until=draw(st.sampled_from([NEVER, Instant(NOW - 1), Instant(NOW + 1), Instant(NOW + 4)])),
        granted_until=draw(st.sampled_from([NEVER, Instant(NOW - 1), Instant(NOW + 2)])),
        restarts=draw(st.sampled_from([(), (NOW,) * 3, (NOW,) * 4])),
        won=draw(st.sampled_from(["", "disk-a.1"])),
        doing=draw(st.sampled_from([frozenset(), frozenset({"witness"}), frozenset({"mirror"})])),
    )


@settings(max_examples=3000, deadline=None)
@given(states())
def test_every_state_has_a_lawful_decision(state: State) -> None:
    decision = decide(state, NOW)
    assert decision.rule in RULES
    assert decision.sentence
    after = settle(state, decision, NOW)
    beat = beat_of(after, decision.phase, flushed=after.durable)
    assert beat.node == A


@settings(max_examples=1500, deadline=None)
@given(states())
def test_only_the_recorded_primary_acts_as_one(state: State) -> None:
    """I2, I3, I5 from the outside: what a decision may do to data or service, the record allows."""
    decision = decide(state, NOW)
    record = state.record
    for action in decision.actions:
        match action:
            case Release() | BecomePrimary() | StartApplication():
                assert record is not None
                assert record.primary == A
            case WriteWitness(proposal):
                assert record is not None
                assert proposal.epoch == record.epoch + 1
                if proposal.primary == A and B in proposal.in_sync:
                    assert state.mirror.required
                    assert not engine_busy(state)
                if record.primary == B and not (state.order and state.order.action == "force"):
                    assert A in record.in_sync, "I5: only a listed node takes over"
            case _:
                pass


@settings(max_examples=1500, deadline=None)
@given(states())
def test_no_promise_is_given_while_taking_over(state: State) -> None:
    promise_s = grant_s(state, beat_role=Role.PRIM, beat_epoch=state.epoch)
    if promise_s:
        assert state.role is Role.SECOND
        assert state.mirror.sealed <= state.epoch
        assert state.witness.unresolved is None


@settings(max_examples=1500, deadline=None)
@given(states())
def test_the_probe_says_ok_only_where_the_record_the_promise_and_the_application_agree(state: State) -> None:
    ok, reason = probe_ok(state, NOW)
    assert reason
    if ok:
        record = state.record
        assert state.role in SERVING
        assert record is not None
        assert record.primary == A
        assert state.app is App.RUNNING
        if state.role is Role.PRIM:
            assert state.held_until > NOW
