"""HTTPS on the node: test page and the console's files for everybody, the API for holders of a client certificate.

Guarantee: without a certificate of the cluster's CA nothing is told but what /mosaic says; reading wants Monitor,
orders want Control, a forced start wants Admin and the cluster's name in the body (`console_orders`). What is asked of
the other node (`/api/v1/peer/…`) goes there in the caller's name and is judged there again (`peer_console`).
Limits: bodies of MAX_BODY_BYTES; a request is passed on once, never further.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Callable, Container
from typing import Any, Final

from aiohttp import web

from mirror_agent.contract import CONSOLE_PORT
from mirror_agent.eventlog import Event, RecordEvent
from mirror_agent.redaction import redact
from mirror_agent.web import console_pages
from mirror_agent.web.actions import NodeControl
from mirror_agent.web.client_roles import Client, ClientRole, client_of
from mirror_agent.web.console_orders import ORDERS, Orders
from mirror_agent.web.console_pages import error
from mirror_agent.web.dry_run import Sight, dry_run
from mirror_agent.web.listening import Listening, listen
from mirror_agent.web.mirror_control import MirrorControl, NoCopies
from mirror_agent.web.peer_console import PeerAway, PeerConsole
from mirror_agent.web.probe import ProbeAnswer
from mirror_agent.web.prometheus import CONTENT_TYPE
from mirror_agent.web.static import PAGE

MAX_BODY_BYTES: Final = 16 * 1024
MAX_EVENTS: Final = 500
MAX_KEPT: Final = 200
# What may be asked of the other node; `dry-run/…` beside them.
READS: Final = ("status", "drill", "events", "mirror", "verified", "quarantine", "configuration")
_KEEPALIVE_S: Final = 15.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ClientHandler = Callable[[web.Request, Client], Awaitable[web.Response]]


class ConsoleApi:
    def __init__(
        self,
        control: NodeControl,
        mirror: MirrorControl,
        *,
        answer: Callable[[], ProbeAnswer],
        events_after: Callable[[int, int], list[Event]],
        configuration: Callable[[], dict[str, object]],
        cluster: str,
        node: str,
        peer: PeerConsole,
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
        self._configuration = configuration
        self._cluster = cluster
        self._node = node
        self._peer = peer
        self._orders = Orders(control, mirror, peer, log)
        self._tls = tls
        self._log = log
        self._revoked = revoked
        self._host = host
        self._port = port
        self._open: Listening | None = None

    def application(self) -> web.Application:
        """All routes; tests walk them."""
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._guard])
        router = application.router
        router.add_get("/", self._page)
        router.add_get("/console/{name}", self._file)
        router.add_get("/mosaic", self._mosaic)
        router.add_get("/mosaic.css", self._style)
        for path, handler in (
            ("/api/v1/me", self._me),
            ("/api/v1/status", self._status),
            ("/api/v1/drill", self._drill),
            ("/api/v1/events", self._events),
            ("/api/v1/mirror", self._mirror_status),
            ("/api/v1/verified", self._verified),
            ("/api/v1/quarantine", self._quarantine),
            ("/api/v1/configuration", self._shown_configuration),
            ("/api/v1/dry-run/{action}", self._dry_run),
            ("/api/v1/peer/{what:[a-z0-9/-]+}", self._of_the_peer),
            ("/metrics", self._metrics),
        ):
            router.add_get(path, self._requires(ClientRole.MONITOR, handler))
        control = ClientRole.CONTROL
        router.add_post("/api/v1/actions/{action}", self._requires(control, self._orders.here))
        router.add_post(
            "/api/v1/peer/actions/{action}", self._requires(control, self._only_directly(self._orders.at_the_peer))
        )
        application.on_response_prepare.append(console_pages.protect)
        return application

    async def start(self) -> int:
        """Listen; answers the port."""
        try:
            self._open = await listen(
                self.application(), self._host, self._port, keepalive_s=_KEEPALIVE_S, tls=self._tls
            )
        except OSError as failure:
            raise OSError(
                failure.errno,
                f"the node's console cannot listen on {self._host}:{self._port} ({failure.strerror}); "
                f"find the program that holds the port with: ss -ltnp 'sport = :{self._port}'",
            ) from failure
        return self._open.port

    async def stop(self) -> None:
        if self._open is not None:
            listening, self._open = self._open, None
            await listening.stop()

    # -- who may ---------------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every error is JSON of the same shape; an unexpected one is recorded and says nothing of the inside."""
        try:
            return await handler(request)
        except web.HTTPException as failure:
            return error(failure.status, failure.reason.replace(" ", ""), failure.text or failure.reason)
        except NoCopies as failure:
            return error(404, "NoCopies", str(failure))
        except Exception as failure:  # noqa: BLE001 - one request must not be a riddle; recorded, answered as 500
            self._log("console.failed", path=request.path, error=f"{type(failure).__name__}: {failure}")
            return error(500, "InternalError", "the request failed; see mirrorctl history on the node")

    def _requires(self, role: ClientRole, handler: ClientHandler) -> Handler:
        async def checked(request: web.Request) -> web.StreamResponse:
            client = client_of(request, self._peer.dns_name)
            if client is None:
                return error(401, "ClientCertificateRequired", "show a client certificate of the cluster's CA")
            if client.serial in self._revoked:
                message = "this certificate was revoked; ask for another credential link"
                return await self._orders.refuse(request, client, 403, "CertificateRevoked", message)
            if client.role is None or client.role < role:
                message = f"this needs the role {role.word} in the certificate's subject (OU)"
                return await self._orders.refuse(request, client, 403, "Forbidden", message)
            return await handler(request, client)

        return checked

    def _only_directly(self, handler: ClientHandler) -> ClientHandler:
        async def checked(request: web.Request, client: Client) -> web.Response:
            if client.through:
                message = f"{client.through} passed this on already; ask the other node itself"
                return await self._orders.refuse(request, client, 403, "PassedOnTwice", message)
            return await handler(request, client)

        return checked

    # -- for everybody ---------------------------------------------------------------------------------------------

    async def _mosaic(self, _request: web.Request) -> web.Response:
        return console_pages.test_page(self._cluster, self._node, self._answer())

    async def _style(self, _request: web.Request) -> web.Response:
        return web.Response(text=console_pages.TEST_PAGE_STYLE, content_type="text/css")

    async def _page(self, request: web.Request) -> web.Response:
        return console_pages.static(PAGE, request)

    async def _file(self, request: web.Request) -> web.Response:
        return console_pages.static(request.match_info["name"], request)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _me(self, _request: web.Request, client: Client) -> web.Response:
        role = client.role.word if client.role else ""
        who: dict[str, object] = {"name": client.name, "role": role}
        return web.json_response({**who, "cluster": self._cluster, "node": self._node, "peer": self._peer.node})

    async def _status(self, _request: web.Request, _client: Client) -> web.Response:
        return web.json_response(redact(self._control.status()))

    async def _drill(self, _request: web.Request, _client: Client) -> web.Response:
        return web.json_response(redact(self._control.drill()))

    async def _mirror_status(self, _request: web.Request, _client: Client) -> web.Response:
        return web.json_response(redact(self._mirror.mirror()))

    async def _verified(self, _request: web.Request, _client: Client) -> web.Response:
        return web.json_response(redact(await self._mirror.verified()))

    async def _quarantine(self, _request: web.Request, _client: Client) -> web.Response:
        """The newest first, and how many there are."""
        kept = await self._mirror.quarantine()
        return web.json_response({"total": len(kept), "kept": redact(kept[: -MAX_KEPT - 1 : -1])})

    async def _shown_configuration(self, _request: web.Request, _client: Client) -> web.Response:
        return web.json_response(redact(self._configuration()))

    async def _metrics(self, _request: web.Request, _client: Client) -> web.Response:
        return web.Response(body=self._mirror.metrics().encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _events(self, request: web.Request, _client: Client) -> web.Response:
        after = _whole_number(request, "after", 0, 2**53)
        limit = _whole_number(request, "limit", 100, MAX_EVENTS)
        events = self._events_after(after, limit)
        return web.json_response({"events": redact(events), "next": events[-1]["seq"] if events else after})

    async def _dry_run(self, request: web.Request, client: Client) -> web.Response:
        """What an order would do now; what the other node says of itself is asked for, and may be missing."""
        word = request.match_info["action"]
        if word not in ORDERS:
            return error(404, "UnknownAction", f"{word!r} is no action")
        sight = Sight(
            self._control.status(),
            self._control.drill(),
            await self._peer_says("status", client),
            await self._peer_says("drill", client),
        )
        return web.json_response(redact({"action": word, "effects": list(dry_run(word, sight))}))

    async def _peer_says(self, what: str, client: Client) -> dict[str, Any] | None:
        try:
            answer = await self._peer.read(what, client)
        except PeerAway:
            return None
        return json.loads(answer.body) if answer.status == 200 else None

    async def _of_the_peer(self, request: web.Request, client: Client) -> web.Response:
        what = request.match_info["what"]
        if client.through:
            return error(403, "PassedOnTwice", f"{client.through} passed this on already; ask the other node itself")
        if what not in READS and not what.startswith("dry-run/"):
            raise web.HTTPNotFound(text=f"{what!r} cannot be asked of the other node")
        try:
            answer = await self._peer.read(what, client, dict(request.query))
        except PeerAway as away:
            return error(502, "PeerAway", str(away))
        return web.Response(status=answer.status, body=answer.body, content_type="application/json")


def _whole_number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) > most:
        raise web.HTTPBadRequest(text=f"{name}={text!r} is no whole number up to {most}")
    return int(text)
