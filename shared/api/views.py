"""What the API answers: the models of its bodies, and how they are made from what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from mirror_agent.contract import ApplicationState, Heartbeat, NodeName, Phase, Role
from pydantic import AwareDatetime

from shared.api.call import API_VERSION
from shared.health.glimpse import NodeFacts, glimpse
from shared.model.audit import NodeHealth, VerdictTurn
from shared.model.cluster import ClusterRecord, ObservedNode, OperationRef, ProvisioningState
from shared.model.cluster_spec import ClusterSpec, node_private_address
from shared.model.document import STORED, ApiModel
from shared.model.event import RecordedEvent
from shared.model.node_state import NodeState, ProbeResult
from shared.model.operation import ErrorDetail, Operation, OperationKind, OperationStatus, Step
from shared.model.principal import AccessRole, ApiToken

RETRY_AFTER_S = 2


class VirtualIp(ApiModel):
    address: str | None = None
    fqdn: str | None = None


class NodeView(ApiModel):
    """`role`, `phase`, `epoch` and `application` are the node's own words at `lastHeartbeatAt` (our clock)."""

    name: NodeName
    vm_name: str
    private_address: str | None = None
    public_address: str | None = None
    role: Role | None = None
    phase: Phase | None = None
    epoch: int | None = None
    application: ApplicationState | None = None
    health: NodeHealth
    health_rule: str
    sentence: str
    last_heartbeat_at: AwareDatetime | None = None


class ClusterLinks(ApiModel):
    self: str
    operation: str
    heartbeats: str
    probes: str


class ClusterView(ClusterSpec):
    id: str
    name: str
    etag: str
    provisioning_state: ProvisioningState
    created_at: AwareDatetime
    updated_at: AwareDatetime
    virtual_ip: VirtualIp
    nodes: tuple[NodeView, ...]
    links: ClusterLinks


class OperationView(ApiModel):
    """A status monitor: `status` is NotStarted, Running, Succeeded, Failed or Canceled; `step` is what is at work."""

    id: str
    kind: OperationKind
    cluster: str
    action: str | None = None
    status: OperationStatus
    percent_complete: int
    step: str | None = None
    steps: tuple[Step, ...]
    error: ErrorDetail | None = None
    requested_by: str
    reason: str = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    finished_at: AwareDatetime | None = None


class HeartbeatView(Heartbeat):
    """A recorded heartbeat; `receivedAt` is our clock, `sentUtc` the node's."""

    received_at: AwareDatetime


class TokenView(ApiModel):
    id: str
    name: str
    role: AccessRole
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime | None = None


class NewTokenView(TokenView):
    """`token` is shown in this answer and never again."""

    token: str


class ClusterList(ApiModel):
    value: tuple[ClusterView, ...]
    next_link: str | None = None


class HeartbeatList(ApiModel):
    value: tuple[HeartbeatView, ...]
    next_link: str | None = None


class ProbeList(ApiModel):
    value: tuple[ProbeResult, ...]
    next_link: str | None = None


class EventList(ApiModel):
    value: tuple[RecordedEvent, ...]
    next_link: str | None = None


class VerdictList(ApiModel):
    """Changes of verdicts of a cluster and its nodes."""

    value: tuple[VerdictTurn, ...]
    next_link: str | None = None


class TokenList(ApiModel):
    value: tuple[TokenView, ...]
    next_link: str | None = None


class ErrorView(ApiModel):
    error: ErrorDetail


class HealthView(ApiModel):
    status: str


class Links:
    """Absolute addresses of this control plane."""

    def __init__(self, public_url: str) -> None:
        self._base = f"{public_url}/api"

    def to(self, path: str, **query: str) -> str:
        return f"{self._base}/{quote(path, safe='/:')}?{urlencode({'api-version': API_VERSION, **query})}"

    def operation(self, operation_id: str) -> str:
        return self.to(f"operations/{operation_id}")


def node_view(record: ClusterRecord, node: NodeName, state: NodeState | None, now: datetime) -> NodeView:
    seen = record.resources.nodes.get(node, ObservedNode())
    beat = None if state is None else state.heartbeat
    verdict = glimpse(
        NodeFacts(
            heartbeat=beat,
            heartbeat_age_s=None if state is None else (now - state.received_at).total_seconds(),
            control_plane_heartbeat_s=record.spec.timing.control_plane_heartbeat_s,
            probe=None,
            observer_gap_s=0.0,  # this request is the observer, and it looks now
        )
    )
    return NodeView(
        name=node,
        vm_name=f"{record.name}-{node}",
        private_address=seen.private_address or node_private_address(record.spec, node),
        public_address=seen.public_address,
        role=None if beat is None else beat.role,
        phase=None if beat is None else beat.phase,
        epoch=None if beat is None else beat.epoch,
        application=None if beat is None else beat.application,
        health=verdict.health,
        health_rule=verdict.rule,
        sentence=verdict.sentence,
        last_heartbeat_at=None if state is None else state.received_at,
    )


def cluster_view(
    record: ClusterRecord, states: Mapping[NodeName, NodeState], links: Links, now: datetime
) -> ClusterView:
    path = f"clusters/{record.name}"
    values: dict[str, Any] = {name: getattr(record.spec, name) for name in ClusterSpec.model_fields}
    values |= {
        "id": record.id,
        "name": record.name,
        "etag": record.etag,
        "provisioning_state": record.state,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "virtual_ip": VirtualIp(
            address=record.resources.virtual_ip_address or None, fqdn=record.resources.virtual_ip_fqdn or None
        ),
        "nodes": tuple(node_view(record, node, states.get(node), now) for node in record.nodes),
        "links": ClusterLinks(
            self=links.to(path),
            operation=links.operation(record.operation.id),
            heartbeats=links.to(f"{path}/heartbeats", node="a"),
            probes=links.to(f"{path}/probes", node="a"),
        ),
    }
    return ClusterView.model_validate(values, context=STORED)


def operation_view(operation: Operation) -> OperationView:
    at_work = next((step.name for step in operation.steps if step.status is OperationStatus.RUNNING), None)
    return OperationView(
        id=operation.id,
        kind=operation.kind,
        cluster=operation.cluster,
        action=operation.action,
        status=operation.status,
        percent_complete=operation.percent_complete,
        step=at_work,
        steps=operation.steps,
        error=operation.error,
        requested_by=operation.requested_by,
        reason=operation.reason,
        created_at=operation.created_at,
        updated_at=operation.updated_at,
        finished_at=operation.finished_at,
    )


def token_view(token: ApiToken) -> TokenView:
    return TokenView(**{name: getattr(token, name) for name in TokenView.model_fields})


def operation_headers(links: Links, operation: Operation | OperationRef) -> dict[str, str]:
    """Headers of an answer that goes on in an operation."""
    return {"Operation-Location": links.operation(operation.id), "Operation-Id": operation.id}
