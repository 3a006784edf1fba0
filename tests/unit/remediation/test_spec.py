"""What a caller may ask for in `remediation` and `managementPolicy`, what is refused, and what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shared.api.openapi import document
from tests.control_plane_app import App, running_app

WINDOW = {"begins": "2026-11-22T22:00:00Z", "ends": "2026-11-23T02:00:00Z", "reason": "patches"}


@pytest.fixture
def app() -> Iterator[App]:
    with running_app() as running:
        yield running


async def test_the_guards_are_on_when_nothing_is_said(app: App) -> None:
    reply = await app.put()
    assert reply.status == 201
    assert reply.body["managementPolicy"] == "full"
    assert reply.body["remediation"]["mode"] == "on"
    assert reply.body["remediation"]["limits"]["actionsPerDay"] == 3


async def test_what_was_asked_for_is_shown(app: App) -> None:
    wanted = {"mode": "dry-run", "maintenance": [WINDOW], "pauseReasons": ["audit week", "disk swap"]}
    assert (await app.put(remediation=wanted, managementPolicy="observe")).status == 201
    reply = await app.send("GET", "clusters/pay/remediation")
    assert reply.status == 200
    assert reply.body["managementPolicy"] == "observe"
    assert reply.body["policy"]["pauseReasons"] == ["audit week", "disk swap"]
    assert reply.body["actions"] == []


@pytest.mark.parametrize(
    ("remediation", "target"),
    [
        ({"mode": "maybe"}, "remediation.mode"),
        ({"moed": "on"}, "remediation.moed"),
        ({"maintenance": [{**WINDOW, "ends": WINDOW["begins"]}]}, "remediation.maintenance[0].ends"),
        ({"maintenance": [{**WINDOW, "begins": "2026-11-22T22:00:00"}]}, "remediation.maintenance[0].begins"),
        ({"pauseReasons": ["one", "one"]}, "remediation.pauseReasons"),
        ({"pauseReasons": [""]}, "remediation.pauseReasons[0]"),
        ({"limits": {"actionsPerDay": 0}}, "remediation.limits.actionsPerDay"),
        ({"limits": {"actionsPerDay": 11}}, "remediation.limits.actionsPerDay"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_place(app: App, remediation: dict[str, Any], target: str) -> None:
    reply = await app.put(remediation=remediation)
    assert reply.status == 400
    assert target in str(reply.body)


async def test_a_change_of_the_policy_is_an_ordinary_change(app: App) -> None:
    await app.put()
    assert (await app.send("GET", "clusters/nobody/remediation")).status == 404
    assert (await app.put(managementPolicy="nothing")).status == 400


def test_the_document_lists_it() -> None:
    described = document("https://control.example.org")
    assert "/clusters/{name}/remediation" in str(list(described["paths"]))
    schemas = described["components"]["schemas"]
    assert set(schemas["ClusterSpec"]["properties"]) >= {"remediation", "managementPolicy"}
    assert {"mode", "maintenance", "pauseReasons", "limits"} <= set(schemas["RemediationPolicy"]["properties"])
