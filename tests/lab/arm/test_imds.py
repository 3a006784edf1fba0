"""Instance metadata: headers, the instance document, scheduled events and their approval."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from lab.arm.ids import parse_resource_id
from lab.imds import MetadataService, ScheduledEvent, ScheduledEvents, find_machine
from lab.serve import serve_app
from tests.lab.arm.bodies import network_id
from tests.lab.arm.conftest import Lab
from tests.lab.arm.test_resources import build_cluster

VERSION = {"api-version": "2021-02-01"}
EVENTS = {"api-version": "2020-07-01"}
HEADER = {"Metadata": "true"}


class Guest:
    """What a VM sees; the loopback stands for its private address."""

    def __init__(self, session: aiohttp.ClientSession, vm_id: str, events: ScheduledEvents) -> None:
        self.session = session
        self.vm_id = vm_id
        self.events = events

    async def get(self, path: str, **query: str) -> Any:
        async with self.session.get(path, params=VERSION | query, headers=HEADER) as answer:
            assert answer.status == 200
            return await (answer.text() if "format" in query else answer.json())

    async def scheduled(self) -> Any:
        async with self.session.get("/metadata/scheduledevents", params=EVENTS, headers=HEADER) as answer:
            return await answer.json()

    async def approve(self, body: Any) -> int:
        async with self.session.post("/metadata/scheduledevents", params=EVENTS, headers=HEADER, json=body) as answer:
            return answer.status


@pytest.fixture
async def guest(lab: Lab) -> AsyncIterator[Guest]:
    await build_cluster(lab, "a", "b")
    events, vnet = ScheduledEvents(), network_id("virtualNetworks", "demo-vnet")
    service = MetadataService(lambda _address: find_machine(lab.service.state, vnet, "10.0.0.4"), events)
    runner, url = await serve_app(service.app(), "127.0.0.1", 0)
    async with aiohttp.ClientSession(url) as session:
        yield Guest(session, next(vm for vm in lab.provider.vms if vm.endswith("/demo-a")), events)
    await runner.cleanup()


async def test_the_instance_document(guest: Guest) -> None:
    found = await guest.get("/metadata/instance")
    compute, interface = found["compute"], found["network"]["interface"][0]
    assert (compute["name"], compute["vmSize"], compute["zone"]) == ("demo-a", "Standard_D2s_v5", "1")
    assert compute["resourceId"] == guest.vm_id
    assert parse_resource_id(guest.vm_id).group == compute["resourceGroupName"]
    assert (compute["publisher"], compute["offer"]) == ("debian", "debian-12")
    assert interface["ipv4"]["ipAddress"][0]["privateIpAddress"] == "10.0.0.4"
    assert interface["ipv4"]["subnet"] == [{"address": "10.0.0.0", "prefix": "24"}]
    assert interface["macAddress"].startswith("000D3A")
    assert "cloud-config" not in str(found)


async def test_one_value_as_text(guest: Guest) -> None:
    assert await guest.get("/metadata/instance/compute/name", format="text") == "demo-a"
    address = "/metadata/instance/network/interface/0/ipv4/ipAddress/0/privateIpAddress"
    assert await guest.get(address, format="text") == "10.0.0.4"


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, VERSION, 400),
        (HEADER, {}, 400),
        (HEADER | {"X-Forwarded-For": "10.0.0.9"}, VERSION, 400),
        (HEADER, {"api-version": "1999-01-01"}, 400),
    ],
)
async def test_requests_that_could_come_from_elsewhere_are_refused(
    guest: Guest, headers: dict[str, str], query: dict[str, str], status: int
) -> None:
    async with guest.session.get("/metadata/instance", params=query, headers=headers) as answer:
        assert answer.status == status
        assert "error" in await answer.json()


async def test_the_life_of_a_scheduled_event(guest: Guest) -> None:
    told: list[str] = []
    assert await guest.scheduled() == {"DocumentIncarnation": 1, "Events": []}
    event = ScheduledEvent("Reboot", "demo-a", "Mon, 23 Nov 2026 10:00:00 GMT", duration_s=9)
    guest.events.schedule(guest.vm_id, event, lambda approved: told.append(approved.id))
    guest.events.schedule("/another/vm", ScheduledEvent("Freeze", "other", ""))

    document = await guest.scheduled()
    assert document["DocumentIncarnation"] == 2
    (shown,) = document["Events"]
    assert (shown["EventType"], shown["EventStatus"], shown["Resources"]) == ("Reboot", "Scheduled", ["demo-a"])

    assert await guest.approve({"StartRequests": [{"EventId": event.id}]}) == 200
    assert await guest.approve({"StartRequests": [{"EventId": event.id}]}) == 200
    (shown,) = (await guest.scheduled())["Events"]
    assert (shown["EventStatus"], shown["NotBefore"]) == ("Started", "")
    assert told == [event.id]

    guest.events.finish(guest.vm_id, event.id)
    assert (await guest.scheduled())["Events"] == []


async def test_malformed_approvals_are_refused(guest: Guest) -> None:
    bodies: list[Any] = [{}, {"StartRequests": [{}]}, {"StartRequests": [{"EventId": "unknown"}]}, []]
    for body in bodies:
        assert await guest.approve(body) == 400


async def test_an_unknown_caller_is_nobody(lab: Lab) -> None:
    assert find_machine(lab.service.state, network_id("virtualNetworks", "none"), "10.0.0.4") is None
