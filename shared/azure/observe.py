"""Azure's own view of a cluster, as facts: instance view, resource health, load-balancer metrics, load-balancer log.

Each source has its deadline and is asked beside the others; one that fails, or is not there (no log workspace, a cloud
without the metrics data plane), is a `CollectorFailed` fact with the reason. Sources and shapes:
- instance view: `virtual_machines.instance_view` (power state, VM agent);
- resource health: `Microsoft.ResourceHealth/availabilityStatuses/current` of the VM, API 2023-10-01-preview;
- metrics: `azure-monitor-querymetrics`, namespace Microsoft.Network/loadBalancers, DipAvailability by BackendIPAddress
  and VipAvailability, average of the last five minutes (grain of one minute, ingested a minute or two late);
- log: `azure-monitor-query`, ALBHealthEvent of the load balancer, last ten minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from mirror_agent.contract import NodeName

from shared.azure.faults import ArmError, Fault, FaultKind
from shared.azure.ports import Machines
from shared.azure.resources import ResourceRef, ResourceType
from shared.azure.session import AzureSession
from shared.azure.settings import PUBLIC_CLOUD
from shared.health.facts import Availability, CollectorFailed, Fact, FactKind, Notice, Power, ResourceHealthSeen, Trust
from shared.model.cluster import ClusterRecord

DEADLINE_S: Final = 10.0
METRICS_WINDOW: Final = timedelta(minutes=5)
LOG_WINDOW: Final = timedelta(minutes=10)
METRICS_SETTING: Final = "MIRRORPLANE_METRICS_ENDPOINT"
LOGS_SETTING: Final = "MIRRORPLANE_LOGS_ENDPOINT"
HEALTH_API: Final = "2023-10-01-preview"
_NAMESPACE: Final = "Microsoft.Network/loadBalancers"
_LOG: Final = (
    "ALBHealthEvent | where TimeGenerated > ago(10m)"
    " | project TimeGenerated, HealthEventType, Severity | top 5 by TimeGenerated desc"
)


@dataclass(frozen=True, slots=True)
class MonitorEndpoints:
    """`metrics`: the regional data plane, with `{location}` where the region belongs. An empty one is not there, which
    is a fact like any other."""

    metrics: str = ""
    logs: str = ""


PUBLIC_CLOUD_MONITOR: Final = MonitorEndpoints(
    "https://{location}.metrics.monitor.azure.com", "https://api.loganalytics.io/v1"
)


def monitor_endpoints(arm_endpoint: str, environment: Mapping[str, str]) -> MonitorEndpoints:
    """Settings first; the public cloud's addresses only for the public cloud's ARM."""
    default = PUBLIC_CLOUD_MONITOR if arm_endpoint == PUBLIC_CLOUD else MonitorEndpoints()
    return MonitorEndpoints(
        environment.get(METRICS_SETTING, "") or default.metrics, environment.get(LOGS_SETTING, "") or default.logs
    )


class AzurePlatform:
    """See `shared.audit.platform.Platform`."""

    def __init__(self, session: AzureSession, machines: Machines, endpoints: MonitorEndpoints) -> None:
        self._session = session
        self._machines = machines
        self._endpoints = endpoints

    async def look(self, record: ClusterRecord, now: datetime) -> list[Fact]:
        asked: list[tuple[str, NodeName | None, Callable[[], Awaitable[list[Fact]]]]] = [
            ("balancer-metrics", None, lambda: self._metrics(record, now)),
            ("balancer-log", None, lambda: self._log(record, now)),
        ]
        for node in record.nodes:
            asked.append(("instance-view", node, lambda node=node: self._power(record, node, now)))  # type: ignore[misc]
            asked.append(("resource-health", node, lambda node=node: self._health(record, node, now)))  # type: ignore[misc]
        found = await asyncio.gather(*(_bounded(source, node, ask, now) for source, node, ask in asked))
        return [fact for facts in found for fact in facts]

    async def _power(self, record: ClusterRecord, node: NodeName, now: datetime) -> list[Fact]:
        view = await self._machines.instance_view(self._vm(record, node))
        if view is None:
            value = Power("absent")
        else:
            value = Power(view.power or "unknown", view.agent_ready, "" if view.fault is None else view.fault.message)
        if value.state == "unknown":
            raise ArmError(Fault(FaultKind.TRANSIENT, "NoPowerState", "the instance view names no power state"))
        return [Fact(FactKind.POWER, node, "instance-view", now, Trust.PLATFORM, value)]

    async def _health(self, record: ClusterRecord, node: NodeName, now: datetime) -> list[Fact]:
        vm = self._vm(record, node).id(self._session.settings.subscription_id)
        url = f"{self._session.settings.endpoint}{vm}/providers/Microsoft.ResourceHealth/availabilityStatuses/current"

        def read() -> tuple[int, Any]:
            from azure.core.rest import HttpRequest

            request = HttpRequest("GET", url, params={"api-version": HEALTH_API})
            answer = self._session.resource.send_request(request)
            return answer.status_code, answer.json() if answer.content else None

        status, body = await self._session.call(read)
        if status != 200 or not isinstance(body, Mapping):
            raise ArmError(Fault(FaultKind.TRANSIENT, f"Http{status}", f"resource health answered {status}", status))
        return [Fact(FactKind.RESOURCE_HEALTH, node, "resource-health", now, Trust.PLATFORM, resource_health(body))]

    async def _metrics(self, record: ClusterRecord, now: datetime) -> list[Fact]:
        endpoint = self._endpoints.metrics.replace("{location}", record.spec.location)
        balancer = self._balancer(record)
        if not endpoint:
            raise ArmError(Fault(FaultKind.REFUSED, "NotConfigured", f"no metrics endpoint; set {METRICS_SETTING}"))

        def read() -> Any:
            from azure.monitor.querymetrics import MetricAggregationType, MetricsClient

            with MetricsClient(endpoint, self._session.credential, retry_total=0) as client:
                # One query each: VipAvailability has no dimension of backends.
                return [
                    result
                    for name, dimension in (("DipAvailability", "BackendIPAddress eq '*'"), ("VipAvailability", None))
                    for result in client.query_resources(
                        resource_ids=[balancer],
                        metric_namespace=_NAMESPACE,
                        metric_names=[name],
                        timespan=METRICS_WINDOW,
                        granularity=timedelta(minutes=1),
                        aggregations=[MetricAggregationType.AVERAGE],
                        filter=dimension,
                    )
                ]

        answer = await self._session.call(read)
        addresses = {seen.private_address: node for node, seen in record.resources.nodes.items()}
        return availabilities(answer, addresses, now)

    async def _log(self, record: ClusterRecord, now: datetime) -> list[Fact]:
        balancer = self._balancer(record)
        if not self._endpoints.logs:
            raise ArmError(Fault(FaultKind.REFUSED, "NotConfigured", f"no log endpoint; set {LOGS_SETTING}"))

        def read() -> Any:
            from azure.monitor.query import LogsQueryClient

            with LogsQueryClient(self._session.credential, endpoint=self._endpoints.logs, retry_total=0) as client:
                return client.query_resource(balancer, _LOG, timespan=LOG_WINDOW)

        answer = await self._session.call(read)
        tables = getattr(answer, "tables", None) or getattr(answer, "partial_data", None) or []
        rows = [row for table in tables for row in table.rows]
        return [
            Fact(
                FactKind.NOTICE,
                None,
                "balancer-log",
                now,
                Trust.PLATFORM,
                Notice("load-balancer-health", str(row[0]), f"{row[1]} ({row[2]})"),
            )
            for row in rows
        ]

    def _vm(self, record: ClusterRecord, node: NodeName) -> ResourceRef:
        return ResourceRef(ResourceType.VIRTUAL_MACHINE, record.group, f"{record.name}-{node}")

    def _balancer(self, record: ClusterRecord) -> str:
        ref = ResourceRef(ResourceType.LOAD_BALANCER, record.group, f"{record.name}-lb")
        return ref.id(self._session.settings.subscription_id)


async def _bounded(
    source: str, node: NodeName | None, ask: Callable[[], Awaitable[list[Fact]]], now: datetime
) -> list[Fact]:
    """What a source says, within the deadline; its failure is a fact."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await ask()
    except TimeoutError:
        reason = f"no answer within {DEADLINE_S:g} s"
    except ArmError as error:
        reason = str(error)
    failed = CollectorFailed(source, reason)
    return [Fact(FactKind.COLLECTOR_FAILED, node, source, now, Trust.PLATFORM, failed)]


def resource_health(body: Mapping[str, Any]) -> ResourceHealthSeen:
    """`context`/`reasonType` name a customer's own act; then nothing is to be repaired."""
    properties = body.get("properties") or {}
    words = f"{properties.get('reasonType', '')} {properties.get('context', '')}".lower()
    customer = "customer" in words or "user initiated" in words or "userinitiated" in words
    summary = str(properties.get("summary") or properties.get("title") or "")
    return ResourceHealthSeen(str(properties.get("availabilityState") or "Unknown"), customer, summary[:300])


def availabilities(answer: Any, addresses: Mapping[str | None, NodeName], now: datetime) -> list[Fact]:
    """The newest average of each series. `answer`: what `MetricsClient.query_resources` returns."""
    found: list[Fact] = []
    for result in answer:
        for metric in result.metrics:
            for series in metric.timeseries:
                values = [point.average for point in series.data if point.average is not None]
                if not values:
                    continue
                dimensions = {str(key).lower(): str(value) for key, value in (series.metadata_values or {}).items()}
                node = addresses.get(dimensions.get("backendipaddress"))
                if metric.name == "VipAvailability":
                    kind, subject = FactKind.FRONTEND, None
                elif node is not None:
                    kind, subject = FactKind.BACKEND, node
                else:
                    continue
                value = Availability(float(values[-1]))
                found.append(Fact(kind, subject, "balancer-metrics", now, Trust.PLATFORM, value))
    return found
