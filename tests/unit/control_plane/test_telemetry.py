"""One span per request and audit, without secrets: to a memory, and by the real exporter to a server of this test."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from shared.store.ports import Unavailable
from shared.telemetry import open_telemetry_sink, recorded_by
from tests.control_plane_app import BOOTSTRAP, App

ROOT = Path(__file__).parents[3]


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with recorded_by(open_telemetry_sink(provider)):
        yield exporter


async def test_one_span_per_request_named_by_its_route(app: App, spans: InMemorySpanExporter) -> None:
    await app.provisioned("secret-project")
    spans.clear()
    reply = await app.send("GET", "clusters/secret-project")
    [span] = spans.get_finished_spans()
    told = dict(span.attributes or {})
    assert (span.name, span.kind) == ("GET clusters/{name}", SpanKind.SERVER)
    assert told["http.response.status_code"] == 200
    assert told["mirrorplane.request"] == reply.headers["x-ms-request-id"]
    assert told["mirrorplane.caller"] == "bootstrap:bootstrap"
    assert span.status.is_ok or span.status.is_unset
    assert (span.end_time or 0) > (span.start_time or 0)


async def test_it_continues_the_callers_trace(app: App, spans: InMemorySpanExporter) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await app.send("GET", "clusters", headers={"traceparent": parent})
    await app.send("GET", "clusters", headers={"traceparent": "nonsense"})
    first, second = spans.get_finished_spans()
    assert first.context is not None
    assert first.parent is not None
    assert (f"{first.context.trace_id:032x}", f"{first.parent.span_id:016x}") == tuple(parent.split("-")[1:3])
    assert second.parent is None


async def test_refusals_and_failures_are_told_apart(app: App, spans: InMemorySpanExporter) -> None:
    await app.send("GET", "clusters/none")
    app.rows.fail("get", "clusters", Unavailable("away"))
    await app.send("GET", "clusters/none")
    first, second = spans.get_finished_spans()
    assert (first.attributes or {})["mirrorplane.code"] == "ClusterNotFound"
    assert first.status.is_ok or first.status.is_unset, "the caller's mistake is no failure of ours"
    assert (second.attributes or {})["http.response.status_code"] == 503
    assert not second.status.is_ok


async def test_heartbeats_leave_a_span_only_when_refused(app: App, spans: InMemorySpanExporter) -> None:
    await app.provisioned()
    credential = await app.enrolled("a")
    spans.clear()
    await app.beat(credential)
    assert not spans.get_finished_spans()
    await app.beat("mpn_wrong")
    assert [span.name for span in spans.get_finished_spans()] == ["POST nodes/heartbeat"]


async def test_one_span_per_audit(app: App, spans: InMemorySpanExporter) -> None:
    await app.provisioned()
    spans.clear()
    await app.fire("health_audit", None)
    app.rows.fail("scan_range", "audit", Unavailable("away"))
    app.clock.advance(60)
    app.rows.fail("get", "audit", Unavailable("away"))
    with pytest.raises(Unavailable):
        await app.fire("health_audit", None)
    first, second = spans.get_finished_spans()
    assert (first.name, second.name) == ("health_audit", "health_audit")
    assert (first.attributes or {})["mirrorplane.count"] == 1
    assert (first.status.is_ok or first.status.is_unset, second.status.is_ok) == (True, False)


async def test_no_secret_gets_into_a_span(app: App, spans: InMemorySpanExporter) -> None:
    await app.provisioned()
    credential = await app.enrolled("a")
    link = (await app.send("POST", "clusters/pay/credentials", {"name": "ann", "role": "Admin"})).body["url"]
    token = (await app.send("POST", "tokens", {"name": "ci", "role": "Monitor"})).body["token"]
    await app.send("GET", "clusters?search=hidden-in-a-query", token=token)
    await app.send("POST", "credential-downloads", token=link.rpartition("/")[2], version=None)
    await app.beat(f"{credential}x")
    written = "".join(span.to_json() for span in spans.get_finished_spans())
    assert len(spans.get_finished_spans()) >= 6
    for secret in (
        BOOTSTRAP,
        credential,
        token,
        link.rpartition("/")[2],
        "hidden-in-a-query",
        "ann",
        "mp_",
        "mpn_",
        "mpc_",
    ):
        assert secret not in written, secret


class Ingestion(http.server.BaseHTTPRequestHandler):
    """What Application Insights answers; keeps the envelopes."""

    envelopes: list[dict[str, Any]]

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        found = json.loads(content)
        self.envelopes += found
        body = json.dumps({"itemsReceived": len(found), "itemsAccepted": len(found), "errors": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


_SENDS = """
import asyncio, sys
import azure.functions as func
import function_app
assert "azure.monitor.opentelemetry" in sys.modules
handler = {f.get_function_name(): f for f in function_app.app.get_functions()}["health"].get_user_function()
request = func.HttpRequest("GET", "https://control.example.org/api/health", headers={}, params={}, body=b"")
asyncio.run(handler(request))
from opentelemetry import trace
trace.get_tracer_provider().force_flush()
"""
_SENDS_NOT = """
import sys
import function_app
assert not [name for name in sys.modules if name.startswith("opentelemetry") or "azure.monitor.opentelemetry" in name]
"""


def _run(program: str, **environment: str) -> None:
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'agent'}"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**plain, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_microsofts_exporter_sends_the_request() -> None:
    Ingestion.envelopes = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ingestion)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        _run(
            _SENDS,
            APPLICATIONINSIGHTS_CONNECTION_STRING=(
                f"InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint={address}/;LiveEndpoint={address}/"
            ),
            APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL="true",
            OTEL_RESOURCE_ATTRIBUTES="service.name=mirrorplane",
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    requests = [
        entry["data"]["baseData"] for entry in Ingestion.envelopes if entry["data"]["baseType"] == "RequestData"
    ]
    assert [(one["name"], one["responseCode"], one["success"]) for one in requests] == [("GET health", "503", False)]
    assert requests[0]["properties"]["mirrorplane.function"] == "health"


def test_without_a_connection_string_nothing_is_even_imported() -> None:
    _run(_SENDS_NOT)


_GOES_ON = """
import function_app
from shared.telemetry import record
record("nothing", 0, failed=False)
assert function_app.app.get_functions()
"""


def test_a_connection_string_that_is_none_keeps_nobody_from_working() -> None:
    _run(_GOES_ON, APPLICATIONINSIGHTS_CONNECTION_STRING="nonsense", APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL="true")


async def test_a_sink_that_fails_does_not_fail_the_request(app: App) -> None:
    def broken(span: object) -> None:
        raise RuntimeError("no room")

    with recorded_by(broken):
        assert (await app.send("GET", "clusters")).status == 200
