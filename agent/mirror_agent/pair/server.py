"""HTTPS of the pair's own service: admission of the other node, one-time links for people, the list of revoked serials.

What protects what: admission by the pair's secret (`admission`), a download by its link (`links`), the list by the
other node's certificate. Everything else is static and holds nothing.
Limits: bodies of MAX_BODY_BYTES, within a deadline; every error has the shape of the console's.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from mirror_agent.authority import Authority
from mirror_agent.contract import CONSOLE_PORT
from mirror_agent.eventlog import RecordEvent
from mirror_agent.pair import links
from mirror_agent.pair.admission import Gate
from mirror_agent.pair.documents import ADMISSION_PORT, Done, Hello, Join, PairFacts, complaint
from mirror_agent.pair.files import PairFiles
from mirror_agent.pair.refusal import Refused
from mirror_agent.pair.revocations import RevokedAnswer
from mirror_agent.web import console_pages
from mirror_agent.web.console_pages import error
from mirror_agent.web.listening import Listening, listen, read_body

MAX_BODY_BYTES: Final = 32 * 1024
PAGES: Final = Path(__file__).with_name("pages")
_KEEPALIVE_S: Final = 15.0
_SHARED: Final = ("console.css", "dom.js", "mark.svg")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Body = TypeVar("Body", bound=BaseModel)
Answer = TypeVar("Answer")


class PairServer:
    """Listening between `start` and `stop`, which may alternate."""

    def __init__(
        self,
        files: PairFiles,
        facts: PairFacts,
        gate: Gate,
        *,
        tls: ssl.SSLContext,
        peer_name: str,
        revoked: Callable[[], Mapping[str, datetime]],
        wall: Callable[[], datetime],
        log: RecordEvent,
        host: str = "0.0.0.0",
        port: int = ADMISSION_PORT,
    ) -> None:
        """`peer_name`: the DNS name in the other node's certificate; `revoked`: all known here, with the ends of the
        certificates."""
        self._files = files
        self._facts = facts
        self._gate = gate
        self._tls = tls
        self._peer_name = peer_name
        self._known_revoked = revoked
        self._one_at_a_time = asyncio.Lock()
        self._wall = wall
        self._log = log
        self._host = host
        self._port = port
        self._open: Listening | None = None

    @property
    def listening(self) -> bool:
        return self._open is not None

    def application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._guard])
        router = application.router
        router.add_get("/", self._page)
        router.add_get("/console/{name}", self._file)
        router.add_post("/pair/v1/hello", self._hello)
        router.add_post("/pair/v1/join", self._join)
        router.add_post("/pair/v1/done", self._done)
        router.add_post("/pair/v1/credential-downloads", self._redeem)
        router.add_get("/pair/v1/revoked", self._revoked)
        application.on_response_prepare.append(console_pages.protect)
        return application

    async def start(self) -> int:
        """Raises OSError when the port is taken."""
        self._open = await listen(self.application(), self._host, self._port, keepalive_s=_KEEPALIVE_S, tls=self._tls)
        return self._open.port

    async def stop(self) -> None:
        if self._open is not None:
            listening, self._open = self._open, None
            await listening.stop()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refusal:
            return error(refusal.status, refusal.code, str(refusal))
        except web.HTTPException as failure:
            return error(failure.status, failure.reason.replace(" ", ""), failure.text or failure.reason)
        except Exception as failure:  # noqa: BLE001 - one request must not be a riddle; recorded, answered as 500
            self._log("pair.failed", path=request.path, error=f"{type(failure).__name__}: {failure}")
            return error(500, "InternalError", "the request failed; see mirrorctl history on the node")

    # -- admission -------------------------------------------------------------------------------------------------

    async def _hello(self, request: web.Request) -> web.Response:
        remote = request.remote or ""
        return _json(
            await self._at_the_gate(lambda asked: self._gate.hello(asked, remote), await _body(request, Hello))
        )

    async def _join(self, request: web.Request) -> web.Response:
        return _json(await self._at_the_gate(self._gate.join, await _body(request, Join)))

    async def _done(self, request: web.Request) -> web.Response:
        await self._at_the_gate(self._gate.done, await _body(request, Done))
        return web.json_response({})

    async def _at_the_gate(self, step: Callable[[Body], Answer], body: Body) -> Answer:
        """On a thread, as it waits for the disk, which must not hold up heartbeats; one after the other, so that two
        that come with one secret are told apart."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(step, body)

    async def _revoked(self, request: web.Request) -> web.Response:
        """For the other node only."""
        transport = request.transport
        connection = None if transport is None else transport.get_extra_info("ssl_object")
        certificate = (None if connection is None else connection.getpeercert()) or {}
        if ("DNS", self._peer_name) not in certificate.get("subjectAltName", ()):
            raise Refused(403, "Forbidden", "only the other node is told")
        return _json(RevokedAnswer(ends=dict(self._known_revoked())))

    # -- people ----------------------------------------------------------------------------------------------------

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(body=_page("credential.html"), content_type="text/html", charset="utf-8")

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name == "credential.js":
            return web.Response(body=_page(name), content_type="text/javascript", charset="utf-8")
        if name not in _SHARED:
            raise web.HTTPNotFound(text=f"there is no page {name!r}")
        return console_pages.static(name, request)

    async def _redeem(self, request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Refused(401, "LinkUnknown", "open the link itself: its last part is what is asked for")
        authority = await asyncio.to_thread(self._authority)
        made = await asyncio.to_thread(
            links.redeem, self._files, authority, self._facts.cluster, self._facts.cluster_id, token, self._wall()
        )
        self._log(
            "credential.downloaded", id=made.link.id, name=made.link.name, role=made.link.role, serial=made.file.serial
        )
        return web.json_response(
            {
                "cluster": self._facts.cluster,
                "name": made.link.name,
                "role": made.link.role,
                "pkcs12": base64.b64encode(made.file.pkcs12).decode(),
                "password": made.file.password,
                "caPem": authority.certificate_pem,
                "expiresAt": made.file.expires_at.isoformat(),
                "consoleUrls": console_urls(self._facts),
                "testUrl": test_url(self._facts),
            }
        )

    def _authority(self) -> Authority:
        found = self._files.load_authority()
        if found is None:
            raise Refused(503, "NoAuthority", "this node has no authority; use a link of the other one")
        return found


def console_urls(facts: PairFacts) -> list[str]:
    """The virtual IP first: whichever node serves answers there."""
    nodes = [place.host_name or place.address for place in facts.nodes.values()]
    names = [facts.virtual_name, *nodes] if facts.virtual_name else nodes
    return [f"https://{name}:{CONSOLE_PORT}/" for name in names]


def test_url(facts: PairFacts) -> str | None:
    return None if facts.virtual_name is None else f"https://{facts.virtual_name}:{CONSOLE_PORT}/mosaic"


def link_url(facts: PairFacts, token: str) -> str:
    place = facts.nodes[facts.node]
    return f"https://{place.host_name or place.address}:{ADMISSION_PORT}/#/credential/{token}"


@cache
def _page(name: str) -> bytes:
    return (PAGES / name).read_bytes()


async def _body(request: web.Request, model: type[Body]) -> Body:
    try:
        return model.model_validate_json(await read_body(request))
    except ValidationError as failure:
        raise Refused(400, "BadRequest", complaint(failure)) from None


def _json(answer: BaseModel) -> web.Response:
    return web.Response(text=answer.model_dump_json(by_alias=True), content_type="application/json")
