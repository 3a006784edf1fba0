"""The pair's own service as a part of the running agent: its port is open only while something is offered.

Something is offered while the other node is waited for, while a link has not ended, and while a certificate is revoked
that the other node must learn of. What `mirrorctl` writes below `<state>/pair` is seen within LOOK_S; revoked serials
of both nodes go to the console's list (`web.revoked`). A failure of any of it is recorded and tried again: nothing here
decides about roles.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Final

import aiohttp
from pydantic import BaseModel, StringConstraints

from mirror_agent.authority import node_dns_name
from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import MAX_REVOKED_SERIALS
from mirror_agent.eventlog import RecordEvent
from mirror_agent.net.https import read_bounded
from mirror_agent.net.node_certificate import CertificateRefused, fingerprint, load_node_certificate
from mirror_agent.pair.admission import Gate, load_admission
from mirror_agent.pair.documents import ADMISSION_PORT, PairFacts
from mirror_agent.pair.files import PairFiles
from mirror_agent.pair.links import load_all, revoked_serials
from mirror_agent.pair.server import PairServer

LOOK_S: Final = 2.0
ASK_PEER_EVERY: Final = 5
PEER_TIMEOUT_S: Final = 5.0
MAX_HEARD: Final = 4 * MAX_REVOKED_SERIALS


def wall_clock() -> datetime:
    return datetime.now(UTC)


class _Revoked(BaseModel):
    """What the other node answers."""

    serials: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9A-F]{1,40}$")], ...]


class PairService:
    """`run` until cancelled."""

    def __init__(
        self,
        files: PairFiles,
        facts: PairFacts,
        *,
        server_tls: ssl.SSLContext,
        client_tls: Callable[[], ssl.SSLContext],
        revoked: Callable[[tuple[str, ...]], None],
        log: RecordEvent,
        clock: Clock = BOOT_CLOCK,
        wall: Callable[[], datetime] = wall_clock,
        host: str = "0.0.0.0",
        port: int = ADMISSION_PORT,
        peer_port: int = ADMISSION_PORT,
    ) -> None:
        """`revoked` takes the whole list."""
        self._files = files
        self._facts = facts
        self._client_tls = client_tls
        self._take = revoked
        self._log = log
        self._clock = clock
        self._wall = wall
        self._peer_name = node_dns_name(facts.peer, facts.cluster_id)
        self._peer_url = f"https://{facts.nodes[facts.peer].address}:{peer_port}/pair/v1/revoked"
        self._peers = self._load_peers()
        self._known: tuple[str, ...] = ()
        self._failure = ""
        gate = Gate(files, facts, presented=self._presented, now_s=clock.now_s, wall=wall, log=log)
        self.server = PairServer(
            files,
            facts,
            gate,
            tls=server_tls,
            peer_name=self._peer_name,
            revoked=lambda: self._known,
            wall=wall,
            log=log,
            host=host,
            port=port,
        )

    async def run(self) -> None:
        try:
            turn = 0
            while True:
                try:
                    await self._look(ask_peer=turn % ASK_PEER_EVERY == 0)
                    self._failure = ""
                except Exception as error:  # noqa: BLE001 - whatever is wrong with access must not end the agent
                    self._failed(error)
                turn += 1
                await self._clock.sleep(LOOK_S)
        finally:
            await self.server.stop()

    async def _look(self, *, ask_peer: bool) -> None:
        own = await asyncio.to_thread(revoked_serials, self._files, self._wall())
        if ask_peer:
            await self._ask_peer()
        self._known = tuple(sorted({*own, *self._peers}))
        self._take(self._known)
        wanted = bool(self._known) or await asyncio.to_thread(self._offers)
        if wanted and not self.server.listening:
            await self.server.start()
            self._log("pair.port-opened")
        elif not wanted and self.server.listening:
            await self.server.stop()
            self._log("pair.port-closed")

    def _offers(self) -> bool:
        now, admission = self._wall(), load_admission(self._files)
        if admission is not None and now < admission.ends_at:
            return True
        return any(link.answers(now) for link in load_all(self._files))

    async def _ask_peer(self) -> None:
        """A closed port has nothing to tell; what was heard before stays in force."""
        try:
            connector = aiohttp.TCPConnector(ssl=self._client_tls())
            timeout = aiohttp.ClientTimeout(total=PEER_TIMEOUT_S)
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                async with session.get(
                    self._peer_url, server_hostname=self._peer_name, allow_redirects=False
                ) as answer:
                    body = await read_bounded(answer)
                    if answer.status != 200:
                        return
        except (aiohttp.ClientError, OSError, TimeoutError):
            return
        # Never fewer: a machine that was made anew knows of no revocation until it has heard of it from here.
        heard = self._peers | set(_Revoked.model_validate_json(body).serials)
        if len(heard) > MAX_HEARD:
            raise ValueError(f"{len(heard)} revoked certificates; more than {MAX_HEARD} are not remembered")
        if heard != self._peers:
            self._peers = heard
            content = json.dumps(sorted(heard)).encode()
            await asyncio.to_thread(self._files.write, self._files.peer_revoked, content)

    def _load_peers(self) -> frozenset[str]:
        try:
            return frozenset(str(serial) for serial in json.loads(self._files.peer_revoked.read_bytes()))
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, TypeError) as error:
            self._log("pair.revoked-list-unreadable", error=str(error))
            return frozenset()

    def _presented(self) -> str:
        """The certificate of the next handshake; one that was made before a renewal fails, and is made again."""
        try:
            return fingerprint(load_node_certificate(self._files.paths).certificate)
        except CertificateRefused as error:
            raise OSError(f"this node's certificate cannot be read: {error}") from None

    def _failed(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if reason != self._failure:
            self._log("pair.service-failed", reason=reason)
        self._failure = reason
