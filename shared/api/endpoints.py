"""All endpoints of the API, as data: the functions serve them, the OpenAPI document lists them, tests walk them."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from mirror_agent.contract import EnrolRequest, EnrolResponse, HeartbeatPost, HeartbeatResponse

from shared.api import clusters, nodes, observations, proposals, remediation, tokens, upgrade
from shared.api.alert_endpoints import ALERT_ENDPOINTS
from shared.api.call import Answer, Call
from shared.api.clusters import ActionRequest
from shared.api.console_endpoints import CONSOLE_ENDPOINTS
from shared.api.endpoint import Endpoint, Guard
from shared.api.health import answer_health
from shared.api.key_endpoints import KEY_ENDPOINTS
from shared.api.plane import ControlPlane
from shared.api.proposals import EstimateView, Proposal, ValidationView
from shared.api.remediation import RemediationView
from shared.api.timeline import RANGE
from shared.api.tokens import TokenRequest
from shared.api.views import (
    ClusterList,
    ClusterView,
    EventList,
    HealthView,
    HeartbeatList,
    NewTokenView,
    OperationView,
    ProbeList,
    TokenList,
    VerdictList,
)
from shared.model.cluster_spec import ClusterSpec

_PAGING: Final = ("top", "continue")
_CONDITIONS: Final = ("If-Match", "If-None-Match", "Operation-Id")


async def answer_openapi(plane: ControlPlane, caller: object, call: Call) -> Answer:
    from shared.api.openapi import document  # the document lists these endpoints, so it imports this module

    return Answer(200, document(plane.settings.public_url))


_ALL: Final = (
    *ALERT_ENDPOINTS,
    *CONSOLE_ENDPOINTS,
    *KEY_ENDPOINTS,
    Endpoint(
        "cluster_put",
        "PUT",
        "clusters/{name}",
        Guard.ADMIN,
        clusters.put_cluster,
        "Create a cluster or change it. Goes on in an operation (header Operation-Location).",
        {201: ClusterView, 200: ClusterView},
        body=ClusterSpec,
        request_headers=_CONDITIONS,
    ),
    Endpoint(
        "cluster_get",
        "GET",
        "clusters/{name}",
        Guard.MONITOR,
        clusters.get_cluster,
        "Read a cluster and the state of its nodes.",
        {200: ClusterView},
    ),
    Endpoint(
        "cluster_list",
        "GET",
        "clusters",
        Guard.MONITOR,
        clusters.list_clusters,
        "List clusters by name.",
        {200: ClusterList},
        query=_PAGING,
    ),
    Endpoint(
        "cluster_delete",
        "DELETE",
        "clusters/{name}",
        Guard.ADMIN,
        clusters.delete_cluster,
        "Delete a cluster and every resource it owns. 204 if there is none.",
        {202: OperationView, 204: None},
        request_headers=("If-Match", "Operation-Id"),
    ),
    Endpoint(
        "cluster_action",
        "POST",
        "clusters/{nameAndAction}",
        Guard.CONTROL,
        upgrade.act,
        "Act on a cluster: swap, start, stop, restart; rotate-ca and upgrade (role Admin, bodies of their own: "
        "docs/security.md, docs/upgrade.md).",
        {202: OperationView},
        body=ActionRequest,
        body_required=False,
        request_headers=("Operation-Id",),
        documented_route="clusters/{name}:{action}",
    ),
    Endpoint(
        "cluster_estimate",
        "POST",
        "clusters:estimate",
        Guard.MONITOR,
        proposals.estimate_cluster,
        "Say what a cluster would consist of, cost a month, and need of quotas. Nothing is made.",
        {200: EstimateView},
        body=Proposal,
        dry=True,
    ),
    Endpoint(
        "cluster_validate",
        "POST",
        "clusters:validate",
        Guard.ADMIN,
        proposals.validate_cluster,
        "Dry run of a PUT: every change it would make in Azure, property by property. Nothing is made.",
        {200: ValidationView},
        body=Proposal,
        dry=True,
    ),
    Endpoint(
        "operation_get",
        "GET",
        "operations/{id}",
        Guard.MONITOR,
        clusters.get_operation,
        "Read an operation: status, steps, per cent, error.",
        {200: OperationView},
    ),
    Endpoint(
        "cluster_heartbeats",
        "GET",
        "clusters/{name}/heartbeats",
        Guard.MONITOR,
        observations.list_heartbeats,
        "List the recorded heartbeats of a node, newest first.",
        {200: HeartbeatList},
        query=("node", *RANGE, *_PAGING),
    ),
    Endpoint(
        "cluster_probes",
        "GET",
        "clusters/{name}/probes",
        Guard.MONITOR,
        observations.list_probes,
        "List the control plane's own probes of a node, newest first.",
        {200: ProbeList},
        query=("node", *RANGE, *_PAGING),
    ),
    Endpoint(
        "remediation_get",
        "GET",
        "clusters/{name}/remediation",
        Guard.MONITOR,
        remediation.get_remediation,
        "Read what remediation knows, decided and did for a cluster, and the drift of its resources.",
        {200: RemediationView},
    ),
    Endpoint(
        "cluster_verdicts",
        "GET",
        "clusters/{name}/verdicts",
        Guard.MONITOR,
        observations.list_verdicts,
        "List the changes of the audit's verdicts on a cluster and its nodes, newest first.",
        {200: VerdictList},
        query=(*RANGE, *_PAGING),
    ),
    Endpoint(
        "cluster_events",
        "GET",
        "clusters/{name}/events",
        Guard.MONITOR,
        observations.list_cluster_events,
        "List what was recorded about a cluster, newest first: platform events, alerts, remediation, drift.",
        {200: EventList},
        query=(*RANGE, *_PAGING),
    ),
    Endpoint(
        "event_list",
        "GET",
        "events",
        Guard.MONITOR,
        observations.list_events,
        "List recorded platform events, newest arrival first.",
        {200: EventList},
        query=(*RANGE, *_PAGING),
    ),
    Endpoint(
        "token_create",
        "POST",
        "tokens",
        Guard.ADMIN,
        tokens.post_token,
        "Make an API token. Its text is in this answer only.",
        {201: NewTokenView},
        body=TokenRequest,
    ),
    Endpoint(
        "token_list",
        "GET",
        "tokens",
        Guard.ADMIN,
        tokens.list_tokens,
        "List API tokens, without their secrets.",
        {200: TokenList},
        query=_PAGING,
    ),
    Endpoint(
        "token_delete",
        "DELETE",
        "tokens/{id}",
        Guard.ADMIN,
        tokens.delete_token,
        "Remove an API token; it ends at once.",
        {204: None},
    ),
    Endpoint(
        "node_enrol",
        "POST",
        "nodes/enrol",
        Guard.ENROLMENT,
        nodes.enrol_node,
        "Exchange an enrolment token and a certificate request for the node's identity.",
        {200: EnrolResponse},
        body=EnrolRequest,
    ),
    Endpoint(
        "node_heartbeat",
        "POST",
        "nodes/heartbeat",
        Guard.NODE,
        nodes.record_heartbeats,
        "Report a node's state; the answer carries commands and a newer configuration.",
        {200: HeartbeatResponse},
        body=HeartbeatPost,
    ),
    Endpoint(
        "node_agent_wheel",
        "GET",
        "nodes/agent-wheel",
        Guard.NODE_OR_ENROLMENT,
        nodes.fetch_wheel,
        "Fetch the agent's package.",
        {200: None},
        query=("sha256",),
    ),
    Endpoint(
        "openapi_document",
        "GET",
        "openapi.json",
        Guard.MONITOR,
        answer_openapi,
        "This document.",
        {200: None},
    ),
    Endpoint(
        "health",
        "GET",
        "health",
        Guard.ANYBODY,
        answer_health,
        "Does the app run, and does it still audit?",
        {200: HealthView, 503: HealthView},
    ),
)

ENDPOINTS: Final = MappingProxyType({endpoint.name: endpoint for endpoint in _ALL})
assert len(ENDPOINTS) == len(_ALL), "two endpoints have one name"
