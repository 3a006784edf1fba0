"""Notices over a custom topic with the vendor's publisher, back through Event Grid's delivery, duplicates and all."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from lab.eventgrid.broker import Broker, Chaos, Retry
from lab.eventgrid.model import Schema, Subscription, Topic
from lab.eventgrid.server import serve_event_grid
from lab.serve import serve_app
from shared.alerts.courier import Courier, Failed, Line, Refused, Sent
from shared.alerts.delivery import deliver_due
from shared.alerts.message import NOTICE_TYPE, cloud_event
from shared.alerts.tick import advance_alerts
from shared.api.events import record_event
from shared.azure.eventgrid import TopicChannel
from tests.control_plane_app import running_app
from tests.golden.alerts.scenario import verdict_of
from tests.unit.alerts.test_channels import notice

KEY = "topic-key"
TOPIC_ID = "/subscriptions/S/resourceGroups/control/providers/Microsoft.EventGrid/topics/alerts"


class Function:
    """The Functions host's Event Grid endpoint, as far as a delivery goes: it keeps what it gets."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []

    def app(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/hook", self._post)
        application.router.add_options("/hook", self._options)
        return application

    async def _options(self, request: web.Request) -> web.Response:
        return web.Response(headers={"WebHook-Allowed-Origin": request.headers["WebHook-Request-Origin"]})

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.received += body if isinstance(body, list) else [body]
        return web.Response(status=204)


@pytest.mark.lab
async def test_a_notice_goes_out_over_the_topic_and_comes_back_as_one_event(tmp_path: Path) -> None:
    function = Function()
    async with AsyncExitStack() as stack:
        everything_twice = Chaos(duplicates=1.0, seed=1)
        retry = Retry(jitter=0, scale=0)
        broker = await stack.enter_async_context(
            Broker(dead_letters=tmp_path / "dead.jsonl", retry=retry, chaos=everything_twice)
        )
        broker.add_topic(Topic("alerts", TOPIC_ID, Schema.CLOUD_EVENTS, KEY))
        runner, base = await serve_event_grid(broker, "127.0.0.1", 0)
        stack.push_async_callback(runner.cleanup)
        hook, hook_base = await serve_app(function.app(), "127.0.0.1", 0)
        stack.push_async_callback(hook.cleanup)
        await broker.subscribe(Subscription("own", "alerts", f"{hook_base}/hook", Schema.CLOUD_EVENTS))
        endpoint = f"{base}/alerts/api/events"
        with running_app() as app:
            plane = replace(app.plane, courier=Courier({"event-grid": Line(TopicChannel(endpoint, KEY))}))
            await app.provisioned()
            for _ in range(2):
                await advance_alerts(plane, [verdict_of("pay", {"state": "down"}, app.clock())], app.clock())
                app.clock.advance(30)
            counts = await deliver_due(plane)
            assert counts["sent"] == 2, "the cluster's notice and the watchdog's"
            await broker.idle()
            assert len(function.received) == 4, "Event Grid delivered each twice"
            for event in function.received:
                await record_event(plane, json.dumps(event))
            notices = [e for e in (await app.send("GET", "events")).body["value"] if e["type"] == NOTICE_TYPE]
            assert len(notices) == 2
            assert not any(event["malformed"] for event in notices)
            [mine] = [event for event in notices if event["subject"] == "clusters/pay"]
            assert mine["data"]["alerts"][0]["rule"] == "cluster-down"
        sent = notice()
        assert await TopicChannel(endpoint, KEY).send(sent) == Sent()
        await broker.idle()
        found = [event for event in function.received if event["id"] == sent.id]
        assert found[0]["data"] == cloud_event(sent)["data"]
        assert isinstance(await TopicChannel(endpoint, "guess").send(sent), Refused)
        assert isinstance(await TopicChannel(f"{base}/none/api/events", KEY).send(sent), Refused)
    assert isinstance(await TopicChannel("http://127.0.0.1:1/x/api/events", KEY).send(notice()), Failed)
