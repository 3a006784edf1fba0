"""Which kind of resync, and what it may leave out: decided by a table of named rules, pure, no clock and no disk.

Problem: comparing everything is always right and slow. What did not change on either side since a moment at which both
copies were the same and on disk (a *checkpoint*) need not be compared, if, and only if, both sides can prove it.

Proof that a node knows all its own changes since a checkpoint:
- every change was made while its clock read at least the checkpoint's time (`floor_ns`), so its ctime says so;
- files the application overwrote in place, whose ctime a power cut may lose, stand in the dirty log of the node that
  served, and renamed directories, whose content keeps its ctime, in the log of each node that renamed them, since the
  checkpoint and on disk before the change was made;
- directories, file system and state are those of the checkpoint.
A missing proof is a `Gap`. The newest checkpoint both hold without a gap is the base; with none everything is compared.

A replica that is being filled is overwritten in place as well, and notes nothing: those files stand on the list of the
primary. If the replica loses its power then (`torn`), the primary must not have lost a change since the checkpoint.

Ranges: if besides the log is complete on the serving node (same boot: not even unflushed records are missing) and the
other has not served since the base, only the ranges written since are compared in files that kept their identity.

Every verdict is one row of `RULES`: its name stands in the status and the log of both nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# A change's ctime may lie this much before the clock that was read first: kernel ticks (10 ms) and file systems that
# keep whole seconds.
CTIME_MARGIN_NS: Final = 2_000_000_000


class Gap(StrEnum):
    """What a node misses to prove that it knows its changes since one checkpoint."""

    NONE = ""
    CLOCK = "clock"
    DISK = "disk"
    LOG = "log"
    FILE_SYSTEM = "file-system"
    TORN = "torn"


class Kind(StrEnum):
    """How much is compared: everything; what changed; of files that changed only what was written."""

    FULL = "full"
    CANDIDATES = "candidates"
    RANGES = "ranges"


@dataclass(frozen=True)
class Rule:
    kind: Kind
    sentence: str


RULES: Final[Mapping[str, Rule]] = {
    "configured": Rule(Kind.FULL, "This cluster is configured to compare everything, always."),
    "asked-for": Rule(Kind.FULL, "An operator asked for a comparison of everything."),
    "differences-found": Rule(Kind.FULL, "A verify found differences that no checkpoint explains."),
    "shortcut-failed": Rule(Kind.FULL, "The last resync that left something out met something it did not expect."),
    "no-checkpoint-here": Rule(Kind.FULL, "This node has no checkpoint: the pair was never in sync, or it was lost."),
    "no-checkpoint-there": Rule(Kind.FULL, "The replica has no checkpoint: it is new, or its state was lost."),
    "no-common-checkpoint": Rule(Kind.FULL, "The two nodes hold checkpoints of different histories."),
    "clock-here": Rule(Kind.FULL, "This node's clock was behind the checkpoint since then."),
    "clock-there": Rule(Kind.FULL, "The replica's clock was behind the checkpoint since then."),
    "disk-here": Rule(Kind.FULL, "A replicated directory of this node is not the one of the checkpoint."),
    "disk-there": Rule(Kind.FULL, "A replicated directory of the replica is not the one of the checkpoint."),
    "log-here": Rule(Kind.FULL, "This node's dirty log since the checkpoint is not complete."),
    "log-there": Rule(Kind.FULL, "The replica's dirty log since the checkpoint is not complete."),
    "file-system-here": Rule(Kind.FULL, "Change times of this node's file system prove nothing."),
    "file-system-there": Rule(Kind.FULL, "Change times of the replica's file system prove nothing."),
    "torn-here": Rule(Kind.FULL, "A loss of power cut off a resync of this node's copy."),
    "torn-there": Rule(Kind.FULL, "A loss of power cut off a resync of the replica, and this node's log has gaps."),
    "candidates": Rule(Kind.CANDIDATES, "What changed on either node since the common checkpoint is compared."),
    "ranges": Rule(Kind.RANGES, "What was written since the common checkpoint is compared."),
}

# Reasons that say something about the checkpoints themselves: they are forgotten before everything is compared.
DISTRUSTED: Final = frozenset({"asked-for", "differences-found", "shortcut-failed"})


@dataclass(frozen=True)
class Clock:
    """A reading of a node's clocks. `boot`: the boot id, which says whether two readings' `boottime_ns` compare."""

    boot: str
    realtime_ns: int
    boottime_ns: int


@dataclass(frozen=True)
class Held:
    """A checkpoint as one side holds it now. `served`: this side was primary since; `exact`: its log holds every range
    written since."""

    stream: str
    seq: int
    gap: Gap = Gap.NONE
    served: bool = False
    exact: bool = False

    @property
    def point(self) -> tuple[str, int]:
        return self.stream, self.seq


@dataclass(frozen=True)
class Choice:
    """What will be done and why. `base` is None for a full comparison."""

    rule: str
    base: tuple[str, int] | None

    @property
    def kind(self) -> Kind:
        return RULES[self.rule].kind

    @property
    def sentence(self) -> str:
        return RULES[self.rule].sentence


def clock_gap(then: Clock, now: Clock) -> Gap:
    """Whether a clock that read `then` at the checkpoint can have gone on without a step back behind it.

    Between two readings of one boot the real time must have advanced whenever the boot clock did; a step back that
    stays later than the checkpoint changes no verdict, because all ctimes stay later too.
    """
    if now.realtime_ns < then.realtime_ns:
        return Gap.CLOCK
    if now.boot == then.boot and now.boottime_ns < then.boottime_ns:
        return Gap.CLOCK  # a boot clock never goes back: one of the two readings is not what it says
    return Gap.NONE


def floor_ns(then: Clock) -> int:
    """Inodes with a ctime from here on may have changed since the checkpoint."""
    return then.realtime_ns - CTIME_MARGIN_NS


def choose(
    mine: tuple[Held, ...],
    peers: tuple[Held, ...],
    *,
    always_everything: bool = False,
    asked_for_full: bool = False,
    differences_stand: bool = False,
    shortcut_failed: bool = False,
) -> Choice:
    """The serving node's decision. Both lists newest first; the first common checkpoint without a gap is the base."""
    if always_everything:
        return Choice("configured", None)
    if asked_for_full:
        return Choice("asked-for", None)
    if differences_stand:
        return Choice("differences-found", None)
    if shortcut_failed:
        return Choice("shortcut-failed", None)
    if not mine:
        return Choice("no-checkpoint-here", None)
    if not peers:
        return Choice("no-checkpoint-there", None)
    theirs = {held.point: held for held in peers}
    refusal = "no-common-checkpoint"
    for own in mine:
        other = theirs.get(own.point)
        if other is None:
            continue
        if own.gap is not Gap.NONE:
            refusal = f"{own.gap}-here"
        elif other.gap is not Gap.NONE and not (other.gap is Gap.TORN and own.exact):
            refusal = f"{other.gap}-there"
        else:
            return Choice("ranges" if own.exact and not other.served else "candidates", own.point)
    return Choice(refusal, None)


def may_skip(*, changed_here: bool, changed_there: bool, identity_proven: bool) -> bool:
    """Whether an entry need not be compared: it did not change on either side since the base, and the directories above
    it are the same on both sides (none was renamed since, none was made anew)."""
    return identity_proven and not changed_here and not changed_there


assert set(RULES) >= DISTRUSTED
assert all(f"{gap}-{side}" in RULES for gap in Gap if gap for side in ("here", "there"))
