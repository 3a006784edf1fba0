"""HTTPS on the node: test page and the console's files for everybody, the API for holders of a client certificate.

Guarantee: without a certificate of the cluster's CA nothing is told but what /mosaic says; reading wants Monitor,
actions want Control, a forced start wants Admin and the cluster's name in the body. Since browsers send client
certificates by themselves, an action must come as JSON and from this origin (a foreign page can do neither without
being asked), and the pages run scripts of this origin only.
Limits: bodies of MAX_BODY_BYTES; the console acts on its own node, the peer has one of its own.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Container
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mirror_agent.contract import CONSOLE_PORT, MAX_SENTENCE_CHARS
from mirror_agent.eventlog import Event, RecordEvent
from mirror_agent.redaction import redact
from mirror_agent.web.actions import ACTIONS, NodeAction, NodeControl, NodeRequest, nearest
from mirror_agent.web.client_roles import Client, ClientRole, client_of
from mirror_agent.web.mirror_control import MirrorControl
from mirror_agent.web.probe import ProbeAnswer
from mirror_agent.web.prometheus import CONTENT_TYPE
from mirror_agent.web.static import PAGE, static_files

MAX_BODY_BYTES: Final = 16 * 1024
MAX_EVENTS: Final = 500
_KEEPALIVE_S: Final = 15.0
_STATUS_OF_OUTCOME: Final = {"accepted": 202, "succeeded": 200, "refused": 409, "failed": 500}
_HEADERS: Final = {
    "Server": "mirrorplane",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
}
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; display: grid; place-items: center; min-height: 100vh;
  background: #f4f5f7; color: #1a1d21 }
main { background: #fff; border-radius: 12px; padding: 2rem 3rem; box-shadow: 0 2px 12px rgb(0 0 0 / .12) }
h1 { font-size: 1rem; font-weight: 500; margin: 0; color: #5a626b }
p.node { font-size: 4rem; font-weight: 700; line-height: 1.1; margin: .2em 0 }
dl { display: grid; grid-template-columns: auto auto; gap: .2rem 1.5rem; margin: 0 }
dt { color: #5a626b }
dd { margin: 0; font-variant-numeric: tabular-nums }
@media (prefers-color-scheme: dark) { body { background: #14171a; color: #e8eaed } main { background: #1f2328 }
  h1, dt { color: #9aa3ad } }
"""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ActionBody(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = Field(default="", max_length=MAX_SENTENCE_CHARS)
    confirm: str = Field(default="", max_length=128)


class ConsoleApi:
    def __init__(
        self,
        control: NodeControl,
        mirror: MirrorControl,
        *,
        answer: Callable[[], ProbeAnswer],
        events_after: Callable[[int, int], list[Event]],
        cluster: str,
        node: str,
        tls: ssl.SSLContext,
        log: RecordEvent,
        revoked: Container[str] = (),
        host: str = "0.0.0.0",
        port: int = CONSOLE_PORT,
    ) -> None:
        """`answer` as for the probe; `events_after(seq, limit)` as of the event log; `tls` see `server_context`;
        `revoked` serials are looked up at every request, so that an open connection ends with the certificate."""
        self._control = control
        self._mirror = mirror
        self._answer = answer
        self._events_after = events_after
        self._cluster = cluster
        self._node = node
        self._tls = tls
        self._log = log
        self._revoked = revoked
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; answers the port."""
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._guard])
        application.router.add_get("/", self._page)
        application.router.add_get("/console/{name}", self._file)
        application.router.add_get("/mosaic", self._mosaic)
        application.router.add_get("/mosaic.css", self._style)
        application.router.add_get("/api/v1/me", self._requires(ClientRole.MONITOR, self._me))
        application.router.add_get("/api/v1/status", self._requires(ClientRole.MONITOR, self._status))
        application.router.add_get("/api/v1/drill", self._requires(ClientRole.MONITOR, self._drill))
        application.router.add_get("/api/v1/events", self._requires(ClientRole.MONITOR, self._events))
        application.router.add_get("/api/v1/mirror", self._requires(ClientRole.MONITOR, self._mirror_status))
        application.router.add_get("/metrics", self._requires(ClientRole.MONITOR, self._metrics))
        application.router.add_post("/api/v1/actions/{action}", self._requires(ClientRole.CONTROL, self._action))
        application.on_response_prepare.append(_protect)
        runner = web.AppRunner(application, access_log=None, keepalive_timeout=_KEEPALIVE_S)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port, ssl_context=self._tls, reuse_address=True)
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise OSError(
                error.errno,
                f"the node's console cannot listen on {self._host}:{self._port} ({error.strerror}); "
                f"find the program that holds the port with: ss -ltnp 'sport = :{self._port}'",
            ) from error
        self._runner = runner
        port: int = runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every error is JSON of the same shape; an unexpected one is recorded and says nothing of the inside."""
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _error(error.status, error.reason.replace(" ", ""), error.text or error.reason)
        except Exception as error:  # noqa: BLE001 - one request must not be a riddle; recorded, answered as 500
            self._log("console.failed", path=request.path, error=f"{type(error).__name__}: {error}")
            return _error(500, "InternalError", "the request failed; see mirrorctl history on the node")

    def _requires(self, role: ClientRole, handler: Callable[[web.Request, Client], Awaitable[web.Response]]) -> Handler:
        async def checked(request: web.Request) -> web.StreamResponse:
            client = client_of(request)
            if client is None:
                return _error(401, "ClientCertificateRequired", "show a client certificate of the cluster's CA")
            if client.serial in self._revoked:
                self._log("console.refused", client=client.name, path=request.path, reason="certificate revoked")
                return _error(
                    403, "CertificateRevoked", "this certificate was revoked; ask for another credential link"
                )
            if client.role is None or client.role < role:
                self._log("console.refused", client=client.name, path=request.path, needs=role.word)
                return _error(403, "Forbidden", f"this needs the role {role.word} in the certificate's subject (OU)")
            return await handler(request, client)

        return checked

    async def _mosaic(self, _request: web.Request) -> web.Response:
        """Each answer closes the connection, so that the next one goes through the load balancer anew."""
        answer = self._answer()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = {
            "Server": socket.gethostname(),
            "Role": answer.role.value,
            "Epoch": str(answer.epoch),
            "Time": now,
        }
        listing = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows.items())
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Mirrorplane test page</title>'
            '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/mosaic.css"></head>'
            f"<body><main><h1>Cluster {escape(self._cluster)} was answered by node</h1>"
            f'<p class="node">{escape(self._node)}</p><dl>{listing}</dl></main></body></html>\n'
        )
        return web.Response(text=page, content_type="text/html", headers={"Connection": "close"})

    async def _page(self, request: web.Request) -> web.Response:
        return _static(PAGE, request)

    async def _file(self, request: web.Request) -> web.Response:
        return _static(request.match_info["name"], request)

    async def _me(self, _request: web.Request, client: Client) -> web.Response:
        role = client.role.word if client.role else ""
        return web.json_response({"name": client.name, "role": role, "cluster": self._cluster, "node": self._node})

    async def _style(self, _request: web.Request) -> web.Response:
        return web.Response(text=_STYLE, content_type="text/css")

    async def _status(self, _request: web.Request, _client: Client) -> web.Response:
        return web.json_response(redact(self._control.status()))

    async def _drill(self, _request: web.Request, _client: Client) -> web.Response:
        return web.json_response(redact(self._control.drill()))

    async def _mirror_status(self, _request: web.Request, _client: Client) -> web.Response:
        return web.json_response(redact(self._mirror.mirror()))

    async def _metrics(self, _request: web.Request, _client: Client) -> web.Response:
        return web.Response(body=self._mirror.metrics().encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _events(self, request: web.Request, _client: Client) -> web.Response:
        after = _whole_number(request, "after", 0, 2**53)
        limit = _whole_number(request, "limit", 100, MAX_EVENTS)
        events = self._events_after(after, limit)
        return web.json_response({"events": redact(events), "next": events[-1]["seq"] if events else after})

    async def _action(self, request: web.Request, client: Client) -> web.Response:
        word = request.match_info["action"]
        if word not in ACTIONS:
            return _error(404, "UnknownAction", f"{word!r} is no action; {nearest(word, ACTIONS)}")
        action = NodeAction(word)
        needed = needed_role(action)
        if client.role is None or client.role < needed:
            self._log("console.refused", client=client.name, path=request.path, needs=needed.word)
            return _error(403, "Forbidden", f"{word!r} needs the role {needed.word} in the certificate's subject (OU)")
        if request.content_type != "application/json":
            return _error(415, "JsonRequired", "send the body as application/json, for example {}")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            self._log("console.foreign-origin", client=client.name, origin=origin)
            return _error(403, "ForeignOrigin", f"a page of {origin!r} may not act on this node")
        try:
            body = ActionBody.model_validate_json(await request.read() or b"{}")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            return _error(400, "BadBody", f"{'.'.join(str(part) for part in first['loc']) or 'body'}: {first['msg']}")
        who = f"{client.name} ({client.role.word if client.role else 'no role'})"
        outcome = await self._control.request(NodeRequest(action, who, body.reason, body.confirm))
        return web.json_response(redact(asdict(outcome)), status=_STATUS_OF_OUTCOME[outcome.status])


def needed_role(action: NodeAction) -> ClientRole:
    """A forced start may cost data; everything else can be taken back."""
    return ClientRole.ADMIN if action is NodeAction.FORCE else ClientRole.CONTROL


async def _protect(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _static(name: str, request: web.Request) -> web.Response:
    """A file of the console: for everybody, since it holds nothing; what it shows it asks the API for."""
    file = static_files().get(name)
    if file is None:
        raise web.HTTPNotFound(text=f"there is no page {name!r}")
    if request.headers.get("If-None-Match") == file.etag:
        return web.Response(status=304, headers={"ETag": file.etag})
    return web.Response(body=file.content, content_type=file.content_type, charset="utf-8", headers={"ETag": file.etag})


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


def _whole_number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) > most:
        raise web.HTTPBadRequest(text=f"{name}={text!r} is no whole number up to {most}")
    return int(text)
