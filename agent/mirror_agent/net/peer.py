"""Heartbeats between the two nodes over mutual TLS, on every configured path at the same time.

Problem: who is alive, in which role and epoch, and for how long does it promise not to take over. One broken path must
not look like a dead peer.
Guarantee: an answer is made at the moment the heartbeat is handled, so a promise is never older than its message; the
sender counts it from before it sent. Each path has a connection of its own and each answer counts; only what is newer
than everything heard before, on whatever path, becomes a fact. Peers are identified by the SAN of their certificate
under the cluster's own CA.
Limits: MAX_PEERS connections; one heartbeat in flight on each path.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.core.events import Beat
from mirror_agent.core.model import Instant
from mirror_agent.eventlog import RecordEvent
from mirror_agent.net.peer_wire import (
    MAX_LINE_BYTES,
    Freshness,
    Message,
    ProtocolError,
    Stamp,
    Switch,
    decode,
    encode,
)

MAX_PATHS: Final = 4
# Each path once, and once more while a broken connection has not been noticed here yet.
MAX_PEERS: Final = 2 * MAX_PATHS


def server_name(node: str, cluster_id: str) -> str:
    """The name in a node's certificate: `<node>.<cluster id>.mirror`."""
    return f"{node}.{cluster_id}.mirror"


def tls_context(*, server: bool, certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Mutual TLS 1.3 under the cluster's CA only."""
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    return context


@dataclass(frozen=True)
class Dialogue:
    """What this node says to its peer and what it hears; shared by the server and the clients of all paths."""

    cluster_id: str
    peer: str
    boot: str
    beat: Callable[[], Beat]
    # A heartbeat of the peer that is news.
    hear: Callable[[Beat], None]
    # Our answer to a heartbeat of the peer, news or not: our own state, and the promise.
    reply: Callable[[Beat], tuple[Beat, float]]
    # The peer's answer, when our heartbeat was sent, and the promise.
    answered: Callable[[Beat, Instant, float], None]
    failover: Callable[[], Switch]
    learn_failover: Callable[[Switch], None]
    log: RecordEvent
    clock: Clock = BOOT_CLOCK
    freshness: Freshness = field(default_factory=Freshness)

    def compose(self, sequence: int, beat: Beat, promise_s: float = 0.0) -> bytes:
        stamp = Stamp(self.boot, self.clock.now_s())
        return encode(self.cluster_id, Message(sequence, beat, stamp, self.failover(), promise_s))

    def read(self, line: bytes) -> Message:
        return decode(line, self.cluster_id, self.peer)


class PeerServer:
    """Answers the peer's heartbeats on port 8888."""

    def __init__(self, dialogue: Dialogue, *, context: ssl.SSLContext, host: str, port: int, idle_s: float) -> None:
        self._dialogue = dialogue
        self._context = context
        self._host = host
        self._port = port
        self._idle_s = idle_s
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        """Listen; answers the port."""
        self._server = await asyncio.start_server(
            self._serve, self._host, self._port, ssl=self._context, limit=MAX_LINE_BYTES, reuse_address=True
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._writers):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._writers) >= MAX_PEERS:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            self._check_certificate(writer)
            while True:
                async with asyncio.timeout(self._idle_s):
                    line = await reader.readline()
                if not line:
                    return
                writer.write(self._reply(self._dialogue.read(line)))
                await writer.drain()
        except ProtocolError as error:
            self._dialogue.log("peer.refused", reason=str(error))
        except (OSError, TimeoutError, ValueError):
            return  # the peer went away or fell silent; its silence is seen where heartbeats are counted
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    def _reply(self, message: Message) -> bytes:
        dialogue = self._dialogue
        dialogue.learn_failover(message.failover)
        if dialogue.freshness.is_news(message.stamp):
            dialogue.hear(message.beat)
        mine, promise_s = dialogue.reply(message.beat)
        return dialogue.compose(message.sequence, mine, promise_s)

    def _check_certificate(self, writer: asyncio.StreamWriter) -> None:
        certificate = writer.get_extra_info("peercert") or {}
        names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
        expected = server_name(self._dialogue.peer, self._dialogue.cluster_id)
        if expected not in names:
            raise ProtocolError(f"certificate for {names}, expected {expected!r}")


class PeerClient:
    """One path: sends a heartbeat every `heartbeat_s`, and at once when poked. `context` is asked for each connection,
    so that a renewed certificate counts from the next one."""

    def __init__(
        self,
        dialogue: Dialogue,
        *,
        address: str,
        port: int,
        context: Callable[[], ssl.SSLContext],
        heartbeat_s: float,
        deadline_s: float,
    ) -> None:
        self.address = address
        self._dialogue = dialogue
        self._port = port
        self._context = context
        self._heartbeat_s = heartbeat_s
        self._deadline_s = deadline_s
        self._poked = asyncio.Event()
        self._failure = "not tried yet"

    @property
    def failure(self) -> str:
        """Why this path is down; "" while it answers."""
        return self._failure

    def poke(self) -> None:
        self._poked.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._converse()
            except (OSError, TimeoutError, ProtocolError, ValueError) as error:
                self._note(f"{type(error).__name__}: {error}".rstrip(": "))
            await self._pause()

    async def _converse(self) -> None:
        dialogue = self._dialogue
        async with asyncio.timeout(self._deadline_s):
            reader, writer = await asyncio.open_connection(
                self.address,
                self._port,
                ssl=self._context(),
                server_hostname=server_name(dialogue.peer, dialogue.cluster_id),
                limit=MAX_LINE_BYTES,
            )
        try:
            sequence = 0
            while True:
                sequence += 1
                sent_at = Instant(dialogue.clock.now_s())
                writer.write(dialogue.compose(sequence, dialogue.beat()))
                async with asyncio.timeout(self._deadline_s):
                    await writer.drain()
                    line = await reader.readline()
                if not line:
                    raise ProtocolError("the peer closed the connection")
                self._heard(dialogue.read(line), sequence, sent_at)
                await self._pause()
        finally:
            writer.transport.abort()

    def _heard(self, message: Message, sequence: int, sent_at: Instant) -> None:
        if message.sequence != sequence:
            raise ProtocolError(f"answer {message.sequence} to heartbeat {sequence}")
        self._note("")
        self._dialogue.learn_failover(message.failover)
        if self._dialogue.freshness.is_news(message.stamp):
            self._dialogue.answered(message.beat, sent_at, message.promise_s)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._heartbeat_s):
                await self._poked.wait()
        self._poked.clear()

    def _note(self, failure: str) -> None:
        """Log a change of the path's condition, not every failed attempt."""
        before, self._failure = self._failure, failure
        if failure.partition(":")[0] != before.partition(":")[0]:
            self._dialogue.log("peer.unreachable" if failure else "peer.reached", path=self.address, reason=failure)


class PeerPaths:
    """All paths to the peer, at the same time; the first answer counts."""

    def __init__(self, clients: tuple[PeerClient, ...]) -> None:
        assert 1 <= len(clients) <= MAX_PATHS, f"{len(clients)} paths to the peer; 1 to {MAX_PATHS} are possible"
        self._clients = clients

    def poke(self) -> None:
        for client in self._clients:
            client.poke()

    def conditions(self) -> dict[str, str]:
        """Per address of the peer: why it does not answer there, or ""."""
        return {client.address: client.failure for client in self._clients}

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for client in self._clients:
                group.create_task(client.run(), name=f"peer-{client.address}")
