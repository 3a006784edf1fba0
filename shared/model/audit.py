"""The audit's verdict on a cluster, as it is stored: one row per cluster, replaced conditionally."""

from __future__ import annotations

from enum import StrEnum

from mirror_agent.contract import NodeName
from pydantic import AwareDatetime, Field

from shared.model.document import Document


class NodeHealth(StrEnum):
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class NodeVerdict(Document):
    """`rule` is the name of the branch that decided, `sentence` says the same to a person; `since` is our time."""

    health: NodeHealth
    rule: str
    sentence: str
    since: AwareDatetime


class AuditRecord(Document):
    """`run_id` identifies the audit that wrote the row; `audited_at` never moves backwards."""

    cluster_id: str
    cluster: str
    audited_at: AwareDatetime
    run_id: str
    nodes: dict[NodeName, NodeVerdict] = Field(default_factory=dict)
