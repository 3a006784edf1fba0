"""What can happen to a node. The runner turns the outside world into these; `reduce.apply` turns them into state."""

from __future__ import annotations

from dataclasses import dataclass

from .model import App, Durable, Epoch, Instant, Mirror, Node, Order, Phase, Proposal, Record, Role, Wish


@dataclass(frozen=True, slots=True)
class Beat:
    """A node's description of itself, carried by every heartbeat and every answer to one.

    `prepare`: the epoch the sender is about to publish with the receiver in the in-sync set; 0 = nothing to prepare.
    """

    node: Node
    role: Role
    phase: Phase
    epoch: Epoch
    leaving: bool
    trusted: bool
    prepared: Epoch
    prepare: Epoch
    record_epoch: Epoch
    record_primary: Node
    record_in_sync: frozenset[Node]


@dataclass(frozen=True, slots=True)
class BeatArrived:
    beat: Beat


@dataclass(frozen=True, slots=True)
class AnswerArrived:
    """`sent_at`: when the heartbeat it answers was sent; the promise counts from there."""

    beat: Beat
    sent_at: Instant
    promise_s: float


@dataclass(frozen=True, slots=True)
class PromiseGiven:
    """This node is about to answer a heartbeat with a promise; recorded before the answer leaves."""

    promise_s: float


@dataclass(frozen=True, slots=True)
class RecordRead:
    record: Record | None
    etag: str
    requested_at: Instant


@dataclass(frozen=True, slots=True)
class WriteBegan:
    proposal: Proposal
    nonce: str
    base_etag: str


@dataclass(frozen=True, slots=True)
class WriteWon:
    record: Record
    etag: str
    requested_at: Instant


@dataclass(frozen=True, slots=True)
class WitnessUnknown:
    """A read or write whose outcome is not known; an unresolved write stays unresolved."""

    reason: str


@dataclass(frozen=True, slots=True)
class MirrorReported:
    mirror: Mirror


@dataclass(frozen=True, slots=True)
class AppReported:
    app: App
    error: str = ""


@dataclass(frozen=True, slots=True)
class Persisted:
    durable: Durable


@dataclass(frozen=True, slots=True)
class LanesBusy:
    """Which lanes have an action in progress from now on; posted before an action starts and after it ended."""

    lanes: frozenset[str]


@dataclass(frozen=True, slots=True)
class ActionFailed:
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class OrderGiven:
    order: Order


@dataclass(frozen=True, slots=True)
class OrderFinished:
    id: str


@dataclass(frozen=True, slots=True)
class WishGiven:
    wish: Wish
    reason: str


@dataclass(frozen=True, slots=True)
class FailoverSet:
    """`by`: who switched it and why, as the decision that it prevents tells."""

    on: bool
    by: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; nothing else has happened. `late_s`: how much later than meant this node woke up for it."""

    late_s: float = 0.0


Event = (
    BeatArrived
    | AnswerArrived
    | PromiseGiven
    | RecordRead
    | WriteBegan
    | WriteWon
    | WitnessUnknown
    | MirrorReported
    | AppReported
    | Persisted
    | LanesBusy
    | ActionFailed
    | OrderGiven
    | OrderFinished
    | WishGiven
    | FailoverSet
    | Tick
)
