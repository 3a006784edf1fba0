"""The pair's own service as a part of the running agent: its port is open only while something is offered.

Something is offered while the other node is waited for, while a link has not ended, and while a certificate is revoked
that would be good otherwise, for the other node must learn of it. What `mirrorctl` writes below `<state>/pair` is seen
within LOOK_S: orders go into the history, revoked serials of both nodes to the console's list (`web.revoked`). A
failure of any of it is recorded and tried again, and holds up nothing else: nothing here decides about roles.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final

import aiohttp
from pydantic import ValidationError

from mirror_agent.authority import node_dns_name
from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.eventlog import RecordEvent
from mirror_agent.net.https import read_bounded
from mirror_agent.net.node_certificate import CertificateRefused, fingerprint, load_node_certificate
from mirror_agent.pair import orders
from mirror_agent.pair.admission import Gate, load_admission
from mirror_agent.pair.documents import ADMISSION_PORT, PairFacts, complaint
from mirror_agent.pair.files import PairFiles
from mirror_agent.pair.links import Survey, revoked_serials, survey
from mirror_agent.pair.revocations import Revocations, RevokedAnswer
from mirror_agent.pair.server import PairServer
from mirror_agent.redaction import redact_text

LOOK_S: Final = 2.0
ASK_PEER_S: Final = 10.0
PEER_TIMEOUT_S: Final = 5.0


def wall_clock() -> datetime:
    return datetime.now(UTC)


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
        self._revocations = Revocations(files, log)
        self._unreadable: tuple[str, ...] = ()
        self._failures: dict[str, str] = {}
        gate = Gate(files, facts, presented=self._presented, now_s=clock.now_s, wall=wall, log=log)
        self.server = PairServer(
            files,
            facts,
            gate,
            tls=server_tls,
            peer_name=self._peer_name,
            revoked=lambda: self._revocations.known(wall()),
            wall=wall,
            log=log,
            host=host,
            port=port,
        )

    async def run(self) -> None:
        asking = asyncio.create_task(self._ask_on(), name="pair-peer")
        try:
            while True:
                await self._look()
                await self._clock.sleep(LOOK_S)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await self.server.stop()

    async def _look(self) -> None:
        """Revocations first; what is wrong with one thing holds up no other one."""
        known: Survey | None = None
        async with self._part("links"):
            known = await asyncio.to_thread(survey, self._files)
            self._report_unreadable(known.unreadable)
            self._revocations.learn(revoked_serials(known, self._wall()), self._wall())
        async with self._part("list"):
            await self._save_and_publish()
        waiting = False
        async with self._part("admission"):
            waiting = await asyncio.to_thread(self._somebody_is_waited_for)
        offered = known is not None and any(link.answers(self._wall()) for link in known.links)
        async with self._part("orders"):
            await asyncio.to_thread(orders.record, self._files, self._log)
        async with self._part("port"):
            await self._open_or_close(waiting or offered or bool(self._revocations.known(self._wall())))

    async def _open_or_close(self, wanted: bool) -> None:
        if wanted and not self.server.listening:
            await self.server.start()
            self._log("pair.port-opened")
        elif not wanted and self.server.listening:
            await self.server.stop()
            self._log("pair.port-closed")

    async def _save_and_publish(self) -> None:
        """On the disk first, so that a restart refuses no fewer; in force also when the disk refuses (OSError)."""
        try:
            await self._revocations.save()
        finally:
            self._take(tuple(sorted(self._revocations.known(self._wall()))))

    def _somebody_is_waited_for(self) -> bool:
        admission = load_admission(self._files)
        return admission is not None and self._wall() < admission.ends_at

    async def _ask_on(self) -> None:
        """In a task of its own: an other node that does not answer delays nothing here."""
        while True:
            async with self._part("peer"):
                await self._ask_peer()
            await self._clock.sleep(ASK_PEER_S)

    async def _ask_peer(self) -> None:
        """A closed port has nothing to tell; what was heard before stays in force."""
        connector = aiohttp.TCPConnector(ssl=self._client_tls())
        timeout = aiohttp.ClientTimeout(total=PEER_TIMEOUT_S)
        try:
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                async with session.get(
                    self._peer_url, server_hostname=self._peer_name, allow_redirects=False
                ) as answer:
                    body = await read_bounded(answer)
        except aiohttp.ClientSSLError:
            raise
        except (aiohttp.ClientError, OSError, TimeoutError):
            return
        if answer.status != 200:
            raise OSError(
                f"{self._peer_url} answered {answer.status}: {redact_text(body[:300].decode(errors='replace'))}"
            )
        try:
            told = RevokedAnswer.model_validate_json(body).ends
        except ValidationError as error:
            raise OSError(f"{self._peer_url}: {complaint(error)}") from None
        self._revocations.learn(told, self._wall())
        await self._save_and_publish()

    def _report_unreadable(self, unreadable: tuple[str, ...]) -> None:
        for reason in unreadable:
            if reason not in self._unreadable:
                self._log("pair.file-unreadable", reason=reason)
        self._unreadable = unreadable

    @contextlib.asynccontextmanager
    async def _part(self, name: str) -> AsyncIterator[None]:
        """A failure is recorded, once as long as it is the same; the next turn tries again."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever is wrong with access must not end the agent
            reason = f"{type(error).__name__}: {error}"
            if reason != self._failures.get(name):
                self._log("pair.service-failed", part=name, reason=reason)
            self._failures[name] = reason
        else:
            self._failures.pop(name, None)

    def _presented(self) -> str:
        """The certificate of the next handshake; one that was made before a renewal fails, and is made again."""
        try:
            return fingerprint(load_node_certificate(self._files.paths).certificate)
        except CertificateRefused as error:
            raise OSError(f"this node's certificate cannot be read: {error}") from None
