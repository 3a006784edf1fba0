"""Webhooks as a receiver sees them, and the app settings that name channels."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from shared.alert_channels import read_courier
from shared.alerts.backoff import Again, Done, GivenUp, judged
from shared.alerts.conditions import condition
from shared.alerts.courier import Failed, Refused, Sent
from shared.alerts.lifecycle import opened
from shared.alerts.message import cloud_event
from shared.alerts.notices import group_of, planned
from shared.alerts.webhook import Format, WebhookChannel
from shared.model.alert import Delivery, Group, Notice
from shared.settings import SettingInvalid
from tests.control_plane_samples import NOW

KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


def _clock() -> datetime:
    return NOW


def notice(rule: str = "cluster-down", cluster: str = "pay") -> Notice:
    alert = opened(condition(cluster, rule, "cluster", "nobody serves · ✗"), NOW)
    at = NOW.replace(hour=13)
    made = planned(Group(key=group_of(alert)), [alert], {}, at).notice
    assert made is not None
    return made


class Receiver:
    def __init__(self) -> None:
        self.status = 200
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def post(self, request: web.Request) -> web.Response:
        self.received.append(({key.lower(): value for key, value in request.headers.items()}, await request.read()))
        headers = {"Location": self.url} if self.status == 302 else {}
        return web.Response(status=self.status, headers=headers)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/hook", found.post)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    found.url = f"http://{host}:{port}/hook"
    try:
        yield found
    finally:
        await runner.cleanup()


async def test_a_receiver_can_verify_the_signature_by_the_specification_alone(receiver: Receiver) -> None:
    sent = notice()
    assert await WebhookChannel(receiver.url, KEY, _clock).send(sent) == Sent()
    [(headers, body)] = receiver.received
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == sent.id
    assert datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC) == NOW
    assert headers["content-type"] == "application/cloudevents+json"
    event = json.loads(body)
    assert event == cloud_event(sent)
    assert {"specversion", "id", "source", "type", "time", "subject", "data"} <= set(event)
    assert event["data"]["alerts"][0]["sentence"] == "nobody serves · ✗"


async def test_a_mail_is_a_webhook_with_a_subject_and_a_text(receiver: Receiver) -> None:
    channel = WebhookChannel(receiver.url, KEY, _clock, Format.MAIL, ("ops@example.org",))
    assert await channel.send(notice()) == Sent()
    body = json.loads(receiver.received[0][1])
    assert body["to"] == ["ops@example.org"]
    assert body["subject"] == "[critical] cluster pay: cluster-down (fired)"
    assert "nobody serves" in body["text"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (204, Sent()),
        (302, Failed("answered 302")),
        (400, Refused("answered 400")),
        (401, Refused("answered 401")),
        (429, Failed("answered 429")),
        (503, Failed("answered 503")),
    ],
)
async def test_what_an_answer_means(receiver: Receiver, status: int, outcome: object) -> None:
    receiver.status = status
    assert await WebhookChannel(receiver.url, KEY, _clock).send(notice()) == outcome
    assert len(receiver.received) == 1, "a redirect is not followed"


async def test_nobody_listening_is_a_failure_without_the_address() -> None:
    outcome = await WebhookChannel("http://127.0.0.1:1/secret-path", KEY, _clock).send(notice())
    assert isinstance(outcome, Failed)
    assert "secret-path" not in outcome.reason
    assert isinstance(await WebhookChannel("nonsense", KEY, _clock).send(notice()), Refused)


def test_pauses_grow_and_end() -> None:
    made = Delivery(id="n", channel="c", notice=notice(), created_at=NOW, next_attempt_at=NOW)
    pauses: list[float] = []
    now, delivery = NOW, made
    while True:
        delivery = delivery.model_copy(update={"attempts": delivery.attempts + 1})
        match judged(delivery, Failed("x"), now):
            case Again(following):
                pauses.append((following.next_attempt_at - now).total_seconds())
                delivery, now = following, following.next_attempt_at
            case GivenUp(reason):
                assert "x" in reason
                break
            case Done():
                raise AssertionError("a failure is not done")
    assert pauses[:8] == [30, 60, 120, 240, 480, 960, 1920, 3600]
    assert 23 * 3600 < (now - NOW).total_seconds() <= 24 * 3600
    assert isinstance(judged(made, Sent(), NOW), Done)


def _webhooks(**changes: Any) -> dict[str, str]:
    hook = {"name": "pager", "url": "https://hook.example.org/x?key=hidden", "secret": SECRET, **changes}
    return {"MIRRORPLANE_ALERT_WEBHOOKS": json.dumps([hook])}


def test_good_settings() -> None:
    environment = {
        "MIRRORPLANE_ALERT_TOPIC_ENDPOINT": "https://topic.example.org/api/events",
        "MIRRORPLANE_ALERT_TOPIC_KEY": "hidden",
        **_webhooks(minimumSeverity="critical", format="mail", to=["ops@example.org"]),
    }
    courier = read_courier(environment, _clock)
    assert sorted(courier.lines) == ["event-grid", "pager"]
    assert courier.channels_for(notice()) == ("event-grid", "pager")
    assert courier.channels_for(notice("vm-stopped")) == ("event-grid",)
    assert courier.channels_for(notice("watchdog", "")) == ("event-grid", "pager")
    assert "hidden" not in repr(courier)
    assert read_courier({}, _clock).lines == {}


@pytest.mark.parametrize(
    "environment",
    [
        {"MIRRORPLANE_ALERT_TOPIC_ENDPOINT": "http://topic.example.org"},
        {"MIRRORPLANE_ALERT_WEBHOOKS": "{"},
        {"MIRRORPLANE_ALERT_WEBHOOKS": "{}"},
        _webhooks(url="http://hook.example.org"),
        _webhooks(secret="whsec_c2hvcnQ="),
        _webhooks(secret="%%%"),
        _webhooks(name="event grid"),
        _webhooks(minimumSeverity="bad"),
        _webhooks(colour="red"),
    ],
)
def test_a_bad_setting_is_named_without_its_secrets(environment: dict[str, str]) -> None:
    with pytest.raises(SettingInvalid, match="MIRRORPLANE_ALERT_") as found:
        read_courier(environment, _clock)
    assert "hidden" not in str(found.value)
    assert SECRET[6:] not in str(found.value)


def test_one_name_for_two_channels_is_refused() -> None:
    hook = json.loads(_webhooks()["MIRRORPLANE_ALERT_WEBHOOKS"])
    with pytest.raises(SettingInvalid, match="twice"):
        read_courier({"MIRRORPLANE_ALERT_WEBHOOKS": json.dumps(hook * 2)}, _clock)
