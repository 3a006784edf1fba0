"""The facts a node decides upon, as frozen values.

`State` is everything one node knows at one moment; `reduce.apply` is the only place that makes a new one out of an
event, `decide.decide` the only place that draws a conclusion from it. Both run unchanged in the agent and in the
simulator. Times are seconds on a clock that counts suspend and never steps (CLOCK_BOOTTIME); they bound availability,
never safety (I4).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

Node = NewType("Node", str)
Epoch = NewType("Epoch", int)
Instant = NewType("Instant", float)

NOBODY = Node("")
NEVER = Instant(float("-inf"))
NO_EPOCH = Epoch(0)


class Role(StrEnum):
    STOP = "STOP"
    WAIT = "WAIT"
    ALONE = "ALONE"
    PRIM = "PRIM"
    SECOND = "SECOND"


class Phase(StrEnum):
    NOT_READY = "not-ready"
    TRANSIENT = "transient"
    READY = "ready"


SERVING = frozenset({Role.ALONE, Role.PRIM})


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations in seconds; see `budget` for the relations that must hold between them."""

    heartbeat_s: float = 0.5
    suspect_s: float = 2.0
    promise_s: float = 4.0
    margin_s: float = 0.5
    witness_deadline_s: float = 2.0
    probe_interval_s: float = 5.0
    probe_threshold: int = 1
    # How often a node looks at the witness record when nothing forces it to.
    witness_poll_s: float = 5.0
    # Pause between two attempts of an action that failed.
    retry_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Record:
    """The witness record: the one authority on who is primary and whose data is complete."""

    epoch: Epoch
    primary: Node
    in_sync: frozenset[Node]
    nonce: str
    rule: str = ""

    def __post_init__(self) -> None:
        assert self.epoch >= 0, self
        assert self.primary == NOBODY or self.primary in self.in_sync, f"I5: primary outside the in-sync set: {self}"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A conditional write this node wants: the record without its nonce, which the runner adds."""

    epoch: Epoch
    primary: Node
    in_sync: frozenset[Node]
    rule: str

    def __post_init__(self) -> None:
        assert self.primary in self.in_sync, f"I5: would publish a primary outside the in-sync set: {self}"


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A conditional write whose outcome is unknown: it may still land as long as the record keeps `base_etag`.

    `earlier`: whom the writes before it on the same base would list; each of them may still land instead.
    """

    proposal: Proposal
    nonce: str
    base_etag: str
    earlier: frozenset[Node] = frozenset()


@dataclass(frozen=True, slots=True)
class Witness:
    """What this node knows of the record."""

    record: Record | None = None
    etag: str = ""
    # Start of the request that brought `record`: the record was so at that time or later.
    known_at: Instant = NEVER
    # Start of the request that brought `record` first: what follows from it can have begun just then.
    learnt_at: Instant = NEVER
    unresolved: Unresolved | None = None
    failure: str = ""
    failed_at: Instant = NEVER


@dataclass(frozen=True, slots=True)
class Peer:
    """The other node as its heartbeats and answers describe it. `heard_at` is our own arrival time."""

    heard_at: Instant = NEVER
    first_heard_at: Instant = NEVER
    # Since when it has been heard without a serving role, without interruption.
    idle_since: Instant = NEVER
    role: Role = Role.STOP
    phase: Phase = Phase.NOT_READY
    epoch: Epoch = NO_EPOCH
    leaving: bool = False
    trusted: bool = True
    prepared: Epoch = NO_EPOCH
    asks_prepare: Epoch = NO_EPOCH
    record_epoch: Epoch = NO_EPOCH
    record_primary: Node = NOBODY
    record_in_sync: frozenset[Node] = frozenset()


class Mode(StrEnum):
    STOPPED = "stopped"
    PRIMARY = "primary"
    REPLICA = "replica"
    FAILED = "failed"


class Link(StrEnum):
    NONE = "none"
    CONNECTING = "connecting"
    RESYNC = "resync"
    LIVE = "live"
    LOST = "lost"


class Acknowledging(StrEnum):
    NONE = "none"
    SOLO = "solo"
    PAIRED = "paired"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Mirror:
    """The replication engine as it reports itself. `sealed` = the replica refuses every frame below this epoch."""

    mode: Mode = Mode.STOPPED
    epoch: Epoch = NO_EPOCH
    link: Link = Link.NONE
    acknowledging: Acknowledging = Acknowledging.NONE
    heard_at: Instant = NEVER
    sealed: Epoch = NO_EPOCH
    drained: bool = False
    # The barrier of `RequirePeer` has passed and the link has been live ever since: everything is on both nodes.
    required: bool = False
    error: str = ""


class App(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"


class Wish(StrEnum):
    """What the operator (or the restart budget) wants of this node."""

    RUN = "run"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Durable:
    """What survives a crash of the node: written and flushed before the act that relies on it.

    `complete_epoch`: the newest epoch at which this node's data held every acknowledged write.
    `prepared`: the epoch the primary is about to publish with this node in the in-sync set.
    `identity`: random name of this state on this disk; the nonce of every conditional write begins with it, so that
    after any crash this node knows its own hand, whichever of its attempts landed (found by the simulator).
    `trusted`: false after a restart of the machine without an orderly stop: what was acknowledged but not flushed may
    be missing here, so another complete copy is preferred.
    """

    complete_epoch: Epoch = NO_EPOCH
    complete: bool = False
    prepared: Epoch = NO_EPOCH
    identity: str = ""
    wish: Wish = Wish.RUN
    stop_reason: str = ""
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class Order:
    """An operator's command in progress: `swap`, `restart` or `force`."""

    action: str
    id: str
    who: str
    why: str = ""
    failed: str = ""


@dataclass(frozen=True)
class State:
    """Everything one node knows. Without slots, so that a copy costs two dictionary updates (0.7 µs, not 18)."""

    me: Node
    peer_name: Node
    timing: Timing
    started_at: Instant
    role: Role = Role.WAIT
    epoch: Epoch = NO_EPOCH
    role_since: Instant = NEVER
    witness: Witness = field(default_factory=Witness)
    peer: Peer = field(default_factory=Peer)
    mirror: Mirror = field(default_factory=Mirror)
    app: App = App.STOPPED
    app_error: str = ""
    durable: Durable = field(default_factory=Durable)
    # First-start permission is given by the record (in_sync without a primary), so there is no flag for it here.
    failover: bool = True
    failover_by: str = ""
    order: Order | None = None
    order_since: Instant = NEVER
    # Until when the peer has promised not to take over, counted from the moment our heartbeat was sent.
    held_until: Instant = NEVER
    # Until when we have promised the peer not to take over, counted from the moment our answer was made.
    granted_until: Instant = NEVER
    restarts: tuple[Instant, ...] = ()
    restart_limit: int = 3
    restart_window_s: float = 86400.0
    exposed_since: Instant | None = None
    # Nonce of the newest conditional write of this life that is known to have landed.
    won: str = ""
    # Lanes with an action in progress: what they will have done is not in the other facts yet.
    doing: frozenset[str] = frozenset()
    # When this node last found that it had slept: what it did not hear meanwhile proves nothing.
    woke_at: Instant = NEVER
    # Since when the engine has been drained for a hand-over.
    drained_since: Instant = NEVER
    # Last failure per kind of action: (kind, when, message).
    failures: tuple[tuple[str, Instant, str], ...] = ()

    def with_(self, **changes: object) -> State:
        assert changes.keys() <= State.__dataclass_fields__.keys(), f"unknown facts in {sorted(changes)}"
        copy = object.__new__(State)
        copy.__dict__.update(self.__dict__, **changes)
        return copy

    @property
    def record(self) -> Record | None:
        return self.witness.record

    def in_sync_alone(self) -> frozenset[Node]:
        return frozenset({self.me})

    def in_sync_both(self) -> frozenset[Node]:
        return frozenset({self.me, self.peer_name})


def peer_alive(state: State, now: Instant) -> bool:
    """Heard by heartbeat within the suspicion time."""
    return now - state.peer.heard_at < state.timing.suspect_s


def link_alive(state: State, now: Instant) -> bool:
    """The second signal: bytes on the mirror stream within the suspicion time."""
    return state.mirror.link in (Link.LIVE, Link.RESYNC) and now - state.mirror.heard_at < state.timing.suspect_s


def promise_holds(state: State, now: Instant) -> bool:
    """The peer has promised not to take over at this moment."""
    return now < state.held_until


def writing(state: State) -> bool:
    """A conditional write of ours is on its way, or may still land."""
    return "witness" in state.doing or state.witness.unresolved is not None


def engine_busy(state: State) -> bool:
    """The engine is doing something whose result is not in `state.mirror` yet (found by the simulator: a release in
    progress while the peer was being published as in sync)."""
    return "mirror" in state.doing or "mirror-abort" in state.doing


def silent_s(state: State, now: Instant) -> float:
    """How long this observer has been watching without hearing the peer.

    One that has just started, or just woken up, has seen nothing yet.
    """
    return now - max(state.started_at, state.woke_at, state.peer.heard_at)


def written_by(durable: Durable, record: Record) -> bool:
    """The record is the work of this node's own hand, in this life or an earlier one."""
    return durable.identity != "" and record.nonce.startswith(durable.identity + ".")


def failed_lately(state: State, kind: str, now: Instant) -> bool:
    """An action of this kind failed less than `retry_s` ago: wait before the next attempt."""
    return any(name == kind and now - at < state.timing.retry_s for name, at, _ in state.failures)


def needs_promise(state: State) -> bool:
    """May the peer take over from this serving node? Then it serves only while the peer has promised not to.

    True when the record lists the peer as in sync, whether or not the role has followed it yet, and also while a write
    of ours that would list it may have landed unseen (both found by the simulator: such a node believed itself alone
    while the peer rightly took over).
    """
    if state.role not in SERVING:
        return False
    record, unresolved = state.record, state.witness.unresolved
    listed = record is not None and state.peer_name in record.in_sync
    uncertain = unresolved is not None and state.peer_name in unresolved.proposal.in_sync | unresolved.earlier
    return state.role is Role.PRIM or listed or uncertain


def grant_s(state: State, *, beat_role: Role, beat_epoch: Epoch) -> float:
    """For how long this node may promise not to take over, answering a heartbeat of the peer; 0 = no promise.

    Only a SECOND promises, only to a peer that serves in an epoch not older than its own data, and never once it has
    begun to take over: being sealed, sealed, or with a write of its own that may still land.
    """
    durable = state.durable
    sealed = state.mirror.sealed > state.epoch or engine_busy(state)
    taking_over = sealed or state.witness.unresolved is not None
    current = not durable.complete or beat_epoch >= durable.complete_epoch
    if state.role is Role.SECOND and not taking_over and beat_role in SERVING and current:
        return state.timing.promise_s
    return 0.0


def probe_ok(state: State, now: Instant) -> tuple[bool, str]:
    """The answer for the load balancer, computed at answer time: role, record, promise, front and application.

    Returns (ok, reason). A node whose peer may take over needs an unexpired promise; one that is surely alone does not.
    """
    record = state.record
    if state.role not in SERVING:
        return False, f"role {state.role.value}"
    if record is None or record.primary != state.me or record.epoch < state.epoch:
        return False, "the witness record does not name this node for this epoch"
    if state.mirror.mode is not Mode.PRIMARY:
        return False, "replicated directory not mounted"
    if state.app is not App.RUNNING:
        return False, f"application {state.app.value}"
    if state.order is not None and state.order.action == "swap" and not state.order.failed:
        return False, "handing over"
    if state.durable.wish is Wish.STOP:
        return False, "stopping"
    if needs_promise(state) and not promise_holds(state, now):
        return False, "promise of the peer expired"
    return True, "serving"
