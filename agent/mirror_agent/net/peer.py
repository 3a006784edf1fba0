"""Heartbeats between the two nodes: JSON lines over mutual TLS, each node a client of the other.

Problem: who is alive, in which role and epoch, and for how long does it promise not to take over.
Guarantee: an answer is made by `answer` at the moment the heartbeat is handled, so a promise is never older than its
message; the sender counts it from before it sent. Peers are identified by the SAN of their certificate under the
cluster's own CA. A message of another cluster, version or size ends the connection.
Limits: MAX_LINE_BYTES a message, MAX_PEERS connections; one heartbeat in flight at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.core.events import Beat
from mirror_agent.core.model import Instant
from mirror_agent.eventlog import RecordEvent

PROTOCOL: Final = 1
MAX_LINE_BYTES: Final = 4096
MAX_PEERS: Final = 4

_BEAT: Final = TypeAdapter(Beat)


class ProtocolError(Exception):
    """The other side does not speak this protocol, or is not who it should be."""


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


def _encode(cluster_id: str, sequence: int, beat: Beat, promise_s: float | None = None) -> bytes:
    body = asdict(beat) | {"record_in_sync": sorted(beat.record_in_sync)}
    message: dict[str, object] = {"v": PROTOCOL, "cluster": cluster_id, "seq": sequence, "beat": body}
    if promise_s is not None:
        message["promise_s"] = promise_s
    line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    assert len(line) <= MAX_LINE_BYTES, "a heartbeat grew over its limit"
    return line


def _decode(line: bytes, cluster_id: str, node: str) -> tuple[int, Beat, float]:
    try:
        message = json.loads(line)
        if message["v"] != PROTOCOL or message["cluster"] != cluster_id:
            raise ProtocolError(f"heartbeat of cluster {message['cluster']!r}, protocol {message['v']!r}")
        beat = _BEAT.validate_python(message["beat"])
        sequence, promise_s = int(message["seq"]), float(message.get("promise_s", 0.0))
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise ProtocolError(f"malformed heartbeat: {type(error).__name__}") from error
    if beat.node != node:
        raise ProtocolError(f"heartbeat of node {beat.node!r}, expected {node!r}")
    return sequence, beat, promise_s


class PeerServer:
    """Answers the peer's heartbeats on port 8888."""

    def __init__(
        self,
        *,
        cluster_id: str,
        peer: str,
        context: ssl.SSLContext,
        host: str,
        port: int,
        idle_s: float,
        answer: Callable[[Beat], tuple[Beat, float]],
        log: RecordEvent,
    ) -> None:
        self._cluster_id = cluster_id
        self._peer = peer
        self._context = context
        self._host = host
        self._port = port
        self._idle_s = idle_s
        self._answer = answer
        self._log = log
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, self._host, self._port, ssl=self._context, limit=MAX_LINE_BYTES, reuse_address=True
        )

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
                sequence, beat, _ = _decode(line, self._cluster_id, self._peer)
                mine, promise_s = self._answer(beat)
                writer.write(_encode(self._cluster_id, sequence, mine, promise_s))
                await writer.drain()
        except ProtocolError as error:
            self._log("peer.refused", reason=str(error))
        except (OSError, TimeoutError, ValueError):
            return  # the peer went away or fell silent; its silence is seen where heartbeats are counted
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    def _check_certificate(self, writer: asyncio.StreamWriter) -> None:
        certificate = writer.get_extra_info("peercert") or {}
        names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
        expected = server_name(self._peer, self._cluster_id)
        if expected not in names:
            raise ProtocolError(f"certificate for {names}, expected {expected!r}")


class PeerClient:
    """Sends a heartbeat every `heartbeat_s`, and at once when poked."""

    def __init__(
        self,
        *,
        cluster_id: str,
        peer: str,
        addresses: tuple[str, ...],
        port: int,
        context: ssl.SSLContext,
        heartbeat_s: float,
        deadline_s: float,
        beat: Callable[[], Beat],
        on_answer: Callable[[Beat, Instant, float], None],
        log: RecordEvent,
        clock: Clock = BOOT_CLOCK,
    ) -> None:
        self._cluster_id = cluster_id
        self._peer = peer
        self._addresses = addresses
        self._port = port
        self._context = context
        self._heartbeat_s = heartbeat_s
        self._deadline_s = deadline_s
        self._beat = beat
        self._on_answer = on_answer
        self._log = log
        self._clock = clock
        self._poked = asyncio.Event()
        self._failure = ""

    def poke(self) -> None:
        self._poked.set()

    async def run(self) -> None:
        """Until cancelled."""
        attempt = 0
        while True:
            address = self._addresses[attempt % len(self._addresses)]
            attempt += 1
            try:
                await self._converse(address)
            except (OSError, TimeoutError, ProtocolError, ValueError) as error:
                self._note(f"{address}: {type(error).__name__}: {error}")
            await self._pause()

    async def _converse(self, address: str) -> None:
        async with asyncio.timeout(self._deadline_s):
            reader, writer = await asyncio.open_connection(
                address,
                self._port,
                ssl=self._context,
                server_hostname=server_name(self._peer, self._cluster_id),
                limit=MAX_LINE_BYTES,
            )
        try:
            sequence = 0
            while True:
                sequence += 1
                sent_at = Instant(self._clock.now_s())
                writer.write(_encode(self._cluster_id, sequence, self._beat()))
                async with asyncio.timeout(self._deadline_s):
                    await writer.drain()
                    line = await reader.readline()
                if not line:
                    raise ProtocolError("the peer closed the connection")
                answered, beat, promise_s = _decode(line, self._cluster_id, self._peer)
                if answered != sequence:
                    raise ProtocolError(f"answer {answered} to heartbeat {sequence}")
                self._note("")
                self._on_answer(beat, sent_at, promise_s)
                await self._pause()
        finally:
            writer.transport.abort()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._heartbeat_s):
                await self._poked.wait()
        self._poked.clear()

    def _note(self, failure: str) -> None:
        """Log a change of the line's condition, not every failed attempt."""
        kind = failure.split(":", 2)[1] if failure else ""
        if kind != self._failure:
            self._failure = kind
            self._log("peer.unreachable" if failure else "peer.reached", reason=failure)
