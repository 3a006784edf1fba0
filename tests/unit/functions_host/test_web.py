"""Requests through the real worker library, without sockets."""

import asyncio
import json

import pytest

from lab.functions_host.exchange import Request
from lab.functions_host.web import Web

FUNCTION_KEY, HOST_KEY, MASTER_KEY = "function-key-of-the-tests", "host-key-of-the-tests", "master-key-of-the-tests"


def get(path: str, *headers: tuple[str, str], query: str = "") -> Request:
    return Request("GET", path, query, headers)


async def test_a_function_sees_the_request(web: Web) -> None:
    request = Request(
        "POST",
        "/API/echo/7/a%2Fb",
        "x=1&x=2&empty=&y=a+b",
        (("X-Twice", "1"), ("X-Twice", "2"), ("Content-Type", "text/plain")),
        b"body",
        "https://node:7071",
    )
    answer = await web.handle(request)
    assert answer.status == 201
    assert ("X-Extra", "1") in answer.headers
    seen = json.loads(answer.body)
    assert seen == {
        "method": "POST",
        "url": "https://node:7071/API/echo/7/a%2Fb?x=1&x=2&empty=&y=a+b",
        "values": {"id": "7", "rest": "a%2Fb"},
        "query": {"x": "1,2", "y": "a b"},
        "headers": {"x-twice": "1,2", "content-type": "text/plain"},
        "body": "body",
    }


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/none"), ("GET", "/api/echo/x"), ("PUT", "/api/echo/1")])
async def test_no_route_a_failed_constraint_and_a_wrong_method_are_404(web: Web, method: str, path: str) -> None:
    assert (await web.handle(Request(method, path))).status == 404


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/api/key", None, 401),
        ("/api/key", "wrong", 401),
        ("/api/key", FUNCTION_KEY, 200),
        ("/api/key", HOST_KEY, 200),
        ("/api/key", MASTER_KEY, 200),
        ("/api/master", HOST_KEY, 401),
        ("/api/master", FUNCTION_KEY, 401),
        ("/api/master", MASTER_KEY, 200),
        ("/api/off", None, 401),
        ("/api/off", HOST_KEY, 404),
        ("/admin/functions", None, 401),
        ("/admin/functions", HOST_KEY, 401),
        ("/admin/functions", MASTER_KEY, 200),
        ("/admin/functions/echo", MASTER_KEY, 200),
        ("/admin/functions/none", MASTER_KEY, 404),
        ("/admin/host/status", MASTER_KEY, 200),
        ("/admin/host/status", None, 401),
        ("/admin/host/ping", None, 200),
    ],
)
async def test_keys(web: Web, path: str, key: str | None, status: int) -> None:
    by_header = await web.handle(get(path, *([] if key is None else [("X-Functions-Key", key)])))
    by_query = await web.handle(get(path, query="" if key is None else f"code={key}"))
    assert (by_header.status, by_query.status) == (status, status)
    if status == 401:
        assert by_header.body == b""


async def test_the_header_wins_over_the_query(web: Web) -> None:
    assert (await web.handle(get("/api/key", ("x-functions-key", "wrong"), query=f"code={HOST_KEY}"))).status == 401


@pytest.mark.parametrize(
    "path", ["/api/raise", "/api/exit/exit", "/api/exit/cancel", "/api/exit-in-thread", "/api/nothing"]
)
async def test_a_failing_function_is_500_with_an_empty_body(web: Web, path: str) -> None:
    answer = await web.handle(get(path))
    assert (answer.status, answer.body) == (500, b"")
    assert (await web.handle(get("/api/echo/1"))).status == 201, "the host lives on"


async def test_a_text_is_the_body_and_not_a_response_object(web: Web) -> None:
    answer = await web.handle(get("/api/text"))
    assert (answer.status, answer.body) == (200, b'{"body": "not a response object"}')


async def test_cookies_and_bytes(web: Web) -> None:
    answer = await web.handle(get("/api/cookies"))
    assert answer.body == b"\x00\xff"
    assert [value for name, value in answer.headers if name == "Set-Cookie"] == [
        "a=1; Max-Age=60; Path=/x; Secure; HttpOnly; SameSite=Lax",
        "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
    ]


async def test_our_own_cancellation_is_passed_on(web: Web) -> None:
    task = asyncio.create_task(web.handle(get("/api/raise")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_admin_listing_names_every_function(web: Web) -> None:
    listing = json.loads((await web.handle(get("/admin/functions", ("x-functions-key", MASTER_KEY)))).body)
    entries = {entry["name"]: entry for entry in listing}
    assert {"echo", "every_five", "on_event", "off"} <= set(entries)
    assert entries["off"]["isDisabled"]
    assert entries["echo"]["invoke_url_template"] == "http://localhost/api/echo/{id:int}/{rest?}"


async def test_admin_runs_are_answered_at_once_and_run_behind(web: Web, seen: list[str]) -> None:
    event = json.dumps({"id": "1", "eventType": "T", "subject": "s", "data": {}, "dataVersion": "1", "eventTime": None})
    request = Request(
        "POST",
        "/admin/functions/on_event",
        headers=(("x-functions-key", MASTER_KEY),),
        body=json.dumps({"input": event}).encode(),
    )
    assert (await web.handle(request)).status == 202
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=10)
    assert seen == ["1 T s"]


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("echo", b"{}", 400),
        ("on_event", b"[]", 400),
        ("on_event", b"{", 400),
        ("on_event", b'{"input": 1}', 400),
        ("x", b"", 404),
    ],
)
async def test_admin_runs_refused(web: Web, name: str, body: bytes, status: int) -> None:
    request = Request("POST", f"/admin/functions/{name}", headers=(("x-functions-key", MASTER_KEY),), body=body)
    assert (await web.handle(request)).status == status
