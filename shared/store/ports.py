"""What the control plane asks of its memory.

Two adapters fulfil these ports and pass one conformance suite (tests/conformance/test_store.py): Azure Tables and
Queues (`shared.store.tables`) and an in-memory one for tests (`shared.store.memory`).

Guarantees
- `create` raises `Exists`; `replace`/`delete` with an ETag raise `Changed` when the row is another or gone. Nothing
  else changes a row that is written conditionally: of two racing writers exactly one wins.
- Everything else is idempotent: the same call twice leaves the same rows.
- `Unavailable` means that nobody knows whether the write happened; callers repeat it or give up, never assume.
Limits: a document is at most `MAX_DOCUMENT_CHARS` of JSON (the 1 MiB of an entity, stored as UTF-16).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from mirror_agent.contract import NodeName, WitnessAccess

from shared.model.audit import AuditRecord, FleetRecord, VerdictTurn
from shared.model.client_credential import ClientCredential
from shared.model.cluster import ClusterRecord
from shared.model.event import RecordedEvent
from shared.model.journal import JournalEntry, NodeOrders
from shared.model.node_state import HistoryEntry, NodeCommand, NodeState, ProbeResult
from shared.model.operation import Operation
from shared.model.principal import ApiToken, ClusterAuthority, Enrolment, NodeCredential
from shared.model.remediation import RemediationRecord, Tracked, ZoneLease

if TYPE_CHECKING:
    from shared.store.alert_ports import AlertStore  # it is made of this module's Page and Versioned

T = TypeVar("T")

MAX_DOCUMENT_CHARS: Final = 480_000  # 960,000 bytes as UTF-16, under the entity limit of 1,048,576
MAX_PAGE: Final = 1000  # rows of one table query
FLEET: Final = "fleet"  # stands where a cluster id stands, for what concerns all of them
QUEUE_NAME: Final = "mirrorplane-reconcile"


class StoreError(Exception):
    """Base of what a store raises."""


class Exists(StoreError):
    """A row of that key is already there."""


class Changed(StoreError):
    """The row is not the one that was read: changed or deleted meanwhile. Read again and decide again."""


class Unavailable(StoreError):
    """Storage did not answer, or refused for a reason of its own; the outcome of a write is unknown."""


class TooLarge(StoreError):
    """The document does not fit into a row."""


@dataclass(frozen=True)
class Versioned(Generic[T]):
    """A value with the ETag of its row."""

    value: T
    etag: str


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some rows in key order; `next` continues after them, None on the last page."""

    items: tuple[T, ...]
    next: str | None = None


@dataclass(frozen=True)
class ReconcileMessage:
    operation_id: str
    cluster: str


@dataclass(frozen=True)
class WitnessRecord:
    """The safety record as the control plane reads it (it never changes an existing one)."""

    epoch: int
    primary: str
    in_sync: str
    nonce: str
    rule: str


class Clusters(Protocol):
    async def get(self, name: str) -> Versioned[ClusterRecord] | None: ...

    async def create(self, record: ClusterRecord) -> Versioned[ClusterRecord]: ...

    async def replace(self, record: ClusterRecord, etag: str) -> Versioned[ClusterRecord]: ...

    async def delete(self, record: ClusterRecord, etag: str) -> None:
        """Removes the record and, in the same transaction, notes its id for `deleted()`, so that retention can clear
        what the cluster left in other tables."""

    async def page(self, after: str | None, limit: int) -> Page[Versioned[ClusterRecord]]:
        """Clusters by name, beginning after the name `after`."""

    async def deleted(self) -> list[str]:
        """Identities of deleted clusters whose remains may still be in the tables."""

    async def forget_deleted(self, cluster_id: str) -> None: ...


class Operations(Protocol):
    async def get(self, operation_id: str) -> Versioned[Operation] | None: ...

    async def create(self, operation: Operation) -> Versioned[Operation]: ...

    async def replace(self, operation: Operation, etag: str) -> Versioned[Operation]: ...

    async def purge_finished(self, before: datetime, limit: int) -> int:
        """Removes at most `limit` operations that ended before that time; returns how many."""


class NodeStates(Protocol):
    async def get(self, cluster_id: str, node: NodeName) -> Versioned[NodeState] | None: ...

    async def of_cluster(self, cluster_id: str) -> Mapping[NodeName, NodeState]: ...

    async def put(self, state: NodeState, etag: str | None) -> None:
        """Creates (`etag` None, raises Exists) or replaces (raises Changed)."""

    async def append_history(self, entries: Sequence[HistoryEntry]) -> None:
        """Idempotent by (agent start, sequence) within a day."""

    async def history(
        self, cluster_id: str, node: NodeName, day: date, after: str | None, limit: int
    ) -> Page[HistoryEntry]:
        """Newest first. `after` is the `next` of the page before."""


class Probes(Protocol):
    async def append(self, results: Sequence[ProbeResult]) -> None: ...

    async def page(
        self, cluster_id: str, node: NodeName, day: date, after: str | None, limit: int
    ) -> Page[ProbeResult]:
        """Newest first."""


class Events(Protocol):
    async def record(self, event: RecordedEvent) -> bool:
        """True if it is new; an event of the same source and id is recorded once."""

    async def page(self, day: date, after: str | None, limit: int) -> Page[RecordedEvent]:
        """Newest arrival first."""

    async def page_of(self, cluster: str, day: date, after: str | None, limit: int) -> Page[RecordedEvent]:
        """Those about one cluster, newest arrival first; no other cluster's are read."""


class Tokens(Protocol):
    async def get(self, token_id: str) -> ApiToken | None: ...

    async def create(self, token: ApiToken) -> None: ...

    async def page(self, after: str | None, limit: int) -> Page[ApiToken]: ...

    async def delete(self, token_id: str) -> None: ...


class Credentials(Protocol):
    async def authority(self, cluster_id: str, authority_id: str = "") -> ClusterAuthority | None: ...

    async def authorities(self, cluster_id: str) -> list[Versioned[ClusterAuthority]]:
        """All of a cluster: one, and during a rotation two."""

    async def create_authority(self, authority: ClusterAuthority) -> None: ...

    async def replace_authority(self, authority: ClusterAuthority, etag: str) -> None: ...

    async def delete_authority(self, cluster_id: str, authority_id: str) -> None:
        """Nothing happens if it is gone."""

    async def enrolment(self, cluster_id: str, enrolment_id: str) -> Versioned[Enrolment] | None: ...

    async def create_enrolment(self, enrolment: Enrolment) -> None: ...

    async def replace_enrolment(self, enrolment: Enrolment, etag: str) -> None: ...

    async def client(self, cluster_id: str, credential_id: str) -> Versioned[ClientCredential] | None: ...

    async def clients(self, cluster_id: str) -> list[ClientCredential]:
        """Of people, in the order of their ids; at most 1000."""

    async def put_client(self, credential: ClientCredential, etag: str | None) -> None:
        """Creates (`etag` None, raises Exists) or replaces (raises Changed)."""

    async def delete_client(self, cluster_id: str, credential_id: str) -> None:
        """Nothing happens if it is gone."""

    async def credential(self, cluster_id: str, node: NodeName) -> Versioned[NodeCredential] | None: ...

    async def put_credential(self, credential: NodeCredential, etag: str | None) -> None:
        """Creates (`etag` None, raises Exists) or replaces (raises Changed)."""


class Commands(Protocol):
    async def create(self, command: NodeCommand) -> None:
        """Idempotent: an existing command of that id is left as it is."""

    async def of_cluster(self, cluster_id: str) -> list[Versioned[NodeCommand]]: ...

    async def replace(self, command: NodeCommand, etag: str) -> None: ...

    async def delete(self, cluster_id: str, command_id: str) -> None: ...


class Audits(Protocol):
    async def get(self, cluster_id: str) -> Versioned[AuditRecord] | None: ...

    async def put(self, record: AuditRecord, etag: str | None) -> None:
        """Creates (`etag` None, raises Exists) or replaces (raises Changed)."""

    async def fleet(self) -> Versioned[FleetRecord] | None:
        """The audit of the whole fleet: who runs it, when it last ended (the dead-man's switch), the storm guard."""

    async def put_fleet(self, record: FleetRecord, etag: str | None) -> str:
        """Creates (`etag` None, raises Exists) or replaces (raises Changed); returns the new ETag."""

    async def append_turns(self, turns: Sequence[VerdictTurn]) -> None:
        """Idempotent by (cluster, time, kind, node): a repeated audit writes the same rows again."""

    async def turns(self, cluster_id: str, day: date, after: str | None, limit: int) -> Page[VerdictTurn]:
        """Changes of verdicts, newest first; of the storm guard under the cluster id `FLEET`."""


@dataclass(frozen=True)
class ClusterRows:
    """What the tables hold about one cluster at an audit. `audit_etag` is set where there is a row, readable or not."""

    states: Mapping[NodeName, NodeState]
    witness: WitnessRecord | None
    audit: AuditRecord | None
    audit_etag: str | None


@dataclass(frozen=True, slots=True)
class Posted:
    """The fleet as an audit left it. `changes`: clusters that exist or not, whatever the text says. `digest` is of the
    text."""

    text: str
    digest: str
    changes: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Noted:
    """What an audit must know before it begins: the notes to remove after it, and what is posted."""

    digest: str
    etags: Mapping[str, str]


class FleetRows(Protocol):
    """Reading and writing many clusters with few operations: the audit's own view of the tables."""

    async def between(self, first: str, beyond: str, limit: int) -> Mapping[str, ClusterRows]:
        """By cluster id, first <= id < beyond: one query per 1000 rows of each table."""

    async def names(self) -> list[str]:
        """Names of all clusters, in order."""

    async def audits(self) -> list[AuditRecord]:
        """The last verdicts of all clusters; also of some that were deleted since."""

    async def posted(self) -> Posted | None:
        """The fleet as the last audit posted it, and what came and went since; None where nothing is posted."""

    async def noted(self) -> Noted:
        """What came and went since the last posting; read before the clusters that are posted next."""

    async def post(self, run_id: str, text: str, noted: Noted) -> None:
        """Replaces what is posted. The same text again costs nothing."""


class Witness(Protocol):
    async def ensure(self, cluster_id: str, in_sync: NodeName) -> bool:
        """Creates the safety record if it is absent; never overwrites. True if it was created."""

    async def read(self, cluster_id: str) -> WitnessRecord | None: ...

    async def delete(self, cluster_id: str) -> None: ...

    def access(self, cluster_id: str, now: datetime) -> WitnessAccess:
        """Where the record is and a SAS that reads and updates this one row only."""


class ReconcileQueue(Protocol):
    async def enqueue(self, message: ReconcileMessage, delay_s: float = 0) -> None:
        """At-least-once delivery, not before `delay_s` (0 to 7 days) from now."""


class Retention(Protocol):
    async def purge_days(self, cluster_id: str, nodes: Sequence[NodeName], before: date, limit: int) -> int:
        """Removes at most `limit` history and probe rows of days before that; returns how many."""

    async def purge_cluster(self, cluster_id: str, limit: int) -> int:
        """Removes at most `limit` rows of every kind that a deleted cluster left; 0 means nothing is left."""

    async def purge_events(self, before: date, limit: int) -> int: ...

    async def purge_turns(self, cluster_id: str, before: date, limit: int) -> int:
        """Removes at most `limit` entries of the history of verdicts of days before that."""

    async def purge_probes(self, before: date, limit: int) -> int:
        """Removes at most `limit` rows of probes of days before that, of all clusters together."""


class Remediations(Protocol):
    async def get(self, cluster_id: str) -> Versioned[RemediationRecord] | None: ...

    async def put(self, record: RemediationRecord, etag: str | None) -> Versioned[RemediationRecord]:
        """Creates (`etag` None, raises Exists) or replaces (raises Changed)."""

    async def tracked(self) -> list[Tracked]: ...

    async def track(self, entry: Tracked) -> None: ...

    async def untrack(self, cluster_id: str) -> None: ...

    async def take_zone(self, lease: ZoneLease, now: datetime) -> bool:
        """True if this cluster holds the zone now; False if another one does."""

    async def leave_zone(self, zone: str, holder: str) -> None:
        """Nothing happens if another cluster holds it."""


class Journal(Protocol):
    """What operators did; see `shared.model.journal`."""

    async def append(self, entry: JournalEntry) -> None:
        """Idempotent by (time, id)."""

    async def page(self, day: date, after: str | None, limit: int) -> Page[JournalEntry]:
        """Newest first, of all clusters."""

    async def orders(self, cluster_id: str, node: NodeName) -> Versioned[NodeOrders] | None:
        """How far the orders of a node were taken in."""

    async def put_orders(self, orders: NodeOrders, etag: str | None) -> None:
        """Creates (`etag` None, raises Exists) or replaces (raises Changed)."""

    async def purge(self, before: date, limit: int) -> int:
        """Removes at most `limit` entries of days before that; returns how many."""


@dataclass(frozen=True)
class Store:
    """All ports together, as the composition root hands them out."""

    clusters: Clusters
    operations: Operations
    node_states: NodeStates
    probes: Probes
    events: Events
    tokens: Tokens
    credentials: Credentials
    commands: Commands
    audits: Audits
    fleet: FleetRows
    witness: Witness
    queue: ReconcileQueue
    retention: Retention
    remediations: Remediations
    journal: Journal
    alerting: AlertStore
