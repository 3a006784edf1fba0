"""HTTPS on the node: who may read, who may act, and what everybody sees."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from cryptography import x509
from mirror_agent.contract import Phase, Role
from mirror_agent.web.actions import RequestOutcome
from mirror_agent.web.client_roles import server_context
from mirror_agent.web.console_api import ConsoleApi
from mirror_agent.web.peer_console import peer_console
from mirror_agent.web.probe import ProbeAnswer
from mirror_agent.web.revoked import RevokedSerials
from mirror_agent.web.shown_configuration import shown_configuration

from tests.agent_samples import Authority, Recorded, configuration
from tests.unit.agent_web.control import SampleControl, SampleMirror


@dataclass
class Console:
    url: str
    authority: Authority
    control: SampleControl
    log: Recorded
    revoked: RevokedSerials

    def tls(self, unit: str | None = None, name: str = "ann") -> ssl.SSLContext:
        """A client with a certificate of the cluster's CA whose subject has this unit."""
        return self.authority.client(self.authority.issue(name, unit))


@pytest_asyncio.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("demo-a")
    control = SampleControl()
    log = Recorded()
    revoked = RevokedSerials(tmp_path / "revoked.json", log)
    api = ConsoleApi(
        control,
        SampleMirror(),
        answer=lambda: ProbeAnswer(True, Role.ALONE, Phase.READY, 4, "serving"),
        events_after=lambda seq, limit: [{"seq": n, "kind": "tick"} for n in range(seq + 1, 200)][:limit],
        configuration=lambda: shown_configuration(configuration()),
        cluster="demo",
        node="a",
        peer=peer_console(configuration(), authority.client),
        tls=server_context(certificate, key, authority.path),
        log=log,
        revoked=revoked,
        host="127.0.0.1",
        port=0,
    )
    port = await api.start()
    yield Console(f"https://127.0.0.1:{port}", authority, control, log, revoked)
    await api.stop()


async def call(
    console: Console, tls: ssl.SSLContext, path: str, method: str = "GET", **more: object
) -> tuple[int, dict[str, object]]:
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.request(method, console.url + path, **more) as response:  # type: ignore[arg-type]
            body = await response.json() if response.content_type == "application/json" else {}
            return response.status, body


async def test_the_test_page_needs_no_certificate_and_runs_no_script(console: Console) -> None:
    connector = aiohttp.TCPConnector(ssl=console.authority.client())
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(f"{console.url}/mosaic?mode=mosaic&arg0=mirror") as response:
            page = await response.text()
            assert response.status == 200
            assert response.headers["Connection"] == "close"
            policy = response.headers["Content-Security-Policy"]
        async with session.get(f"{console.url}/mosaic.css") as response:
            assert response.content_type == "text/css"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for expected in ("demo", ">a<", "ALONE", ">4<"):
        assert expected in page
    assert "<script" not in page
    assert "style=" not in page


async def test_without_a_certificate_nothing_is_told(console: Console) -> None:
    for method, path in (("GET", "/api/v1/status"), ("GET", "/api/v1/events"), ("POST", "/api/v1/actions/swap")):
        status, body = await call(console, console.authority.client(), path, method, json=None)
        assert status == 401, path
        assert "VERYSECRET" not in str(body)
    assert console.control.requests == []


@pytest.mark.parametrize("unit", [None, "monitor", "Nodes", ""])
async def test_a_certificate_without_a_known_role_may_do_nothing(console: Console, unit: str | None) -> None:
    tls = console.tls(unit or None)
    assert (await call(console, tls, "/api/v1/status"))[0] == 403
    assert (await call(console, tls, "/api/v1/actions/swap", "POST", json={}))[0] == 403
    assert "console.refused" in console.log.kinds()


async def test_monitor_reads_and_does_not_act(console: Console) -> None:
    tls = console.tls("Monitor")
    status, body = await call(console, tls, "/api/v1/status")
    assert (status, body["role"]) == (200, "ALONE")
    assert "VERYSECRET" not in str(body)
    status, body = await call(console, tls, "/api/v1/events?after=190&limit=3")
    assert (status, body["next"]) == (200, 193)
    assert (await call(console, tls, "/api/v1/actions/swap", "POST", json={}))[0] == 403
    assert console.control.requests == []


@pytest.mark.parametrize("unit", ["Control", "Admin"])
async def test_control_and_admin_act_and_are_written_down(console: Console, unit: str) -> None:
    tls = console.tls(unit)
    assert (await call(console, tls, "/api/v1/status"))[0] == 200
    status, body = await call(console, tls, "/api/v1/actions/swap", "POST", json={"reason": "patch day"})
    assert (status, body) == (202, {"status": "accepted", "message": "swapping"})
    assert console.control.requests == [("swap", f"ann ({unit})", "patch day")]


async def test_a_forced_start_needs_admin(console: Console) -> None:
    body = {"reason": "b burnt", "confirm": "demo"}
    path = "/api/v1/actions/force"
    status, answer = await call(console, console.tls("Control"), path, "POST", json=body)
    assert (status, "Admin" in str(answer)) == (403, True)
    assert "console.refused" in console.log.kinds()
    assert console.control.requests == []
    assert (await call(console, console.tls("Admin"), path, "POST", json=body))[0] == 202
    assert console.control.requests == [("force", "ann (Admin)", "b burnt")]
    assert console.control.confirmations == ["demo"]


async def test_prometheus_scrapes_with_monitor(console: Console) -> None:
    assert (await call(console, console.authority.client(), "/metrics"))[0] == 401
    assert (await call(console, console.tls("Nodes"), "/metrics"))[0] == 403
    connector = aiohttp.TCPConnector(ssl=console.tls("Monitor"))
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(f"{console.url}/metrics") as response:
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert "mirrorplane_node_epoch 4\n" in await response.text()
    status, body = await call(console, console.tls("Monitor"), "/api/v1/mirror")
    assert (status, body["link"]) == (200, "live")


async def test_monitor_reads_the_drill(console: Console) -> None:
    status, body = await call(console, console.tls("Monitor"), "/api/v1/drill")
    assert (status, body["role"]) == (200, "ALONE")
    assert (await call(console, console.authority.client(), "/api/v1/drill"))[0] == 401


@pytest.mark.parametrize(("outcome", "expected"), [("succeeded", 200), ("refused", 409), ("failed", 500)])
async def test_the_outcome_is_the_status(console: Console, outcome: str, expected: int) -> None:
    console.control.outcome = RequestOutcome(outcome, "so it is")  # type: ignore[arg-type]
    status, body = await call(console, console.tls("Control"), "/api/v1/actions/stop", "POST", json={})
    assert (status, body["message"]) == (expected, "so it is")


async def test_a_certificate_of_another_authority_ends_the_connection(console: Console, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger", "another CA")
    tls = console.authority.client(stranger.issue("eve", "Admin"))
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await call(console, tls, "/api/v1/status")
    assert console.control.requests == []


async def test_a_foreign_page_cannot_act_with_the_browsers_certificate(console: Console) -> None:
    tls = console.tls("Control")
    path = "/api/v1/actions/stop"
    # What a form of a foreign page can send without being asked: simple content types, its own Origin.
    assert (await call(console, tls, path, "POST", data="reason=x"))[0] == 415
    foreign = {"Origin": "https://evil.example"}
    assert (await call(console, tls, path, "POST", json={}, headers=foreign))[0] == 403
    assert (await call(console, tls, path, "POST", json={}, headers={"Origin": "null"}))[0] == 403
    assert console.control.requests == []
    assert (await call(console, tls, path, "POST", json={}, headers={"Origin": console.url}))[0] == 202


async def test_bad_requests_are_answered_in_one_shape(console: Console) -> None:
    tls = console.tls("Control")
    status, body = await call(console, tls, "/api/v1/actions/swpa", "POST", json={})
    assert (status, "did you mean 'swap'" in str(body)) == (404, True)
    status, body = await call(console, tls, "/api/v1/actions/swap", "POST", json={"raeson": "x"})
    assert (status, "raeson" in str(body)) == (400, True)
    assert (await call(console, tls, "/api/v1/events?after=-1"))[0] == 400
    assert (await call(console, tls, "/api/v1/nothing"))[0] == 404
    assert (await call(console, tls, "/api/v1/status", "DELETE"))[0] == 405
    big = {"reason": "x" * 20000}
    assert (await call(console, tls, "/api/v1/actions/swap", "POST", json=big))[0] == 413
    assert console.control.requests == []


async def test_an_inner_failure_is_recorded_and_not_told(console: Console) -> None:
    console.control.broken = True
    status, body = await call(console, console.tls("Monitor"), "/api/v1/status")
    assert status == 500
    assert "VERYSECRET" not in str(body)
    assert "console.failed" in console.log.kinds()


async def test_a_revoked_certificate_is_refused_on_a_connection_that_is_open(console: Console, tmp_path: Path) -> None:
    certificate, key = console.authority.issue("ann", "Admin")
    serial = f"{x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number:X}"
    connector = aiohttp.TCPConnector(ssl=console.authority.client((certificate, key)))
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(f"{console.url}/api/v1/status") as response:
            assert response.status == 200
        console.revoked.take((serial,))
        async with session.get(f"{console.url}/api/v1/status") as response:
            assert (response.status, (await response.json())["error"]["code"]) == (403, "CertificateRevoked")
    assert (await call(console, console.tls("Admin"), "/api/v1/status"))[0] == 200
    assert serial in RevokedSerials(tmp_path / "revoked.json", console.log), "it survives a restart"
    console.revoked.take(None)
    assert serial in console.revoked, "a control plane that does not know of revocation changes nothing"
    console.revoked.take(())
    assert serial not in console.revoked


def test_a_damaged_list_of_revoked_certificates_is_said_and_refuses_nobody(tmp_path: Path) -> None:
    (tmp_path / "revoked.json").write_text("{torn")
    log = Recorded()
    assert "AB" not in RevokedSerials(tmp_path / "revoked.json", log)
    assert "console.revoked-list-unreadable" in str(log)


async def test_the_console_is_open_and_what_it_shows_is_not(console: Console) -> None:
    connector = aiohttp.TCPConnector(ssl=console.authority.client())
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(f"{console.url}/") as response:
            assert (response.status, response.content_type) == (200, "text/html")
            etag = response.headers["ETag"]
            assert "script-src 'self'" in response.headers["Content-Security-Policy"]
        async with session.get(f"{console.url}/", headers={"If-None-Match": etag}) as response:
            assert response.status == 304
        async with session.get(f"{console.url}/console/node.js") as response:
            assert (response.status, response.content_type) == (200, "text/javascript")
        for path in ("/console/none.js", "/console/..%2fstatic.py", "/console/__init__.py"):
            async with session.get(console.url + path) as response:
                assert response.status == 404, path
    assert (await call(console, console.authority.client(), "/api/v1/me"))[0] == 401
    status, body = await call(console, console.tls("Control"), "/api/v1/me")
    assert (status, body) == (200, {"name": "ann", "role": "Control", "cluster": "demo", "node": "a", "peer": "b"})
