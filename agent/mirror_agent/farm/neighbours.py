"""What the nodes of a farm know of one another: who serves, asked of each once in a while over mutual TLS.

Problem: nothing of a farm depends on the other nodes, but a node that is to be maintained should not leave while nobody
else serves, and an operator on one node wants to see the others.
Guarantee: only a certificate of the cluster's CA with the name of a node of this farm is answered, and the asked node
is known by the name in its certificate. What was heard longer than `suspect_s` ago says nothing any more.
Limits: one question in flight a neighbour; a silent or wrong answer is a reason in the status, never an event.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import aiohttp
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import HEARTBEAT_PORT, MAX_SENTENCE_CHARS, NodeName, Peer, Phase, Role
from mirror_agent.core.model import NEVER
from mirror_agent.net.https import read_bounded
from mirror_agent.net.peer import server_name
from mirror_agent.web.listening import Listening, listen

PATH: Final = "/neighbours/v1/state"
NOT_ASKED: Final = "not asked yet"
_KEEPALIVE_S: Final = 15.0


class Told(BaseModel):
    """A node's word on itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    node: NodeName
    role: Role
    phase: Phase
    serves: bool
    sentence: str = Field(default="", max_length=MAX_SENTENCE_CHARS)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """`failure` is why the last question was not answered, "" if it was."""

    name: NodeName
    address: str
    told: Told | None = None
    heard_at: float = NEVER
    failure: str = NOT_ASKED


class NeighbourServer:
    """Answers the others; the loop's own word at the moment of the question."""

    def __init__(
        self,
        word: Callable[[], Told],
        *,
        names: Sequence[str],
        context: ssl.SSLContext,
        host: str,
        port: int = HEARTBEAT_PORT,
    ) -> None:
        """`names`: the DNS names in the certificates of the other nodes; `context` demands a client certificate."""
        self._word = word
        self._names = frozenset(names)
        self._context = context
        self._host = host
        self._port = port
        self._open: Listening | None = None

    async def start(self) -> int:
        """Listen; answers the port. OSError when it is taken."""
        application = web.Application(client_max_size=1024)
        application.router.add_get(PATH, self._answer)
        try:
            self._open = await listen(application, self._host, self._port, keepalive_s=_KEEPALIVE_S, tls=self._context)
        except OSError as error:
            raise OSError(
                error.errno, f"cannot listen for the other nodes on {self._host}:{self._port}: {error}"
            ) from None
        return self._open.port

    async def stop(self) -> None:
        if self._open is not None:
            listening, self._open = self._open, None
            await listening.stop()

    async def _answer(self, request: web.Request) -> web.Response:
        if not self._names & _dns_names(request):
            return web.Response(status=403, text="only nodes of this farm are answered\n")
        return web.json_response(self._word().model_dump(mode="json"))


class Neighbours:
    def __init__(
        self,
        peers: Sequence[Peer],
        *,
        cluster_id: str,
        context: Callable[[], ssl.SSLContext],
        every_s: float,
        suspect_s: float,
        changed: Callable[[], None] = lambda: None,
        clock: Clock = BOOT_CLOCK,
        port: int = HEARTBEAT_PORT,
    ) -> None:
        """`context` as `NodeTls.peer_client`; `changed`: others serve than before."""
        self._cluster_id = cluster_id
        self._context = context
        self._every_s = every_s
        self._suspect_s = suspect_s
        self._changed = changed
        self._served: tuple[NodeName, ...] | None = None
        self._clock = clock
        self._port = port
        self._known = {peer.name: Neighbour(peer.name, peer.addresses[0]) for peer in peers}

    def known(self) -> tuple[Neighbour, ...]:
        return tuple(self._known.values())

    def alive(self, neighbour: Neighbour) -> bool:
        """Its word is fresh."""
        return self._clock.now_s() - neighbour.heard_at < self._suspect_s

    @property
    def asked(self) -> bool:
        """Each of them, at least once, whether or not it answered."""
        return all(one.failure != NOT_ASKED for one in self.known())

    def serving(self) -> tuple[NodeName, ...]:
        """Who said a moment ago that it takes clients, sorted."""
        names = (one.name for one in self.known() if self.alive(one) and one.told is not None and one.told.serves)
        return tuple(sorted(names))

    async def run(self) -> None:
        """Until cancelled."""
        timeout = aiohttp.ClientTimeout(total=self._suspect_s)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            for name in self._known:
                group.create_task(self._follow(session, name), name=f"neighbour-{name}")

    async def _follow(self, session: aiohttp.ClientSession, name: NodeName) -> None:
        while True:
            neighbour = self._known[name]
            try:
                told = await self._ask(session, neighbour)
                self._known[name] = Neighbour(name, neighbour.address, told, self._clock.now_s(), "")
            except _Unheard as error:
                self._known[name] = replace(neighbour, failure=str(error))
            self._notice()
            await self._clock.sleep(self._every_s)

    def _notice(self) -> None:
        """Also that somebody has been silent for too long, which no answer tells."""
        if self.asked and (serving := self.serving()) != self._served:
            self._served = serving
            self._changed()

    async def _ask(self, session: aiohttp.ClientSession, neighbour: Neighbour) -> Told:
        url = f"https://{neighbour.address}:{self._port}{PATH}"
        name = server_name(neighbour.name, self._cluster_id)
        try:
            async with session.get(url, ssl=self._context(), server_hostname=name, allow_redirects=False) as answer:
                body = await read_bounded(answer)
                if answer.status != 200:
                    raise _Unheard(f"answered {answer.status}")
            return Told.model_validate_json(body)
        except TimeoutError:
            raise _Unheard(f"no answer in {self._suspect_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Unheard(str(error) or type(error).__name__) from None
        except ValidationError as error:
            raise _Unheard(f"not understood: {error.error_count()} errors") from None


class _Unheard(Exception):
    """Why a neighbour said nothing."""


def _dns_names(request: web.Request) -> frozenset[str]:
    transport = request.transport
    connection: Any = None if transport is None else transport.get_extra_info("ssl_object")
    certificate = None if connection is None else connection.getpeercert()
    alternatives = (certificate or {}).get("subjectAltName", ())
    return frozenset(value for kind, value in alternatives if kind == "DNS")
