"""`mirrorctl drill`: what this node would be allowed to do now, and why not. Pure; nothing is changed.

Each question is put to the production core as a supposition: a copy of the node's facts in which the peer has just
vanished, or an order has been given. The rule the core answers with is the permission or the refusal. So a drill cannot
drift away from what the node really does.
Limits: a drill supposes that the witness answers, unless its last answer was a failure; it says what is supposed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from mirror_agent.core.decide import decide
from mirror_agent.core.decision import Decision
from mirror_agent.core.model import (
    NEVER,
    SERVING,
    Acknowledging,
    Instant,
    Link,
    Order,
    Role,
    State,
    Wish,
    link_alive,
    peer_alive,
)

_TAKES_OVER: Final = frozenset(
    {"takeover-seal", "takeover", "takeover-at-start", "resume-as-primary", "both-lost-power", "first-start"}
)
_EXCLUDES: Final = frozenset({"publish-alone", "peer-leaving", "join-withdrawn"})
_HANDS_OVER: Final = frozenset({"swap-stop-application", "swap-drain", "swap-prepare", "swap-publish"})


@dataclass(frozen=True, slots=True)
class Permission:
    """`rule` is the core's, or "" where the answer does not come from it."""

    act: str
    allowed: bool
    sentence: str
    rule: str = ""
    supposed: str = ""


def drill(state: State, now: Instant, *, self_fence: str) -> tuple[Permission, ...]:
    """`self_fence`: why this node could not fence itself, "" if it could."""
    fence = self_fence or "If the application cannot be killed at a demotion, this node restarts the machine at once."
    return (
        _promote(state, now),
        _swap(state, now),
        _resync(state, now),
        _exclude_peer(state, now),
        Permission("fence-self", not self_fence, fence),
    )


def _promote(state: State, now: Instant) -> Permission:
    if state.role in SERVING:
        return Permission("promote", False, f"This node serves already, as {state.role.value}.")
    supposed = "the peer vanishes, its promise and ours expire, the witness answers"
    decision = _without_peer(state, now, witness_answers=True)
    return Permission("promote", decision.rule in _TAKES_OVER, decision.sentence, decision.rule, supposed)


def _swap(state: State, now: Instant) -> Permission:
    if state.role not in SERVING:
        sentence = f"A swap is ordered on the serving node; this one is {state.role.value}."
        return Permission("swap", False, sentence)
    if state.order is not None:
        return Permission("swap", False, f"{state.order.action} of {state.order.who} is in progress.")
    decision = decide(state.with_(order=Order("swap", "drill", "drill")), now)
    return Permission("swap", decision.rule in _HANDS_OVER, decision.sentence, decision.rule, "a swap is ordered now")


def _resync(state: State, now: Instant) -> Permission:
    """Whether the copy that is behind can be brought up to date now."""
    record = state.record
    if record is not None and record.in_sync == state.in_sync_both():
        return Permission("resync", False, "Both copies are in sync: there is nothing to bring up to date.")
    if not peer_alive(state, now):
        return Permission("resync", False, "The peer is not heard.")
    if state.role is Role.STOP or state.durable.wish is Wish.STOP:
        return Permission("resync", False, "The module is stopped on this node; start it: mirrorctl start")
    if state.peer.leaving:
        return Permission("resync", False, "The module is stopped, or stopping, on the peer.")
    if state.role not in SERVING and state.peer.role not in SERVING:
        return Permission("resync", False, "No node serves, so there is no copy to bring the other one up to.")
    if not link_alive(state, now):
        reason = state.mirror.error or f"it is {state.mirror.link.value}"
        return Permission("resync", False, f"The mirror stream is not up: {reason}.")
    running = "is going on" if state.mirror.link is Link.RESYNC else "is done; what is written now is on both nodes"
    return Permission("resync", True, f"The stream is up: the resynchronisation {running}.")


def _exclude_peer(state: State, now: Instant) -> Permission:
    if state.role not in SERVING:
        sentence = f"Only the serving node asks the witness to leave the peer out; this one is {state.role.value}."
        return Permission("exclude-peer", False, sentence)
    if state.role is Role.ALONE:
        return Permission("exclude-peer", False, "The record already says that this node runs alone.")
    answers = not state.witness.failure
    supposed = "the peer vanishes" + ("" if answers else f"; the witness goes on failing: {state.witness.failure}")
    decision = _without_peer(state, now, witness_answers=answers)
    return Permission("exclude-peer", decision.rule in _EXCLUDES, decision.sentence, decision.rule, supposed)


def _without_peer(state: State, now: Instant, *, witness_answers: bool) -> Decision:
    """What the core decides when the peer, last heard now, has been silent long enough."""
    timing = state.timing
    if state.role in SERVING:
        # Silent for the suspicion time, the promise not yet expired: the moment at which the primary asks the witness.
        moment = Instant(now + timing.suspect_s)
        held_until = Instant(max(state.held_until, moment + timing.margin_s))
    else:
        moment = Instant(now + timing.promise_s + timing.margin_s + timing.suspect_s)
        held_until = NEVER
    mirror = replace(state.mirror, link=Link.LOST, heard_at=NEVER)
    if state.role in SERVING and mirror.acknowledging is Acknowledging.PAIRED:
        mirror = replace(mirror, acknowledging=Acknowledging.PARKED)
    witness = state.witness
    if witness_answers:
        witness = replace(witness, known_at=moment, failure="", failed_at=NEVER)
    else:
        witness = replace(witness, failed_at=moment)
    supposed = state.with_(
        peer=replace(state.peer, heard_at=now),
        mirror=mirror,
        witness=witness,
        held_until=held_until,
        granted_until=NEVER,
        doing=frozenset(),
    )
    return decide(supposed, moment)
