"""What a decision may ask the runner to do. Each action belongs to a lane; a lane does one thing at a time.

`ABORT` actions have lanes of their own: they overtake whatever their component is doing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .model import Durable, Epoch, Proposal


class Lane(StrEnum):
    WITNESS = "witness"
    MIRROR = "mirror"
    MIRROR_ABORT = "mirror-abort"
    APP = "app"
    APP_KILL = "app-kill"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class ReadWitness:
    lane = Lane.WITNESS


@dataclass(frozen=True, slots=True)
class WriteWitness:
    """Conditional write on the record last read. The runner adds a nonce that begins with `Durable.identity`."""

    proposal: Proposal
    lane = Lane.WITNESS


@dataclass(frozen=True, slots=True)
class Persist:
    """Write and flush the durable state; done before any action of the same decision that follows it."""

    durable: Durable
    lane = Lane.DISK


@dataclass(frozen=True, slots=True)
class BecomePrimary:
    epoch: Epoch
    paired: bool
    lane = Lane.MIRROR


@dataclass(frozen=True, slots=True)
class BecomeReplica:
    epoch: Epoch
    lane = Lane.MIRROR


@dataclass(frozen=True, slots=True)
class RequirePeer:
    epoch: Epoch
    lane = Lane.MIRROR


@dataclass(frozen=True, slots=True)
class Release:
    """Acknowledge without the peer. Only ever issued when the record says in_sync = {me} (I3)."""

    epoch: Epoch
    lane = Lane.MIRROR


@dataclass(frozen=True, slots=True)
class RaiseEpoch:
    epoch: Epoch
    lane = Lane.MIRROR


@dataclass(frozen=True, slots=True)
class Seal:
    epoch: Epoch
    lane = Lane.MIRROR


@dataclass(frozen=True, slots=True)
class Drain:
    lane = Lane.MIRROR


@dataclass(frozen=True, slots=True)
class StopMirror:
    lane = Lane.MIRROR


@dataclass(frozen=True, slots=True)
class AbortMirror:
    lane = Lane.MIRROR_ABORT


@dataclass(frozen=True, slots=True)
class StartApplication:
    epoch: Epoch
    lane = Lane.APP


@dataclass(frozen=True, slots=True)
class StopApplication:
    lane = Lane.APP


@dataclass(frozen=True, slots=True)
class KillApplication:
    """Kill every process of the application and reset its established connections."""

    lane = Lane.APP_KILL


@dataclass(frozen=True, slots=True)
class FinishOrder:
    """Tell whoever gave the order how it ended."""

    id: str
    succeeded: bool
    message: str
    lane = Lane.DISK


Action = (
    ReadWitness
    | WriteWitness
    | Persist
    | BecomePrimary
    | BecomeReplica
    | RequirePeer
    | Release
    | RaiseEpoch
    | Seal
    | Drain
    | StopMirror
    | AbortMirror
    | StartApplication
    | StopApplication
    | KillApplication
    | FinishOrder
)
