"""The state machine of one mirror process: stopped, primary or replica, and the supervisor's commands between them.

Commands are carried out one at a time, except `abort` and `exit`, which interrupt whatever is running. Each command
checks its state first and says what it found; a command that fails leaves the state it names in its error.

Safety rules kept here: a copy marked inconsistent is never mounted; a role is recorded (with its epoch, fsynced) before
it is taken; the point of a clean hand-over is erased before the first change after it; solo is reached only by
`become_primary(paired=False)`, `release`, or a `require_peer` that never succeeded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from mirror_agent.mirror import files, limits, wire
from mirror_agent.mirror.config import MirrorConfig
from mirror_agent.mirror.estate import Estate
from mirror_agent.mirror.inodes import Root
from mirror_agent.mirror.listener import ReplicaListener
from mirror_agent.mirror.primary import Primary
from mirror_agent.mirror.roots import close_roots, open_roots
from mirror_agent.mirror.snapshot import Snapshot
from mirror_agent.mirror.state import Point, StateStore
from mirror_agent.mirror.status import MirrorError, MirrorStatus
from mirror_agent.mirror.stream import Stream
from mirror_agent.mirror.succession import inherit
from mirror_agent.mirror.wire import Op

log: Final = logging.getLogger(__name__)

_SEAL_FOR_ABORT_S: Final = 0.5 * limits.ABORT_S


class Engine:
    """One per process. `on_change` is called from any thread when the status changed."""

    def __init__(self, config: MirrorConfig, on_change: Callable[[], None], estate: Estate | None = None) -> None:
        self._config = config
        self._estate = estate
        self._on_change = on_change
        self._state = StateStore(config.state_dir, config.cluster_id)
        self._command = threading.Lock()
        self._mode = "stopped"
        self._error: str | None = None
        self._primary: Primary | None = None
        self._listener: ReplicaListener | None = None
        self._roots: list[Root] = []
        self._snapshot = Snapshot(config, self._state)

    # -- status ----------------------------------------------------------------------------------------------------

    def status(self) -> MirrorStatus:
        return self._snapshot.take(self._mode, self._error, self._primary, self._listener)

    # -- roles -----------------------------------------------------------------------------------------------------

    def _need(self, command: str, *modes: str) -> None:
        if self._mode not in modes:
            raise MirrorError(f"{command}: the engine is {self._mode}, this needs {' or '.join(modes)}")

    def _rise(self, command: str, epoch: int) -> None:
        own = self._state.generation.epoch
        if epoch < own:
            raise MirrorError(
                f"{command}: epoch {epoch} is lower than this node's {own}; read the witness record again"
            )

    def become_primary(self, *, epoch: int, paired: bool) -> None:
        with self._command:
            self._need("become_primary", "stopped")
            self._rise("become_primary", epoch)
            if self._state.inconsistent:
                raise MirrorError(
                    f"become_primary: this copy is in the middle of a resync ({self._state.marker_path}); promote the "
                    "other node, or remove the marker file as an explicit override"
                )
            expected = self._state.generation.point
            if paired and expected is None:
                raise MirrorError(
                    "become_primary: no clean hand-over is recorded here, so the peer is not known to be identical; "
                    "publish this node alone and start with paired=False"
                )
            roots = open_roots(self._config, self._state, serving=True)
            self._state.record(epoch=epoch, role="primary", point=None)
            self._error = None
            primary = Primary(
                self._config,
                self._state,
                roots,
                expected=expected if paired else None,
                on_change=self._on_change,
                estate=self._estate,
            )
            try:
                primary.start()
            except OSError as error:
                self._take_down(primary)
                self._state.record(epoch=epoch, role="none", point=expected)  # nothing was changed
                raise MirrorError(f"become_primary: mounting failed: {error}") from error
            self._primary = primary
            self._set_mode("primary")

    def reattach(self) -> None:
        """Takes over from an engine that died as primary; afterwards as after a lost link, in the epoch recorded."""
        with self._command:
            self._need("reattach", "stopped")
            if self._estate is None or self._state.generation.role != "primary":
                raise MirrorError(f"reattach: this node's recorded role is {self._state.generation.role}")
            inheritance = inherit(self._estate, self._config)
            primary = Primary(
                self._config,
                self._state,
                inheritance.roots,
                expected=None,
                on_change=self._on_change,
                estate=self._estate,
                inheritance=inheritance,
            )
            try:
                primary.start()
            except OSError as error:
                self._take_down(primary)
                raise MirrorError(f"reattach: the mounts cannot be taken over: {error}") from error
            self._primary = primary
            log.warning(
                "mirror: took over from an engine that died, %d inodes", sum(f.table.slots.used for f in primary.fronts)
            )
            self._set_mode("primary")

    def become_replica(self, *, epoch: int) -> None:
        with self._command:
            self._need("become_replica", "stopped", "replica")
            self._rise("become_replica", epoch)
            if self._listener is not None:
                self._state.record(epoch=epoch, role="replica", point=self._state.generation.point)
                return
            self._roots = open_roots(self._config, self._state, serving=False)
            self._state.record(epoch=epoch, role="replica", point=self._state.generation.point)
            self._error = None
            try:
                self._listener = ReplicaListener(self._config, self._roots, self._state, self._on_change)
            except OSError as error:
                self._close_replica()
                raise MirrorError(
                    f"become_replica: listening on {self._config.listen_address}:{self._config.port} failed: {error}"
                ) from error
            self._set_mode("replica")

    def seal(self, *, epoch: int) -> None:
        with self._command:
            self._need("seal", "replica", "stopped")
            self._rise("seal", epoch)
            if self._listener is None:
                self._state.record_epoch(epoch)
                return
            if not self._listener.seal(epoch, self._config.limits.barrier_timeout_s):
                raise MirrorError(
                    "seal: applying what was received did not end in time; the disk of this node is stuck"
                )
            for root in self._roots:
                files.syncfs(root.fd)
            self._close_replica()
            self._set_mode("stopped")

    def _close_replica(self) -> None:
        self._listener = None
        close_roots(self._roots)
        self._roots = []

    # -- verify ----------------------------------------------------------------------------------------------------

    def verify(self, *, repair: bool, rate_bytes_per_s: float) -> None:
        """Begins to compare the live replica with this copy; the status tells how far it is and how it ended."""
        with self._command:  # a hand-over ends the verify that is running, and none begins in its middle
            primary = self._acting("verify")
            primary.verification.start(repair=repair, rate_bytes_per_s=rate_bytes_per_s)

    def resync(self) -> None:
        """Lets the replica go, so that it comes back through a resync; if the pair acknowledges together, the
        supervisor first publishes this node alone."""
        with self._command:
            primary = self._acting("resync")
            if primary.connector.live_stream() is None:
                raise MirrorError(f"resync: the link is {primary.connector.link}, there is no live replica to let go")
            primary.connector.compare_everything()
            primary.connector.cut("an operator asked for a full resync")

    def verify_stop(self) -> None:
        primary = self._acting("verify_stop")
        if not primary.verification.stop("an operator stopped it", self._config.limits.barrier_timeout_s):
            raise MirrorError("verify_stop: the verify does not end; a disk is stuck")

    # -- the primary's commands --------------------------------------------------------------------------------------

    def _acting(self, command: str) -> Primary:
        self._need(command, "primary")
        primary = self._primary
        assert primary is not None
        return primary

    def require_peer(self, *, epoch: int) -> None:
        with self._command:
            primary = self._acting("require_peer")
            self._rise("require_peer", epoch)
            stream = primary.connector.live_stream()
            if stream is None:
                raise MirrorError(f"require_peer: the link is {primary.connector.link}, it must be live")
            if epoch > self._state.generation.epoch:
                self._raise_epoch(stream, epoch)
            was_paired = primary.outlet.paired
            primary.pair()
            if primary.flush_both(stream, Op.BARRIER):
                return
            if not was_paired:
                # It never became a pair: the record still says this node alone.
                primary.release()
                primary.connector.resume()
            raise MirrorError(f"require_peer: the link was lost: {stream.lost}")

    def _raise_epoch(self, stream: Stream | None, epoch: int) -> None:
        self._state.record_epoch(epoch)
        timeout_s = self._config.limits.barrier_timeout_s
        if stream is not None and not stream.raise_epoch(epoch, timeout_s):
            raise MirrorError(f"epoch {epoch} is recorded here, but the link was lost: {stream.lost}")

    def release(self, *, epoch: int) -> None:
        with self._command:
            primary = self._acting("release")
            self._rise("release", epoch)
            self._state.record_epoch(epoch)
            # A peer that is out of the in-sync set comes back through a resync, also if its link has not broken yet.
            primary.connector.cut(f"released: this node goes on alone in epoch {epoch}")
            primary.release()
            primary.connector.resume()
            log.warning("mirror: released, acknowledging alone in epoch %d", epoch)
            self._on_change()

    def set_epoch(self, *, epoch: int) -> None:
        with self._command:
            self._rise("set_epoch", epoch)
            primary = self._primary
            stream = None if primary is None else primary.connector.stream
            self._raise_epoch(stream if stream is not None and stream.lost is None else None, epoch)

    def drain(self) -> None:
        with self._command:
            primary = self._acting("drain")
            paired = primary.outlet.paired
            stream = primary.connector.live_stream()
            if paired and stream is None:
                raise MirrorError(
                    f"drain: the link is {primary.connector.link}: the peer cannot confirm; nothing was changed, "
                    "still primary"
                )
            if stream is not None and not primary.flush_both(stream, Op.BARRIER):
                raise MirrorError(f"drain: the link was lost while flushing ({stream.lost}); still primary")
            primary.unmount()
            point = self._say_goodbye(primary, stream)
            for root in primary.roots:
                files.syncfs(root.fd)
            self._state.record(epoch=self._state.generation.epoch, role="none", point=point)
            self._take_down(primary)
            if paired and point is None:
                raise MirrorError(
                    "drain: unmounted and flushed here, but the peer did not confirm the end of the stream"
                )

    def _say_goodbye(self, primary: Primary, stream: Stream | None) -> Point | None:
        """The point at which both nodes stand, if the replica is live and confirms it."""
        if stream is None:
            return None
        primary.send_times()
        seq = stream.append(Op.BYE, flags=wire.WAITED | wire.SYNC)
        if seq and stream.wait_flushed(seq, self._config.limits.barrier_timeout_s):
            return Point(primary.connector.stream_id, seq)
        return None

    def abort(self) -> None:
        """Not serialised with the other commands: those in progress see their streams and mounts end."""
        primary = self._primary
        if primary is not None:
            self._take_down(primary)
        door = self._listener
        if door is not None and self._mode == "replica":
            door.close_door()
            session = door.session
            if session is not None and not session.seal(_SEAL_FOR_ABORT_S):
                raise MirrorError("abort: applying did not end; this process must be ended")
            self._close_replica()
            self._set_mode("stopped")

    def _take_down(self, primary: Primary) -> None:
        ended = primary.take_down()
        if self._primary is primary:
            self._primary = None
        if not ended:
            # A thread is stuck in the disk: this process cannot be used again, and must not acknowledge anything.
            self._error = "a thread did not end after the mounts were aborted; end this process"
        self._set_mode("stopped" if ended else "failed")

    def _set_mode(self, mode: str) -> None:
        log.info("mirror: mode %s -> %s in epoch %d", self._mode, mode, self._state.generation.epoch)
        self._mode = mode
        self._on_change()
