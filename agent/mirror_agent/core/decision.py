"""The shape of a decision, and what every role's rules build it with."""

from __future__ import annotations

from dataclasses import dataclass

from .actions import Action, ReadWitness, WriteWitness
from .model import Epoch, Instant, Node, Phase, Proposal, Role, State, failed_lately
from .rules import RULES, sentence


@dataclass(frozen=True, slots=True)
class Decision:
    """What this node does now and why. `role` and `epoch` are what it is from now on."""

    rule: str
    role: Role
    epoch: Epoch
    phase: Phase
    actions: tuple[Action, ...] = ()
    detail: str = ""

    def __post_init__(self) -> None:
        assert self.rule in RULES, f"unnamed rule {self.rule!r}"

    @property
    def sentence(self) -> str:
        return sentence(self.rule, self.detail)


def stay(state: State, rule: str, phase: Phase, *actions: Action, detail: str = "") -> Decision:
    """The same role and epoch as before."""
    return Decision(rule, state.role, state.epoch, phase, actions, detail)


def become(role: Role, epoch: Epoch, rule: str, phase: Phase, *actions: Action, detail: str = "") -> Decision:
    """Another role or epoch."""
    return Decision(rule, role, epoch, phase, actions, detail)


def reads_due(state: State, now: Instant, every_s: float) -> tuple[Action, ...]:
    """A read of the witness when the last one is older than `every_s` and did not fail just now."""
    witness = state.witness
    fresh = now - witness.known_at < every_s
    backing_off = now - witness.failed_at < state.timing.retry_s
    return () if fresh or backing_off else (ReadWitness(),)


def propose(state: State, now: Instant, primary: Node, in_sync: frozenset[Node], rule: str) -> tuple[Action, ...]:
    """A conditional write of the epoch after the one known, unless the last attempt failed just now.

    While an earlier write is unresolved the record is read first: either it landed, or its base is still there and
    only the next conditional write on the same base can decide between the two.
    """
    witness = state.witness
    record = witness.record
    assert record is not None, "a conditional write needs the record it replaces"
    if now - witness.failed_at < state.timing.retry_s:
        return ()
    unresolved = witness.unresolved
    if unresolved is not None and witness.known_at <= witness.failed_at:
        return (ReadWitness(),)
    if failed_lately(state, "WriteWitness", now):
        return ()
    return (WriteWitness(Proposal(Epoch(record.epoch + 1), primary, in_sync, rule)),)
