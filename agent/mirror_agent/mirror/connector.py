"""The primary's connection keeper: finds the replica, makes it identical, and keeps the stream fed.

One thread connects and resynchronises, one (the pump) sends what nobody waits for, heartbeats and file times, and one
(the watch) takes in answers and declares a silent or stuck replica lost. A lost stream is never resumed: while calls
are acknowledged solo a new one is opened and resynchronised; while they are paired nothing happens until the
supervisor decides (`release`, `abort`).
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from mirror_agent.mirror import handshake, limits, tls, wire
from mirror_agent.mirror.checkpointer import Checkpointer
from mirror_agent.mirror.config import MirrorConfig
from mirror_agent.mirror.front import Front
from mirror_agent.mirror.handshake import HandshakeError, Hello, PlanMessage, Welcome
from mirror_agent.mirror.inodes import Call, Descriptors
from mirror_agent.mirror.machine import boottime_s
from mirror_agent.mirror.outlet import Outlet
from mirror_agent.mirror.peer_watch import PeerWatch
from mirror_agent.mirror.resync import Resync
from mirror_agent.mirror.resync_choice import DISTRUSTED, RULES, Held, choose, floor_ns
from mirror_agent.mirror.resync_pace import Pace
from mirror_agent.mirror.resync_plan import Plan, Progress
from mirror_agent.mirror.resync_report import Known
from mirror_agent.mirror.roots import prove_checkpoints
from mirror_agent.mirror.state import Point, StateStore
from mirror_agent.mirror.stream import Stream
from mirror_agent.mirror.wire import Op, WireError

log: Final = logging.getLogger(__name__)

_TURN_S: Final = 0.02
_FAILURES_MAX: Final = 10


def _backlog(stream: Stream) -> int:
    """Bytes the replica has not applied yet, as of now."""
    stream.collect()
    return 0 if stream.lost is not None else stream.in_flight_bytes


class Connector:
    """Keeps one replica connected. `expected`: hand-over, the point the peer must stand at. `lost`: begins as after the
    loss of a link."""

    def __init__(
        self,
        config: MirrorConfig,
        state: StateStore,
        fronts: list[Front],
        outlet: Outlet,
        descriptors: Descriptors,
        *,
        expected: Point | None,
        on_change: Callable[[], None],
        lost: bool = False,
    ) -> None:
        self._checkpointer = Checkpointer(
            state, outlet.tracker, fronts, outlet, descriptors,
            every_s=config.limits.checkpoint_s, timeout_s=config.limits.barrier_timeout_s,
        )  # fmt: skip
        self._peers_checkpoints: tuple[Held, ...] = ()
        self._shortcut_failed = self._full_asked_for = False
        self._failures = 0
        self._link = "lost" if lost else "connecting"
        self.error: str | None = None
        self.stream: Stream | None = None
        self.stream_id = ""
        self.progress: Progress | None = None
        self._config = config
        self._state = state
        self._fronts = fronts
        self._outlet = outlet
        self._descriptors = descriptors
        self._expected = expected
        self._on_change = on_change
        self._closed = False
        self.peer = PeerWatch(config.limits, on_change)
        self._heard_s: float | None = None
        self._wake = threading.Event()
        self._lost = threading.Event()
        self._beat_s = self._times_s = boottime_s()
        self._threads = [
            threading.Thread(target=self._run, name="mirror-connect", daemon=True),
            threading.Thread(target=self._guarded, args=("pump", self._pump), name="mirror-pump", daemon=True),
            threading.Thread(target=self._guarded, args=("watch", self._watch), name="mirror-watch", daemon=True),
            threading.Thread(
                target=self._guarded, args=("checkpoints", self._checkpoint), name="mirror-checkpoint", daemon=True
            ),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self.cut("this node stops being primary")

    def join(self, timeout_s: float) -> bool:
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def cut(self, reason: str) -> None:
        stream = self.stream
        if stream is not None:
            stream.fail(reason)

    def compare_everything(self) -> None:
        """An operator wants the next resync to leave nothing out."""
        self._full_asked_for = True

    def resume(self) -> None:
        """The supervisor has decided: connect again and resynchronise."""
        self._expected = None
        self._wake.set()

    @property
    def link(self) -> str:
        """One of "connecting", "resync", "live", "lost". A stream found lost counts before its keeper has woken."""
        return "lost" if self._link == "live" and self.live_stream() is None else self._link

    def heard_age_s(self) -> float | None:
        """Age of the last bytes from the peer; it goes on growing after the link is lost."""
        stream = self.stream
        if stream is not None:
            self._heard_s = stream.heard_s
        return None if self._heard_s is None else boottime_s() - self._heard_s

    def live_stream(self) -> Stream | None:
        stream = self.stream
        return stream if stream is not None and self._link == "live" and stream.lost is None else None

    def resync_facts(self) -> dict[str, Any]:
        """What the status says about the running or the last resync, and about checkpoints."""
        facts: dict[str, Any] = {"checkpoints": self._checkpointer.made}
        if (progress := self.progress) is not None:
            facts["resync_rule"] = progress.rule
            facts["resync_done_entries"] = progress.done_files
            facts["resync_total_entries"] = progress.total_files
            facts["resync_sent_bytes"] = progress.filled_bytes
            facts["resync_s"] = round(progress.duration_s, 3)
        return facts

    # -- connecting ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._link == "lost":
            self._wake.wait()
            self._wake.clear()
        while not self._closed:
            self._set_link("connecting")
            try:
                self._one_connection()
            except (OSError, WireError, HandshakeError) as error:
                self._report(str(error))
            except Exception as error:  # the keeper must not die quietly
                log.exception("mirror connection failed")
                self._report(f"internal error: {error!r}")
                self.cut(f"internal error: {error!r}")
            finally:
                self._close_stream()
            if self._outlet.paired and self._expected is None:
                self._set_link("lost")
                self._wake.wait()
            else:
                self._wake.wait(min(limits.RECONNECT_S * 2**self._failures, limits.RECONNECT_MAX_S))
            self._wake.clear()
            self._wait_out()

    def _wait_out(self) -> None:
        """A replica that was taken out although its link works stays out for a while, unless calls wait for it."""
        while not self._closed and not self._outlet.paired and (left_s := self.peer.left_out_s()):
            self._set_link("connecting")
            self._wake.wait(left_s)
            self._wake.clear()

    def _report(self, error: str) -> None:
        if error != self.error:
            log.warning("mirror: %s", error)
        self.error = error
        self._on_change()

    def _set_link(self, link: str) -> None:
        if link != self._link:
            log.info("mirror: link %s -> %s", self._link, link)
            self._link = link
            self._on_change()

    def _one_connection(self) -> None:
        stream = self._connect()
        self.stream = stream
        self._on_change()
        if self._expected is not None:
            good = self._take_over(stream)
        else:
            good = self._resynchronise(stream)
        if good:
            self.error = None
            self._failures = 0
            self._expected = None
            self._set_link("live")
            self._outlet.unpark()
            self._lost.wait()
        self._report(f"link lost: {stream.lost}")

    def _connect(self) -> Stream:
        problem: Exception | None = None
        for address in self._config.peer_addresses:
            try:
                return self._shake_hands(address)
            except OSError as error:
                problem = OSError(f"{address}:{self._config.port}: {error}")
        assert problem is not None, "a configuration has at least one peer address"
        raise problem

    def _shake_hands(self, address: str) -> Stream:
        epoch = self._state.generation.epoch
        stream_id = uuid.uuid4().hex
        data = tls.connect(tls.client_context(self._config), self._config, address)
        try:
            paths = tuple(entry.identity for entry in self._config.paths)
            data.sendall(Hello(self._config.cluster_id, self._config.node, epoch, stream_id, paths).frame())
            frame = handshake.read_frame(data)
            if frame.op == Op.REFUSE:
                raise HandshakeError(f"the peer refused: {wire.parse_text(frame.payload)}")
            if frame.op != Op.WELCOME:
                raise WireError(f"the peer answered HELLO with operation {frame.op}")
            welcome = handshake.parse_welcome(frame)
            self._check(welcome, epoch)
            self._peers_checkpoints = welcome.checkpoints
            acks = tls.connect(tls.client_context(self._config), self._config, address)
        except BaseException:
            data.close()
            raise
        try:
            acks.sendall(wire.encode(Op.ATTACH, epoch=epoch, data=wire.text_payload(stream_id)))
            if handshake.read_frame(acks).op != Op.WELCOME:
                raise WireError("the peer did not accept the second connection")
            data.settimeout(None)
            acks.settimeout(None)
        except BaseException:
            data.close()
            acks.close()
            raise
        self._lost.clear()
        self.stream_id = stream_id
        ring_bytes, slow_call_s = self._config.limits.ring_bytes, self._config.limits.slow_call_s
        return Stream(
            data, acks, epoch=epoch, ring_bytes=ring_bytes, on_lost=self._stream_lost, slow_call_s=slow_call_s
        )

    def _check(self, welcome: Welcome, epoch: int) -> None:
        if welcome.node != self._config.peer or welcome.epoch != epoch:
            raise HandshakeError(f"the peer is {welcome.node!r} in epoch {welcome.epoch}, expected {epoch}")
        if self._expected is not None and (welcome.point != self._expected or welcome.inconsistent):
            raise HandshakeError(
                f"hand-over: the peer stands at {welcome.point}, not at {self._expected}: it is not identical; "
                "release this node or hand back"
            )

    def _take_over(self, stream: Stream) -> bool:
        """Hand-over: the peer is identical, nothing is compared; parked calls go on once it confirmed."""
        for front in self._fronts:
            front.table.root_inode.bound = stream
        stream.complete = True
        if not self._confirm_live(stream):
            return False
        self._outlet.connect(stream)
        return stream.lost is None

    def _resynchronise(self, stream: Stream) -> bool:
        plan = self._plan(stream)
        self.progress = plan.progress
        log.warning("mirror: resync by the rule %s: %s", plan.message.rule, RULES[plan.message.rule].sentence)
        resync = Resync(stream, self._fronts, self._outlet, self._descriptors, plan)
        self._set_link("resync")
        good = resync.run() and self._confirm_live(stream)
        if good:
            plan.progress.end()
            self._shortcut_failed = self._full_asked_for = False
            if plan.message.base is None:
                self._state.verified.cleared()
            log.warning(
                "mirror: resync by the rule %s took %.1f s: %d entries looked at, %d bytes compared, %d bytes sent",
                plan.message.rule, plan.progress.duration_s, plan.progress.done_files, plan.progress.done_bytes,
                plan.progress.filled_bytes,
            )  # fmt: skip
        elif stream.refused:
            self._failures = min(self._failures + 1, _FAILURES_MAX)
            self._shortcut_failed = self._shortcut_failed or plan.message.base is not None
        return good

    def _plan(self, stream: Stream) -> Plan:
        """Which kind of resync, by the checkpoints of both nodes."""
        store = self._state.checkpoints
        roots = [front.root for front in self._fronts]
        choice = choose(
            prove_checkpoints(self._state, roots),
            self._peers_checkpoints,
            always_everything=self._config.limits.resync_everything,
            asked_for_full=self._full_asked_for,
            differences_stand=bool((last := self._state.verified.last) and last.differences),
            shortcut_failed=self._shortcut_failed,
        )
        known = None
        if choice.rule in DISTRUSTED and store.held:
            # Also after a crash in the middle of it.
            self._outlet.tracker.stop(choice.sentence)
        if choice.base is not None:
            base = store.find(choice.base)
            assert base is not None, "a chosen checkpoint is one this node holds"
            known = Known(floor_ns(base.clock), store.changes_since(choice.base))
        pace = Pace(self._config.limits.resync_max_bytes_s, lambda: self._outlet.operations, lambda: _backlog(stream))
        message = PlanMessage(choice.rule, choice.base)
        return Plan(message, known, self._outlet.tracker, pace, Progress(choice.rule))

    def _confirm_live(self, stream: Stream) -> bool:
        seq = stream.append(Op.LIVE, flags=wire.WAITED | wire.SYNC)
        return bool(seq) and stream.wait_flushed(seq, self._config.limits.barrier_timeout_s)

    def _stream_lost(self, stream: Stream, reason: str) -> None:
        """Called by whichever thread noticed, with any lock of the outlet held: only marks."""
        self._outlet.park()
        if self._outlet.stream is stream:
            self._outlet.stream = None
        self._lost.set()

    def _close_stream(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            self._heard_s = stream.heard_s
            stream.fail("the connection keeper gave it up")
            stream.close()

    # -- what nobody waits for ---------------------------------------------------------------------------------------

    def _guarded(self, what: str, turn: Callable[[Call], None]) -> None:
        """A loop that must not die quietly: without it a stream would go silent, so its end is the stream's end."""
        call = self._descriptors.new_call()
        try:
            while not self._closed:
                turn(call)
                call.holding.clear()
        except Exception as error:
            log.exception("%s failed", what)
            self.error = f"internal error in the {what}: {error!r}"
            self.cut(self.error)
        finally:
            self._descriptors.end_call(call)

    def _pump(self, call: Call) -> None:
        """Sends queued frames, heartbeats and file times. May be held up by a peer that does not read."""
        time.sleep(_TURN_S)
        stream = self.stream
        if stream is None:
            return
        stream.flush()
        now_s = boottime_s()
        if now_s - self._beat_s >= limits.HEARTBEAT_S:
            self._beat_s = now_s
            stream.append(Op.HEARTBEAT)
        if now_s - self._times_s >= limits.TIMES_FLUSH_S:
            self._times_s = now_s
            with self._outlet.times_order:
                for inode in self._outlet.take_times():
                    if not inode.dropped:
                        self._outlet.send_times(inode, self._descriptors.path_fd(inode, call))
                    call.holding.clear()

    def _checkpoint(self, call: Call) -> None:
        """Has checkpoints made while the replica is live."""
        time.sleep(_TURN_S)
        stream = self.live_stream()
        if stream is not None:
            try:
                self._checkpointer.turn(stream, self.stream_id)
            except OSError as error:
                # Without a new checkpoint the old one counts, or everything is compared: no reason to stop.
                log.error("mirror: no checkpoint could be made: %s", error)

    def _watch(self, call: Call) -> None:
        """Takes in answers, relieves stuck threads of the fronts and judges the peer. Never blocked by sending."""
        time.sleep(_TURN_S)
        for front in list(self._fronts):
            front.relieve()
        stream = self.stream
        if stream is None:
            self.peer.gone()
            return
        stream.collect()
        self.peer.look(stream)
