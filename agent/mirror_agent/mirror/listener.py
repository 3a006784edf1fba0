"""The replica's door: accepts the primary's two connections, checks who it is, and runs one session at a time.

Guarantees: no byte reaches the files before certificate, cluster, node, paths and epoch are right; an older epoch is
refused with the reason; a newer session of the same or a later epoch first ends the old one (apply what was received,
then close), so two never apply together.
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from mirror_agent.mirror import handshake, limits, machine, tls, wire
from mirror_agent.mirror.config import MirrorConfig
from mirror_agent.mirror.handshake import HandshakeError, Hello, Welcome
from mirror_agent.mirror.inodes import Root
from mirror_agent.mirror.machine import boottime_s
from mirror_agent.mirror.quarantine import Quarantine
from mirror_agent.mirror.quarantine_store import Allowance
from mirror_agent.mirror.replica import ReplicaSession
from mirror_agent.mirror.roots import prove_checkpoints
from mirror_agent.mirror.state import StateStore
from mirror_agent.mirror.wire import Op, WireError

log: Final = logging.getLogger(__name__)

_HANDSHAKES_MAX: Final = 8
_SEAL_OLD_S: Final = 30.0


class ReplicaListener:
    """Listens as long as the node is a replica. `on_change` is called whenever the link changes."""

    def __init__(
        self, config: MirrorConfig, roots: list[Root], state: StateStore, on_change: Callable[[], None]
    ) -> None:
        self._config = config
        self._roots = roots
        self._state = state
        self._on_change = on_change
        self._lock = threading.Lock()
        self._session: ReplicaSession | None = None
        self._waiting: dict[str, ssl.SSLSocket] = {}
        self._handshakes = threading.BoundedSemaphore(_HANDSHAKES_MAX)
        self._closed = False
        self.had_session = False
        self._heard_s: float | None = None
        self.error: str | None = None
        self._allowance: Allowance | None = None
        family = socket.AF_INET6 if ":" in config.listen_address else socket.AF_INET
        self._socket = socket.create_server((config.listen_address, config.port), family=family, backlog=16)
        if not machine.SHUTDOWN_WAKES:
            self._socket.settimeout(limits.HEARTBEAT_S)  # to look whether the door is closed
        self._thread = threading.Thread(target=self._accept_all, name="replica-listen", daemon=True)
        self._thread.start()

    @property
    def session(self) -> ReplicaSession | None:
        return self._session

    @property
    def resync_rule(self) -> str:
        """By which the session's copy was, or is being, made equal; "" before."""
        session = self._session
        return session.plan.rule if session is not None and session.plan is not None else ""

    @property
    def quarantine_full(self) -> str:
        """Why the quarantine could not take what a resync had to keep; "" when the latest resync met no end of it."""
        allowance = self._allowance
        return "" if allowance is None or allowance.full is None else allowance.full

    def heard_age_s(self) -> float | None:
        """Also after the session ended: the age then goes on growing."""
        session = self._session
        if session is not None:
            self._heard_s = session.heard_s
        return None if self._heard_s is None else boottime_s() - self._heard_s

    def seal(self, epoch: int, timeout_s: float) -> bool:
        """Stops listening, applies what was received, refuses lower epochs; False if applying did not end in time."""
        self.close_door()
        with self._lock:
            session = self._session
        good = session is None or session.seal(timeout_s)
        if good:
            self._state.record_epoch(max(epoch, self._state.generation.epoch))
        return good

    def close_door(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # a listening socket is never connected, but it is woken all the same
                raise
        self._socket.close()
        with self._lock:
            for connection in self._waiting.values():
                connection.close()
            self._waiting.clear()

    def _accept_all(self) -> None:
        while not self._closed:
            try:
                raw, address = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._closed:
                    # Descriptors or memory are short, or the caller went away: the door stays open.
                    log.error("accepting on port %d failed: %s", self._config.port, error)
                    time.sleep(limits.RECONNECT_S)
                continue
            if not self._handshakes.acquire(blocking=False):
                raw.close()
                continue
            threading.Thread(target=self._greet, args=(raw, address), name="replica-greet", daemon=True).start()

    def _greet(self, raw: socket.socket, address: tuple[str, int]) -> None:
        connection: ssl.SSLSocket | None = None
        try:
            connection = tls.accept(tls.server_context(self._config), self._config, raw)
            frame = handshake.read_frame(connection)
            if frame.op == Op.HELLO:
                self._hello(connection, handshake.parse_hello(frame))
            elif frame.op == Op.ATTACH:
                self._attach(connection, wire.parse_text(frame.payload))
            else:
                raise WireError(f"operation {frame.op} opens no connection")
        except (OSError, WireError, HandshakeError, tls.PeerRefusedError) as error:
            log.warning("connection from %s refused: %s", address[0], error)
            if connection is not None:
                connection.close()
        except Exception:  # whatever a stranger sends, the next caller is greeted
            log.exception("connection from %s failed", address[0])
            if connection is not None:
                connection.close()
        finally:
            self._handshakes.release()

    def _hello(self, connection: ssl.SSLSocket, hello: Hello) -> None:
        own = self._state.generation.epoch
        problem = None
        if hello.cluster != self._config.cluster_id:
            problem = f"cluster {hello.cluster!r} is not {self._config.cluster_id!r}"
        elif hello.node != self._config.peer:
            problem = f"node {hello.node!r} is not the peer {self._config.peer!r}"
        elif hello.paths != tuple(entry.identity for entry in self._config.paths):
            problem = f"its replicated paths {list(hello.paths)} are not this node's"
        elif hello.epoch < own:
            problem = f"its epoch {hello.epoch} is lower than this node's {own}"
        elif self._closed:
            problem = "this node is sealed"
        if problem is not None:
            connection.sendall(wire.encode(Op.REFUSE, epoch=own, data=wire.text_payload(problem)))
            raise HandshakeError(problem)
        self._end_old_session()
        if hello.epoch > own:
            self._state.record_epoch(hello.epoch)
        generation = self._state.generation
        welcome = Welcome(
            self._config.node,
            generation.epoch,
            generation.point,
            self._state.inconsistent,
            prove_checkpoints(self._state, self._roots),
        )
        with self._lock:
            for waiting in self._waiting.values():
                waiting.close()
            self._waiting = {hello.stream: connection}
        connection.sendall(welcome.frame())

    def _end_old_session(self) -> None:
        session = self._session
        if session is not None and not session.seal(_SEAL_OLD_S):
            raise HandshakeError("the previous session has not finished applying")

    def _attach(self, acks: ssl.SSLSocket, stream_id: str) -> None:
        with self._lock:
            data = self._waiting.pop(stream_id, None)
            if data is None or self._closed or self._session is not None:
                raise HandshakeError(f"no stream {stream_id!r} is waiting for its second connection")
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            label = f"{stamp}-epoch{self._state.generation.epoch}-{stream_id[:8]}"
            data.settimeout(None)
            acks.settimeout(None)
            bounds = self._config.limits
            allowance = Allowance(
                self._config.quarantine_dir,
                max_bytes=bounds.quarantine_max_bytes,
                max_age_s=bounds.quarantine_max_age_s,
            )
            session = ReplicaSession(
                data,
                acks,
                stream_id=stream_id,
                roots=self._roots,
                state=self._state,
                quarantine=Quarantine(self._config.quarantine_dir, label, allowance),
                open_inodes_max=self._config.limits.open_inodes_max,
                on_link=self._on_change,
                on_end=self._ended,
            )
            self._allowance = allowance
            self._session = session
            self.had_session = True
            self.error = None
        acks.sendall(wire.encode(Op.WELCOME, epoch=self._state.generation.epoch))
        session.start()
        self._on_change()

    def _ended(self, session: ReplicaSession, reason: str) -> None:
        log.warning("replica: session %s ended at frame %d: %s", session.stream_id, session.position[0], reason)
        with self._lock:
            if self._session is session:
                self._heard_s = session.heard_s
                self._session = None
                self.error = reason
        self._on_change()


assert limits.MAX_ROOTS <= 15, "fids 1..15 are the roots"
