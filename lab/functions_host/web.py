"""From a request to an answer, without sockets: routes, keys, HTTP functions, webhooks, admin endpoints.

Guarantee, copied from the Azure host's source: no route 404 (also for a wrong method); wrong or missing key 401 with an
empty body; a disabled function 404, told only to callers with a key; a failed function 500 with an empty body.
Not copied: a text returned by an HTTP function is never parsed as a response object; the start page at `/`.
Limits: repeated response headers keep their last value (the library's dict), Set-Cookie excepted.
"""

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final, assert_never

from lab.functions_host import eventgrid, protos
from lab.functions_host.bindings import (
    AuthLevel,
    EventGridTrigger,
    Function,
    HttpTrigger,
    QueueTrigger,
    TimerTrigger,
)
from lab.functions_host.exchange import Request, Response, answer_json, answer_text
from lab.functions_host.execution import Execution
from lab.functions_host.keys import Keys
from lab.functions_host.queues import trigger_data
from lab.functions_host.routing import RouteTable, compile_route, decode_path
from lab.functions_host.triggers import Triggers
from lab.functions_host.worker import Succeeded

log = logging.getLogger(__name__)

MAX_BACKGROUND: Final = 100  # admin invocations under way
# The front computes these; a function's own values could contradict the body.
_FRAMING: Final = frozenset({"connection", "content-length", "date", "keep-alive", "transfer-encoding"})


class Web:
    def __init__(
        self, functions: Iterable[Function], execution: Execution, triggers: Triggers, keys: Keys, route_prefix: str
    ) -> None:
        self._functions = {function.name: function for function in functions}
        self._by_lower = {name.lower(): function for name, function in self._functions.items()}
        self._execution = execution
        self._triggers = triggers
        self._keys = keys
        self._prefix = route_prefix
        self._background: set[asyncio.Task[None]] = set()
        self._started = datetime.now(UTC)
        self.routes = RouteTable(
            compile_route(function.name, route_prefix, function.trigger.route, function.trigger.methods)
            for function in self._functions.values()
            if isinstance(function.trigger, HttpTrigger)
        )

    async def handle(self, request: Request) -> Response:
        path = decode_path(request.path).lower()
        if path == "admin" or path.startswith("admin/"):
            return self._admin(request, path.split("/")[1:])
        if path == eventgrid.PATH.removeprefix("/"):
            return await self._event_grid(request)
        match = self.routes.find(request.method, request.path)
        if match is None:
            return Response(404)
        function = self._functions[match.function]
        assert isinstance(function.trigger, HttpTrigger)
        if not self._keys.permits(function.trigger.auth_level, function.name, request.key()):
            return Response(401)
        if function.disabled:
            return Response(404)
        return await self._call(function, request, match.values)

    async def _call(self, function: Function, request: Request, values: Mapping[str, str]) -> Response:
        data = protos.TypedData(
            http=protos.RpcHttp(
                method=request.method.upper(),
                url=request.url(),
                headers=request.joined_headers(),
                params=values,
                query=request.parameters(),
                body=protos.TypedData(bytes=request.body) if request.body else protos.TypedData(),
            )
        )
        outcome = await self._execution.run(function, data, {}, "http")
        if not isinstance(outcome, Succeeded):
            return Response(500)
        return answer_of(outcome.return_value, function.name)

    async def _event_grid(self, request: Request) -> Response:
        if not self._keys.permits_event_grid(request.key()):
            return Response(401)
        name = request.parameters().get("functionName", "")
        function = self._by_lower.get(name.lower())
        if function is None or not isinstance(function.trigger, EventGridTrigger) or function.disabled:
            return answer_text(404, f"no Event Grid function {name!r}; name one with ?functionName=")
        return await eventgrid.handle(request, function, self._execution)

    # --- admin ------------------------------------------------------------------------------------------------------

    def _admin(self, request: Request, parts: list[str]) -> Response:
        if parts == ["host", "ping"] and request.method in ("GET", "POST"):
            return Response(200)
        if not self._keys.permits(AuthLevel.ADMIN, "", request.key()):
            return Response(401)
        match (request.method, parts):
            case ("GET", ["host", "status"]):
                return answer_json(200, self._status())
            case ("GET", ["functions"]):
                return answer_json(200, [self._describe(function, request) for function in self._functions.values()])
            case ("GET", ["functions", name]) if name in self._by_lower:
                return answer_json(200, self._describe(self._by_lower[name], request))
            case ("POST", ["functions", name]) if name in self._by_lower:
                return self._start(self._by_lower[name], request.body)
            case _:
                return Response(404)

    def _status(self) -> dict[str, object]:
        uptime = datetime.now(UTC) - self._started
        return {"id": "mirrorplane-lab", "state": "Running", "processUptime": int(uptime.total_seconds() * 1000)}

    def _describe(self, function: Function, request: Request) -> dict[str, object]:
        entry: dict[str, object] = {
            "name": function.name,
            "language": "python",
            "isDisabled": function.disabled,
            "config": {"bindings": [dict(binding) for binding in function.raw_bindings]},
        }
        if isinstance(function.trigger, HttpTrigger):
            route = "/".join(part for part in (self._prefix, function.trigger.route.strip("/")) if part)
            entry["invoke_url_template"] = f"{request.origin}/{route}"
        return entry

    def _start(self, function: Function, body: bytes) -> Response:
        """`{"input": text}` runs the function behind the answer 202."""
        try:
            given = json.loads(body or b"{}")
        except ValueError:
            return answer_text(400, 'the body is {"input": "..."}')
        if not isinstance(given, dict) or not isinstance(given.get("input", ""), str):
            return answer_text(400, 'the body is {"input": "..."} with a text')
        if isinstance(function.trigger, HttpTrigger):
            return answer_text(400, f"{function.name!r} is an HTTP function; call its route")
        if len(self._background) >= MAX_BACKGROUND:
            return answer_text(429, f"{MAX_BACKGROUND} admin invocations are under way; try again later")
        task = asyncio.create_task(self._run_by_hand(function, str(given.get("input", ""))))
        self._background.add(task)
        task.add_done_callback(self._ended)
        return Response(202)

    async def _run_by_hand(self, function: Function, text: str) -> None:
        match function.trigger:
            case TimerTrigger() if not function.disabled:
                await self._triggers.fire(function.name)
            case TimerTrigger():
                log.warning("timer %s is disabled and was not run", function.name)
            case QueueTrigger():
                await self._execution.run(function, trigger_data(text.encode()), {}, "admin")
            case EventGridTrigger():
                await self._execution.run(function, protos.TypedData(json=text), {}, "admin")
            case HttpTrigger():
                raise AssertionError("HTTP functions are refused before")
            case other:
                assert_never(other)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("an admin invocation failed", exc_info=task.exception())


def answer_of(value: protos.TypedData | None, function: str) -> Response:
    """What an HTTP function returned, as an answer. Anything but an HttpResponse or a text is 500, with a log line."""
    kind = None if value is None else value.WhichOneof("data")
    if value is not None and kind == "http" and value.http is not None:
        message = value.http
        headers = [(name, text) for name, text in message.headers.items() if name.lower() not in _FRAMING]
        headers += [("Set-Cookie", set_cookie(cookie)) for cookie in message.cookies or ()]
        return Response(int(message.status_code or 200), tuple(headers), message.body.bytes or b"")
    if value is not None and kind == "string":
        return answer_text(200, value.string or "")
    log.error("function %s returned %s; return an azure.functions.HttpResponse", function, kind or "nothing")
    return Response(500)


def set_cookie(cookie: protos.RpcHttpCookie) -> str:
    """RFC 6265 4.1: the Set-Cookie value of one cookie."""
    parts: list[str] = [f"{cookie.name}={cookie.value}"]
    if cookie.expires is not None:
        moment = datetime.fromtimestamp(cookie.expires.value.seconds, UTC)
        parts.append(f"Expires={format_datetime(moment, usegmt=True)}")
    if cookie.max_age is not None:
        parts.append(f"Max-Age={int(cookie.max_age.value)}")
    named: tuple[tuple[str, Any], ...] = (("Domain", cookie.domain), ("Path", cookie.path))
    parts += [f"{name}={given.value}" for name, given in named if given is not None and given.value]
    if cookie.secure is not None and cookie.secure.value:
        parts.append("Secure")
    if cookie.http_only is not None and cookie.http_only.value:
        parts.append("HttpOnly")
    match protos.SameSite(cookie.same_site):
        case protos.SameSite.Lax:
            parts.append("SameSite=Lax")
        case protos.SameSite.Strict:
            parts.append("SameSite=Strict")
        case protos.SameSite.ExplicitNone:
            parts.append("SameSite=None")
        case _:
            pass  # not set
    return "; ".join(parts)
