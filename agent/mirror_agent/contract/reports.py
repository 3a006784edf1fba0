"""What a node reports: the state of its module, its mirror and its checkers, and the answer it gets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from mirror_agent.contract.basics import (
    CONTRACT_VERSION,
    MAX_HEARTBEATS_PER_POST,
    MAX_ORDERS_PER_POST,
    MAX_REVOKED_SERIALS,
    MAX_SENTENCE_CHARS,
    ApplicationState,
    Contract,
    NodeName,
    Phase,
    Role,
)
from mirror_agent.contract.configuration import Configuration
from mirror_agent.contract.identity import CertificateReport, TrustOrder
from mirror_agent.contract.orders import Command, CommandResult, OrderNote, RolloutOrder, RolloutReport


class CheckerReport(Contract):
    name: str
    healthy: bool | None
    consecutive_failures: int = 0
    message: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""


class VerifyReport(Contract):
    """The verify that is running, and the last one that ended: `outcome` is identical, different or incomplete.

    `differences` stand: the copies are known to differ there until a later verify finds none or a resync compared all.
    """

    running: bool = False
    entries: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    found: int = 0
    outcome: Annotated[str, StringConstraints(max_length=32)] = ""
    ended_utc: Annotated[str, StringConstraints(max_length=40)] = ""
    differences: int = 0
    repaired: int = 0
    reason: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""


class MirrorReport(Contract):
    """Counters of the replication engine; `link` is none, connecting, resync, live or lost.

    `operations` and `replicatedBytes` count since the node took its role, the rates and percentiles are of the last
    seconds; `ringBytes` is what `inFlightBytes` may reach before callers wait. `dirty…`: noted as changed
    since the newest checkpoint. `resyncRule` says why the running or last resync compares what it compares;
    `quarantineFull` why one stopped. `replicaRule`: "slow" while calls wait long for the replica, or why it is
    left out for another `replicaLeftOutS`.
    """

    mode: str
    link: str
    acknowledging: str
    operations: int = 0
    replicated_bytes: int = 0
    in_flight_bytes: int = 0
    ack_latency_ms_p50: float | None = None
    ack_latency_ms_p99: float | None = None
    resync_done_bytes: int | None = None
    resync_total_bytes: int | None = None
    error: str | None = None
    operations_per_s: float = 0.0
    replicated_bytes_per_s: float = 0.0
    ring_bytes: int = 0
    dirty_files: int | None = None
    dirty_bytes: int | None = None
    resync_remaining_s: float | None = None
    resync_rule: Annotated[str, StringConstraints(max_length=64)] = ""
    resync_done_entries: int = 0
    resync_total_entries: int = 0
    quarantine_full: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""
    replica_rule: Annotated[str, StringConstraints(max_length=64)] = ""
    replica_left_out_s: float = 0.0
    verify: VerifyReport | None = None


class Heartbeat(Contract):
    """State of one node at one moment. In a farm the epoch is 0, and what is said of replicas is left out."""

    node: NodeName
    boot_id: Annotated[str, StringConstraints(max_length=64)]
    agent_start_id: Annotated[str, StringConstraints(max_length=64)]
    sequence: Annotated[int, Field(ge=0)]
    sent_utc: str
    role: Role
    phase: Phase
    epoch: Annotated[int, Field(ge=0)]
    in_sync: tuple[NodeName, ...] = ()
    exposed_for_s: float | None = None
    rule: str
    sentence: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)]
    application: ApplicationState
    probe_ok: bool
    mirror: MirrorReport | None = None
    checkers: tuple[CheckerReport, ...] = ()
    restarts_in_window: int = 0
    failover: bool | None = None
    checkers_on: bool | None = None
    certificate: CertificateReport | None = None
    rollout: RolloutReport | None = None
    peers_up: tuple[NodeName, ...] | None = None
    """Of a farm: the other nodes that answered just now that they serve; None: they were not asked yet."""


class HeartbeatPost(Contract):
    """POST /api/nodes/heartbeat, authorised by the node credential. Oldest first; the last one is the current state.

    `orders` are of one series, oldest first, repeated until the answer says that they are recorded.
    """

    contract_version: Literal["2026-11-01"] = CONTRACT_VERSION
    agent_version: Annotated[str, StringConstraints(max_length=64)]
    configuration_version: int
    heartbeats: Annotated[tuple[Heartbeat, ...], Field(min_length=1, max_length=MAX_HEARTBEATS_PER_POST)]
    command_results: Annotated[tuple[CommandResult, ...], Field(max_length=32)] = ()
    order_series: Annotated[str, StringConstraints(max_length=64)] = ""
    orders: Annotated[tuple[OrderNote, ...], Field(max_length=MAX_ORDERS_PER_POST)] = ()


class HeartbeatResponse(Contract):
    """`configuration` is present only when its version is newer than the node's. `revokedSerials` (hex, as OpenSSL
    prints them) are the client certificates the node's console refuses: always the whole list, None from a control
    plane that does not know of it. `trust` is there while the node's certificate report differs from it, `rollout`
    while it is this node's turn, `ordersRecorded` (through which number) where the post brought orders: older agents
    know none of them."""

    configuration: Configuration | None = None
    commands: tuple[Command, ...] = ()
    confirmed_results: tuple[str, ...] = ()
    revoked_serials: (
        Annotated[
            tuple[Annotated[str, StringConstraints(pattern=r"^[0-9A-F]{1,40}$")], ...],
            Field(max_length=MAX_REVOKED_SERIALS),
        ]
        | None
    ) = None
    trust: TrustOrder | None = None
    rollout: RolloutOrder | None = None
    orders_recorded: int | None = None
