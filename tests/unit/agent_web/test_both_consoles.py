"""Both nodes from either: what is passed on, in whose name, what is refused, and what each order leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from mirror_agent.net.peer import server_name
from mirror_agent.web.console_orders import ORDERS

from tests.unit.agent_web.consoles import CLUSTER_ID, Consoles, NodeParts, consoles
from tests.unit.agent_web.control import SampleControl, SampleMirror


@pytest_asyncio.fixture
async def both(tmp_path: Path) -> AsyncIterator[Consoles]:
    parts = {node: NodeParts(SampleControl(), SampleMirror(kept=[{"id": "x/1"}, {"id": "x/2"}])) for node in "ab"}
    async with consoles(tmp_path, parts) as running:
        yield running


def asked(both: Consoles, node: str) -> list[tuple[str, str, str]]:
    control = both.parts[node].control
    assert isinstance(control, SampleControl)
    return control.requests


async def test_an_order_for_the_peer_goes_there_in_the_callers_name(both: Consoles) -> None:
    body = {"reason": "disk tests"}
    status, answer = await both.call("a", both.person("Control"), "/api/v1/peer/actions/stop", "POST", json=body)
    assert (status, answer["message"]) == (202, "swapping")
    assert asked(both, "a") == []
    assert asked(both, "b") == [("stop", "ann (Control) through demo-a", "disk tests")]
    [(kind, row)] = both.parts["a"].log.events
    assert (kind, row["who"], row["action"], row["node"], row["why"], row["status"]) == (
        "console.passed-on",
        "ann (Control)",
        "stop",
        "b",
        "disk tests",
        202,
    )


async def test_the_peer_is_read_through_its_node(both: Consoles) -> None:
    for what in ("status", "drill", "mirror", "verified", "quarantine", "configuration", "events?after=0&limit=2"):
        status, _ = await both.call("b", both.person("Monitor"), f"/api/v1/peer/{what}")
        assert status == 200, what
    assert (await both.call("b", both.person("Monitor"), "/api/v1/peer/me"))[0] == 404
    assert (await both.call("b", both.person("Monitor"), "/api/v1/peer/peer/status"))[0] == 404


async def test_a_role_is_refused_before_anything_is_passed_on(both: Consoles) -> None:
    for unit, word in (("Monitor", "stop"), ("Control", "force"), (None, "stop")):
        status, _ = await both.call("a", both.person(unit), f"/api/v1/peer/actions/{word}", "POST", json={})
        assert status == 403
    assert both.parts["b"].log.events == []
    assert both.parts["a"].log.kinds() == ["console.refused"] * 3


def node_person(both: Consoles, caller: dict[str, str]) -> dict[str, str]:
    return {f"Mirrorplane-Caller{name}": value for name, value in caller.items()}


async def test_only_the_peers_certificate_may_speak_for_a_person(both: Consoles) -> None:
    claim = node_person(both, {"": "eve", "-Role": "Admin"})
    names = (x509.DNSName(server_name("a", CLUSTER_ID)),)
    of_a = both.authority.client(both.authority.issue("demo-a", names=names))
    of_b = both.authority.client(both.authority.issue("demo-b", names=(x509.DNSName(server_name("b", CLUSTER_ID)),)))
    path = "/api/v1/actions/stop"
    # A person's headers are nothing, and neither is the word of a node that is not the peer.
    assert (await both.call("b", both.person("Monitor"), path, "POST", json={}, headers=claim))[0] == 403
    assert (await both.call("b", of_b, path, "POST", json={}, headers=claim))[0] == 403
    # A node speaks for persons only, and for those with a role.
    assert (await both.call("b", of_a, path, "POST", json={}))[0] == 403
    nobody = node_person(both, {"": "eve", "-Role": "Root"})
    assert (await both.call("b", of_a, path, "POST", json={}, headers=nobody))[0] == 403
    assert asked(both, "b") == []
    assert (await both.call("b", of_a, path, "POST", json={}, headers=claim))[0] == 202
    # What was passed on once is not passed on again.
    again = await both.call("b", of_a, "/api/v1/peer/actions/stop", "POST", json={}, headers=claim)
    assert (again[0], again[1]["error"]["code"]) == (403, "PassedOnTwice")
    assert (await both.call("b", of_a, "/api/v1/peer/status", headers=claim))[0] == 403


async def test_the_peer_refuses_a_certificate_that_only_it_knows_to_be_revoked(both: Consoles) -> None:
    certificate, key = both.authority.issue("ann", "Admin")
    serial = f"{x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number:X}"
    tls = both.authority.client((certificate, key))
    both.revoked["b"].take((serial,))
    assert (await both.call("a", tls, "/api/v1/status"))[0] == 200
    assert (await both.call("a", tls, "/api/v1/peer/status"))[0] == 403
    status, body = await both.call("a", tls, "/api/v1/peer/actions/stop", "POST", json={})
    assert (status, body["error"]["code"]) == (403, "CertificateRevoked")
    assert asked(both, "b") == []


async def test_a_peer_that_is_away_is_said(both: Consoles) -> None:
    await both.running["b"].stop()
    tls = both.person()
    status, body = await both.call("a", tls, "/api/v1/peer/status")
    assert (status, body["error"]["code"]) == (502, "PeerAway")
    status, body = await both.call("a", tls, "/api/v1/peer/actions/stop", "POST", json={"reason": "r"})
    assert (status, "history" in body["error"]["message"]) == (502, True)
    assert [kind for kind, row in both.parts["a"].log.events] == ["console.passed-on"]


async def test_the_quarantine_is_listed_newest_first_and_the_configuration_without_secrets(both: Consoles) -> None:
    _, kept = await both.call("a", both.person("Monitor"), "/api/v1/quarantine")
    assert (kept["total"], [entry["id"] for entry in kept["kept"]]) == (2, ["x/2", "x/1"])
    status, shown = await both.call("a", both.person("Monitor"), "/api/v1/configuration")
    assert (status, shown["application"]["name"]) == (200, "sample")
    assert "sas" not in shown["witness"]


@pytest.mark.parametrize("word", ["mirror-verify", "mirror-repair", "mirror-verify-stop", "mirror-resync"])
async def test_orders_on_the_copies(both: Consoles, word: str) -> None:
    path = f"/api/v1/actions/{word}"
    assert (await both.call("a", both.person("Monitor"), path, "POST", json={}))[0] == 403
    assert (await both.call("a", both.person("Control"), path, "POST", json={"reason": "check"}))[0] == 202
    mirror = both.parts["a"].mirror
    assert isinstance(mirror, SampleMirror)
    assert [(asked.op, asked.who, asked.why) for asked in mirror.requests] == [(word, "ann (Control)", "check")]


async def test_restoring_from_the_quarantine_is_for_root_on_the_node(both: Consoles) -> None:
    assert (await both.call("a", both.person(), "/api/v1/actions/mirror-restore", "POST", json={}))[0] == 404


async def test_every_refused_order_leaves_one_line_with_who_and_why(both: Consoles) -> None:
    path = "/api/v1/actions/stop"
    cases: list[tuple[str | None, str, dict[str, Any], int]] = [
        ("Monitor", path, {"json": {"reason": "r"}}, 403),
        (None, path, {"json": {"reason": "r"}}, 403),
        ("Control", "/api/v1/actions/stpo", {"json": {"reason": "r"}}, 404),
        ("Control", path, {"json": {"reason": "r", "more": 1}}, 400),
        ("Control", path, {"json": {"reason": "r"}, "headers": {"Origin": "https://evil.example"}}, 403),
        ("Control", path, {"data": "x" * 20_000, "headers": {"Content-Type": "application/json"}}, 413),
        ("Control", path, {"data": "reason=r"}, 415),
    ]
    for number, (unit, address, more, expected) in enumerate(cases, start=1):
        status, _ = await both.call("a", both.person(unit), address, "POST", **more)
        assert status == expected
        assert len(both.parts["a"].log.events) == number, (unit, address)
        kind, row = both.parts["a"].log.events[-1]
        assert (kind, row["status"]) == ("console.refused", expected)
        assert str(row["who"]).startswith("ann (")
        assert row["why"] == ("r" if "json" in more else "")
    assert asked(both, "a") == []


def test_every_order_is_an_action_or_about_the_copies() -> None:
    assert len(set(ORDERS)) == len(ORDERS) == 14
