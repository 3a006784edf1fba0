"""Event Grid: publishing with the vendor's client, handshakes, retries, dead letters, disorder."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent
from azure.eventgrid.aio import EventGridPublisherClient

from lab.arm.service import ArmService
from lab.eventgrid.broker import Broker, Chaos, HandshakeFailed, Retry
from lab.eventgrid.model import Schema, Subscription, Topic
from lab.eventgrid.server import serve_event_grid
from lab.serve import serve_app
from tests.lab.arm.bodies import SUBSCRIPTION
from tests.lab.arm.conftest import QUICK
from tests.lab.arm.null_provider import NullProvider

KEY = "topic-key"


class Webhook:
    """A receiver as the Functions host is one; `statuses` are answered first, then 200."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.received: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.willing = True
        self.url = ""

    def app(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/hook", self._post)
        application.router.add_options("/hook", self._options)
        return application

    async def _options(self, request: web.Request) -> web.Response:
        origin = request.headers["WebHook-Request-Origin"]
        return web.Response(headers={"WebHook-Allowed-Origin": origin} if self.willing else {})

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.json()
        if request.headers["aeg-event-type"] == "SubscriptionValidation":
            code = body[0]["data"]["validationCode"]
            return web.json_response({"validationResponse": code if self.willing else "no"})
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        event = body[0] if isinstance(body, list) else body
        self.received.append((event, dict(request.headers)))
        return web.Response(status=204)


class Grid:
    def __init__(self, directory: Path) -> None:
        self.stack = AsyncExitStack()
        self.hook = Webhook()
        self.letters = directory / "dead.jsonl"
        self.waits: list[float] = []
        self.url = ""

    async def _note(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def start(self, chaos: Chaos | None = None, schema: Schema = Schema.EVENT_GRID) -> Broker:
        broker = await self.stack.enter_async_context(
            Broker(dead_letters=self.letters, retry=Retry(jitter=0), chaos=chaos, sleep=self._note)
        )
        broker.add_topic(Topic("alerts", f"/subscriptions/{SUBSCRIPTION}/topics/alerts", schema, KEY))
        runner, self.url = await serve_event_grid(broker, "127.0.0.1", 0)
        self.stack.push_async_callback(runner.cleanup)
        hook_runner, base = await serve_app(self.hook.app(), "127.0.0.1", 0)
        self.stack.push_async_callback(hook_runner.cleanup)
        self.hook.url = f"{base}/hook"
        return broker

    def client(self, key: str = KEY) -> EventGridPublisherClient:
        return EventGridPublisherClient(f"{self.url}/alerts/api/events", AzureKeyCredential(key), retry_total=0)


@pytest.fixture
async def grid(tmp_path: Path) -> AsyncIterator[Grid]:
    made = Grid(tmp_path)
    async with made.stack:
        yield made


def event(subject: str = "clusters/demo", type_: str = "Mirrorplane.AlertFired") -> EventGridEvent:
    return EventGridEvent(subject=subject, event_type=type_, data={"cluster": "demo"}, data_version="1.0")


async def test_the_vendor_s_publisher_reaches_a_webhook_in_either_schema(grid: Grid) -> None:
    broker = await grid.start()
    await broker.subscribe(Subscription("plain", "alerts", grid.hook.url))
    await broker.subscribe(Subscription("cloud", "alerts", grid.hook.url, Schema.CLOUD_EVENTS))
    async with grid.client() as client:
        await client.send([event()])
    await broker.idle()
    plain, cloud = sorted((e for e, _ in grid.hook.received), key=lambda e: "specversion" in e)
    assert (plain["eventType"], plain["subject"], plain["data"]) == (
        "Mirrorplane.AlertFired",
        "clusters/demo",
        {"cluster": "demo"},
    )
    assert plain["topic"].endswith("/topics/alerts")
    assert (cloud["type"], cloud["specversion"], cloud["id"]) == ("Mirrorplane.AlertFired", "1.0", plain["id"])
    headers = grid.hook.received[0][1]
    assert headers["aeg-event-type"] == "Notification"
    assert headers["aeg-delivery-count"] == "0"


async def test_cloud_events_keep_their_extensions(grid: Grid) -> None:
    broker = await grid.start(schema=Schema.CLOUD_EVENTS)
    await broker.subscribe(Subscription("cloud", "alerts", grid.hook.url, Schema.CLOUD_EVENTS))
    with pytest.raises(ValueError, match="cannot deliver"):
        await broker.subscribe(Subscription("plain", "alerts", grid.hook.url))
    async with grid.client() as client:
        await client.send(CloudEvent("mirrorplane", "T", data={"x": 1}, extensions={"cluster": "demo"}))
    await broker.idle()
    (found, _headers) = grid.hook.received[0]
    assert (found["source"], found["cluster"], found["data"]) == ("mirrorplane", "demo", {"x": 1})


async def test_a_wrong_key_and_a_wrong_schema_are_refused(grid: Grid) -> None:
    await grid.start()
    async with grid.client("guess") as client:
        with pytest.raises(ClientAuthenticationError):
            await client.send(event())
    async with grid.client() as client:
        with pytest.raises(HttpResponseError) as refused:
            await client.send(CloudEvent("mirrorplane", "T", data={}))
    assert refused.value.status_code == 400


@pytest.mark.parametrize("schema", list(Schema))
async def test_an_endpoint_that_does_not_shake_hands_gets_nothing(grid: Grid, schema: Schema) -> None:
    broker = await grid.start()
    grid.hook.willing = False
    with pytest.raises(HandshakeFailed):
        await broker.subscribe(Subscription("s", "alerts", grid.hook.url, schema))
    async with grid.client() as client:
        await client.send(event())
    await broker.idle()
    assert grid.hook.received == []


async def test_filters(grid: Grid) -> None:
    broker = await grid.start()
    wanted = Subscription(
        "s", "alerts", grid.hook.url, event_types=("mirrorplane.alertfired",), subject_begins_with="Clusters/"
    )
    await broker.subscribe(wanted)
    async with grid.client() as client:
        await client.send([event(), event(type_="Other"), event(subject="nodes/a")])
    await broker.idle()
    assert len(grid.hook.received) == 1


async def test_a_refusing_webhook_is_tried_again_later(grid: Grid) -> None:
    broker = await grid.start()
    await broker.subscribe(Subscription("s", "alerts", grid.hook.url))
    grid.hook.statuses = [503, 500, 404]
    async with grid.client() as client:
        await client.send(event())
    await broker.idle()
    assert grid.waits == [10, 30, 60]
    assert grid.hook.received[0][1]["aeg-delivery-count"] == "3"
    assert not grid.letters.exists()


@pytest.mark.parametrize(
    ("status", "outcome"), [(400, "BadRequest"), (401, "Unauthorized"), (413, "RequestEntityTooLarge")]
)
async def test_a_final_refusal_is_a_dead_letter_at_once(grid: Grid, status: int, outcome: str) -> None:
    broker = await grid.start()
    await broker.subscribe(Subscription("s", "alerts", grid.hook.url))
    grid.hook.statuses = [status]
    async with grid.client() as client:
        await client.send(event())
    await broker.idle()
    letter = json.loads(grid.letters.read_text())
    assert (letter["lastDeliveryOutcome"], letter["deliveryAttempts"], letter["subject"]) == (
        outcome,
        1,
        "clusters/demo",
    )
    assert grid.waits == []


async def test_nobody_is_tried_for_ever(grid: Grid) -> None:
    broker = await grid.start()
    await broker.subscribe(Subscription("s", "alerts", grid.hook.url))
    grid.hook.statuses = [503] * 100
    async with grid.client() as client:
        await client.send(event())
    await broker.idle()
    letter = json.loads(grid.letters.read_text())
    assert letter["deadLetterReason"] == "TimeToLiveExceeded"
    assert sum(grid.waits) < 24 * 3600


async def test_duplicates_and_disorder_on_demand(grid: Grid) -> None:
    broker = await grid.start(Chaos(duplicates=1.0, disorder_s=5.0, seed=3))
    await broker.subscribe(Subscription("s", "alerts", grid.hook.url))
    async with grid.client() as client:
        await client.send([event(subject=f"clusters/{i}") for i in range(4)])
    await broker.idle()
    subjects = [e["subject"] for e, _ in grid.hook.received]
    assert sorted(subjects) == sorted([f"clusters/{i}" for i in range(4)] * 2)
    assert len(grid.waits) == 8
    assert all(0 <= wait < 5 for wait in grid.waits)


async def test_changes_of_azure_resources_arrive(grid: Grid) -> None:
    broker = await grid.start()
    broker.add_topic(Topic("azure", f"/subscriptions/{SUBSCRIPTION}", Schema.EVENT_GRID))
    await broker.subscribe(Subscription("s", "azure", grid.hook.url, Schema.CLOUD_EVENTS))
    sink = broker.publish_resource_event("azure")
    service = ArmService(subscription_id=SUBSCRIPTION, provider=NullProvider(), timing=QUICK, emit=sink)
    path = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/g"
    await service.handle("PUT", path, {"api-version": "2025-04-01"}, {}, b'{"location": "westeurope"}')
    await broker.idle()
    (found, _headers) = grid.hook.received[0]
    assert found["type"] == "Microsoft.Resources.ResourceWriteSuccess"
    assert found["source"] == f"/subscriptions/{SUBSCRIPTION}"
    assert found["subject"] == f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g"
    assert found["data"]["operationName"] == "Microsoft.Resources/subscriptions/resourceGroups/write"
    assert found["data"]["status"] == "Succeeded"
    await service.close()
