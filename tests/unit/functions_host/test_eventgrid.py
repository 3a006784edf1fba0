"""Both handshakes and both schemas of Event Grid, through the real worker library."""

import json
from typing import Any

import pytest

from lab.functions_host.exchange import Request, Response
from lab.functions_host.web import Web

SYSTEM_KEY = "system-key-of-the-tests"
PATH = "/runtime/webhooks/eventgrid"


def event(number: int, subject: str = "s") -> dict[str, Any]:
    return {
        "id": str(number),
        "eventType": "Microsoft.Compute.Test",
        "subject": subject,
        "eventTime": "2026-03-04T05:06:07.1234567Z",
        "data": {"n": number},
        "dataVersion": "1",
        "topic": "t",
    }


async def post(
    web: Web,
    body: object,
    *headers: tuple[str, str],
    function: str = "on_event",
    key: str = SYSTEM_KEY,
    method: str = "POST",
) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await web.handle(Request(method, PATH, f"functionName={function}&code={key}", headers, content))


NOTIFICATION = ("aeg-event-type", "Notification")


async def test_subscription_validation_is_answered_with_the_code(web: Web) -> None:
    body = [{**event(1), "data": {"validationCode": "512d38b6"}}]
    answer = await post(web, body, ("aeg-event-type", "SubscriptionValidation"))
    assert (answer.status, json.loads(answer.body)) == (200, {"validationResponse": "512d38b6"})


async def test_every_event_of_a_delivery_runs(web: Web, seen: list[str]) -> None:
    assert (await post(web, [event(1), event(2)], NOTIFICATION)).status == 202
    assert sorted(seen) == ["1 Microsoft.Compute.Test s", "2 Microsoft.Compute.Test s"]


async def test_one_failed_event_fails_the_delivery_after_all_ran(web: Web, seen: list[str]) -> None:
    answer = await post(web, [event(1, "bad"), event(2)], NOTIFICATION)
    assert answer.status == 500
    assert b"1 of 2 events failed: RuntimeError: bad subject" in answer.body
    assert len(seen) == 2


async def test_cloud_events_handshake(web: Web) -> None:
    answer = await post(web, b"", ("WebHook-Request-Origin", "eventgrid.azure.net"), method="OPTIONS")
    assert answer.status == 200
    assert ("WebHook-Allowed-Origin", "eventgrid.azure.net") in answer.headers
    assert "WebHook-Allowed-Rate" in dict(answer.headers)
    assert (await post(web, b"", method="OPTIONS")).status == 400


CLOUD = {"specversion": "1.0", "id": "c1", "type": "t", "source": "/s", "data": {"n": 1}}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (CLOUD, [("Content-Type", "application/cloudevents+json; charset=utf-8")]),
        ([CLOUD], [("Content-Type", "application/cloudevents-batch+json")]),
        ([CLOUD], [NOTIFICATION]),
        (
            b'{"n": 1}',
            [
                ("ce-specversion", "1.0"),
                ("ce-id", "c1"),
                ("ce-type", "t"),
                ("ce-source", "%2Fs"),
                ("Content-Type", "application/json"),
            ],
        ),
    ],
)
async def test_structured_and_binary_cloud_events(
    web: Web, seen: list[str], body: object, headers: list[tuple[str, str]]
) -> None:
    assert (await post(web, body, *headers, function="on_cloud_event")).status == 202
    assert seen == ['c1 t {"n": 1}']


async def test_unsubscribe(web: Web) -> None:
    assert (await post(web, b"", ("aeg-event-type", "Unsubscribe"))).status == 202


@pytest.mark.parametrize(
    ("headers", "function", "key", "status"),
    [
        ([], "on_event", SYSTEM_KEY, 400),
        ([("aeg-event-type", "Other")], "on_event", SYSTEM_KEY, 400),
        ([NOTIFICATION], "none", SYSTEM_KEY, 404),
        ([NOTIFICATION], "echo", SYSTEM_KEY, 404),
        ([NOTIFICATION], "on_event", "wrong", 401),
        ([NOTIFICATION], "on_event", "host-key-of-the-tests", 401),
        ([NOTIFICATION], "ON_EVENT", "master-key-of-the-tests", 202),
    ],
)
async def test_who_and_what_is_refused(
    web: Web, headers: list[tuple[str, str]], function: str, key: str, status: int
) -> None:
    assert (await post(web, [event(1)], *headers, function=function, key=key)).status == status


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"text"'])
async def test_deliveries_that_are_no_events(web: Web, body: bytes) -> None:
    assert (await post(web, body, NOTIFICATION)).status == 400
