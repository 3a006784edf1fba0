"""What is known of a node: its last heartbeat, its history, own probes of it, and commands on their way to it.

Freshness is judged by `received_at`, our own clock at arrival. The node's `sentUtc` is for display only.
"""

from __future__ import annotations

from enum import StrEnum

from mirror_agent.contract import CommandAction, Heartbeat, NodeName
from pydantic import AwareDatetime

from shared.model.document import Document


class NodeState(Document):
    """The current state of a node. `agent_start_seen_at` is our time of the first heartbeat of this agent start."""

    cluster_id: str
    node: NodeName
    heartbeat: Heartbeat
    agent_version: str
    configuration_version: int
    received_at: AwareDatetime
    agent_start_seen_at: AwareDatetime


class HistoryEntry(Document):
    """A recorded heartbeat. The key is (agent start, sequence): recording it twice leaves one row."""

    cluster_id: str
    node: NodeName
    heartbeat: Heartbeat
    received_at: AwareDatetime
    agent_start_seen_at: AwareDatetime


class ProbeOutcome(StrEnum):
    """What our own probe of a node met. `serving` and `standby` are both answers of a living module."""

    SERVING = "serving"  # 200: the application serves here
    STANDBY = "standby"  # 503: the module lives and does not serve here
    UNEXPECTED = "unexpected"  # any other answer
    REFUSED = "refused"  # nobody listens
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    IMPOSSIBLE = "impossible"  # no address to probe, e.g. a private frontend


class ProbeResult(Document):
    cluster_id: str
    node: NodeName
    at: AwareDatetime
    outcome: ProbeOutcome
    status_code: int | None = None
    latency_ms: float | None = None
    reason: str = ""


class CommandStatus(StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class NodeCommand(Document):
    """An operator's wish for one node. `after` names a command that must have ended first (stop the replica first)."""

    id: str
    operation_id: str
    cluster_id: str
    node: NodeName
    action: CommandAction
    requested_by: str
    reason: str = ""
    after: str | None = None
    status: CommandStatus = CommandStatus.PENDING
    message: str = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime

    @property
    def is_final(self) -> bool:
        return self.status in (CommandStatus.SUCCEEDED, CommandStatus.FAILED)
