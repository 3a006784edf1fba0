"""The data planes of Azure Monitor, as far as the control plane asks them: metrics of a batch, a log of a resource.

- `POST /subscriptions/{id}/metrics:getBatch` (azure-monitor-querymetrics, API 2024-02-01): DipAvailability by
  BackendIPAddress and VipAvailability of load balancers, grain of a minute, averages.
- `POST /v1/{resource id}/query` (azure-monitor-query): ALBHealthEvent with the few operators in `_QUERY`; any other
  query is a 400 that says so: there is no Kusto here.
Both want a token of the lab's identity for their own audience. `Outages` makes a source fail on demand.
"""

from __future__ import annotations

import asyncio
import re
import ssl as tls
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from lab.identity import TokenIssuer, TokenRefused
from lab.monitor.outages import LOGS, METRICS, Outages
from lab.monitor.recorder import HealthEvent, Recorder
from lab.serve import serve_app

METRICS_AUDIENCE: Final = "https://metrics.monitor.azure.com"
NAMESPACE: Final = "microsoft.network/loadbalancers"
KNOWN: Final = {"dipavailability": "DipAvailability", "vipavailability": "VipAvailability"}
DIMENSION: Final = "BackendIPAddress"
MAX_BODY_BYTES: Final = 64 * 1024
MAX_RESOURCES: Final = 50  # of one batch, as documented
_QUERY: Final = re.compile(
    r"^ALBHealthEvent\s*\|\s*where TimeGenerated > ago\((?P<minutes>\d{1,4})m\)"
    r"\s*\|\s*project (?P<columns>\w+(?:,\s*\w+)*)\s*\|\s*top (?P<count>\d{1,3}) by TimeGenerated desc$"
)
_COLUMNS: Final[Mapping[str, tuple[str, Callable[[HealthEvent], str]]]] = {
    "TimeGenerated": ("datetime", lambda event: _iso(event.at)),
    "HealthEventType": ("string", lambda event: event.type),
    "Severity": ("string", lambda event: event.severity),
    "Description": ("string", lambda event: event.description),
}


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class MonitorServer:
    def __init__(self, recorder: Recorder, issuer: TokenIssuer, outages: Outages) -> None:
        self._recorder = recorder
        self._issuer = issuer
        self._outages = outages
        self._base = ""

    def app(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_post("/subscriptions/{subscription}/metrics:getBatch", self._answered(self._metrics))
        application.router.add_post("/v1/{resource:.+}/query", self._answered(self._log))
        return application

    def listen_on(self, base_url: str) -> None:
        """The audience of the log's tokens is the address itself."""
        self._base = base_url

    def _answered(
        self, handler: Callable[[web.Request], Awaitable[Any]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            try:
                return web.json_response(await handler(request))
            except Refused as refused:
                error = {"error": {"code": refused.code, "message": refused.message}}
                return web.json_response(error, status=refused.status)

        return answer

    def _check(self, request: web.Request, audience: str) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Refused(401, "AuthenticationFailed", "The 'Authorization' header is missing.")
        try:
            self._issuer.check(token.strip(), frozenset({audience}))
        except TokenRefused as refused:
            raise Refused(401, refused.code, refused.message) from None

    async def _strike(self, source: str) -> None:
        outage = self._outages.of(source)
        if outage is not None:
            await asyncio.sleep(outage.hang_s)
            raise Refused(outage.status, "ServiceUnavailable", f"{source} is away, as the lab was told")

    # --- metrics -----------------------------------------------------------------------------------------------------
    async def _metrics(self, request: web.Request) -> dict[str, Any]:
        self._check(request, METRICS_AUDIENCE)
        await self._strike(METRICS)
        query = {name.lower(): value for name, value in request.query.items()}
        if query.get("metricnamespace", "").lower() != NAMESPACE:
            raise Refused(400, "BadRequest", f"the lab has metrics of {NAMESPACE} only")
        if query.get("interval", "PT1M") != "PT1M" or query.get("aggregation", "average").lower() != "average":
            raise Refused(400, "BadRequest", "the lab has averages with a grain of PT1M only")
        names = query.get("metricnames", "").split(",")
        if unknown := [name for name in names if name.lower() not in KNOWN]:
            raise Refused(400, "BadRequest", f"no metric {unknown[0]!r}; there are {', '.join(KNOWN.values())}")
        by_backend = query.get("filter", "").replace(" ", "").lower() == f"{DIMENSION}eq'*'".lower()
        if query.get("filter") and not by_backend:
            raise Refused(400, "BadRequest", f"the lab's only filter is {DIMENSION} eq '*'")
        resources = (await request.json()).get("resourceids")
        if not isinstance(resources, list) or not 1 <= len(resources) <= MAX_RESOURCES:
            raise Refused(400, "BadRequest", f"resourceids: 1 to {MAX_RESOURCES} of one region")
        start, end = _moment(query, "starttime"), _moment(query, "endtime")
        return {"values": [self._of(resource, names, by_backend, start, end) for resource in resources]}

    def _of(self, resource: str, names: list[str], by_backend: bool, start: datetime, end: datetime) -> dict[str, Any]:
        if not self._recorder.knows(resource):
            raise Refused(404, "ResourceNotFound", f"The resource {resource} was not found.")
        return {
            "starttime": _iso(start),
            "endtime": _iso(end),
            "interval": "PT1M",
            "namespace": "Microsoft.Network/loadBalancers",
            "resourceregion": "lab",
            "resourceid": resource,
            "value": [
                {
                    "id": f"{resource}/providers/Microsoft.Insights/metrics/{KNOWN[name.lower()]}",
                    "type": "Microsoft.Insights/metrics",
                    "name": {"value": KNOWN[name.lower()], "localizedValue": KNOWN[name.lower()]},
                    "displayDescription": "",
                    "unit": "Count",
                    "timeseries": self._series(resource, name.lower(), by_backend, start, end),
                    "errorCode": "Success",
                }
                for name in names
            ],
        }

    def _series(
        self, resource: str, name: str, by_backend: bool, start: datetime, end: datetime
    ) -> list[dict[str, Any]]:
        if name == "vipavailability":
            return [_series(self._recorder.frontend(resource, start, end), {})]
        backends = self._recorder.backends(resource, start, end)
        if by_backend:
            return [_series(minutes, {DIMENSION: address}) for address, minutes in sorted(backends.items())]
        moments = sorted({moment for minutes in backends.values() for moment in minutes})
        every = {at: [minutes[at] for minutes in backends.values() if at in minutes] for at in moments}
        return [_series({at: sum(shares) / len(shares) for at, shares in every.items()}, {})]

    # --- logs --------------------------------------------------------------------------------------------------------
    async def _log(self, request: web.Request) -> dict[str, Any]:
        self._check(request, self._base)
        await self._strike(LOGS)
        found = _QUERY.match(str((await request.json()).get("query", "")).strip())
        if found is None:
            raise Refused(400, "BadArgumentError", f"the lab reads queries of this shape only: {_QUERY.pattern}")
        columns = [name.strip() for name in found["columns"].split(",")]
        if unknown := [name for name in columns if name not in _COLUMNS]:
            raise Refused(400, "BadArgumentError", f"no column {unknown[0]!r}; there are {', '.join(_COLUMNS)}")
        since = datetime.now(UTC) - timedelta(minutes=int(found["minutes"]))
        events = self._recorder.events("/" + request.match_info["resource"].lstrip("/"), since)[: int(found["count"])]
        return {
            "tables": [
                {
                    "name": "PrimaryResult",
                    "columns": [{"name": name, "type": _COLUMNS[name][0]} for name in columns],
                    "rows": [[_COLUMNS[name][1](event) for name in columns] for event in events],
                }
            ]
        }


def _series(minutes: Mapping[datetime, float], dimensions: Mapping[str, str]) -> dict[str, Any]:
    return {
        "metadatavalues": [{"name": {"value": name.lower()}, "value": value} for name, value in dimensions.items()],
        "data": [{"timeStamp": _iso(at), "average": round(share, 2)} for at, share in sorted(minutes.items())],
    }


def _moment(query: Mapping[str, str], name: str) -> datetime:
    try:
        found = datetime.fromisoformat(query[name])
    except (KeyError, ValueError):
        raise Refused(400, "BadRequest", f"{name} must be a time such as 2026-11-22T12:00:00Z") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


async def serve_monitor(
    server: MonitorServer, host: str, port: int, ssl: tls.SSLContext | None
) -> tuple[web.AppRunner, str]:
    """(runner, base URL): the metrics endpoint; the logs are at `{base}/v1`."""
    runner, base = await serve_app(server.app(), host, port, ssl)
    server.listen_on(base)
    return runner, base
