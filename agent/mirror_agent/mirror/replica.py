"""One session of a replica: receives frames, applies them in order, acknowledges what is applied.

Guarantees: a frame is applied only if it is whole, valid, next in sequence and not of a lower epoch than this node's;
an acknowledgement for frame n says that all frames up to n are applied here (survive the death of the primary), a DONE
that what it refers to is on disk. After `seal` returned nothing more is applied or acknowledged.

Shape: one thread receives and applies; flushes run in a small pool so that one client's fsync does not delay the
writes of others; a pulse every 0.5 s carries the position and the free space, and tells a silent link from a dead one.
Any failure to apply is answered with NAK and ends the session: the primary decides what that means.

Limits: memory is one receive buffer; a frame waits for the one before it.
"""

from __future__ import annotations

import logging
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from mirror_agent.mirror import files, limits, machine, verify_wire, wire
from mirror_agent.mirror.checkpoints import Checkpoint, read_clock
from mirror_agent.mirror.handshake import PlanMessage, parse_plan
from mirror_agent.mirror.inodes import Descriptors, Root
from mirror_agent.mirror.machine import boottime_s
from mirror_agent.mirror.quarantine import Quarantine
from mirror_agent.mirror.replica_files import ApplyError, Preserving, ReplicaFiles
from mirror_agent.mirror.replica_resync import ResyncTarget
from mirror_agent.mirror.replica_verify import VerifyTarget
from mirror_agent.mirror.resync_choice import RULES, Gap, floor_ns
from mirror_agent.mirror.resync_report import Known, TooMuch, report_frames
from mirror_agent.mirror.roots import prove_checkpoints
from mirror_agent.mirror.standstill import Work, device_of, device_token
from mirror_agent.mirror.state import Point, StateStore
from mirror_agent.mirror.verify_record import record_of
from mirror_agent.mirror.verify_wire import Finding
from mirror_agent.mirror.wire import Frame, Op, Space, WireError

log: Final = logging.getLogger(__name__)

# Frames nobody waits for are acknowledged in bulk: after so many bytes, and with every pulse.
_LAZY_ACK_BYTES: Final = limits.MIB
_SPACE_UNIT: Final = 4096
_EAGER: Final = wire.WAITED | wire.SYNC


class Refused(Exception):
    """A frame this node must not apply (old epoch, wrong order): the session ends without an answer to it."""


class ReplicaSession:
    """`link` is "resync" or "live" while it runs. `on_link` and, once, `on_end` are called
    from the session's thread."""

    def __init__(
        self,
        data: ssl.SSLSocket,
        acks: ssl.SSLSocket,
        *,
        stream_id: str,
        roots: list[Root],
        state: StateStore,
        quarantine: Quarantine,
        open_inodes_max: int,
        on_link: Callable[[], None],
        on_end: Callable[[ReplicaSession, str], None],
    ) -> None:
        self.stream_id = stream_id
        self.link = "connecting"
        # (last applied frame, bytes of the stream up to its end): one object, so that every thread reads a pair.
        self.position = (0, 0)
        self.heard_s = boottime_s()
        self.resync: ResyncTarget | None = None
        self.plan: PlanMessage | None = None
        self._data = data
        self._acks = acks
        self._roots = roots
        self._state = state
        self._quarantine = quarantine
        self._on_link = on_link
        self._on_end = on_end
        self._files = ReplicaFiles(roots, Descriptors(open_inodes_max), state.checkpoints.moving)
        self._verify: VerifyTarget | None = None
        # The frame being applied (0: none) and those being flushed, for the pulses to tell whether they get on.
        self._applying = 0
        self._flushing: dict[int, None] = {}
        self._cpu_clock: int | None = None
        self._acked_bytes = 0
        self._ack_lock = threading.Lock()
        self._ending = False
        self._sealing = False
        self._jobs: queue.SimpleQueue[tuple[int, int, bool, tuple[Checkpoint, int] | None] | None] = queue.SimpleQueue()
        self._devices = frozenset(root.device for root in roots)
        self._devices_of_resync = self._devices | {device_of(quarantine.path), device_of(state.marker_path)}
        self._handlers = self._table()
        self._thread = threading.Thread(target=self._run, name="replica-apply", daemon=True)
        self._pool = [
            threading.Thread(target=self._flush_jobs, name=f"replica-flush-{index}", daemon=True)
            for index in range(limits.REPLICA_FSYNC_THREADS)
        ]
        self._pulse = threading.Thread(target=self._pulses, name="replica-pulse", daemon=True)
        self._ended = threading.Event()

    def start(self) -> None:
        for thread in (self._thread, self._pulse, *self._pool):
            thread.start()

    def seal(self, timeout_s: float) -> bool:
        """Applies what was received, then ends; True once nothing can be applied or acknowledged any more."""
        self._sealing = True
        if machine.SHUTDOWN_WAKES:
            self._shut(self._data, socket.SHUT_RD)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _shut(self, connection: ssl.SSLSocket, how: int) -> None:
        try:
            socket.socket.shutdown(connection, how)
        except OSError:
            return  # closed by the peer already

    # -- receiving -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        reason = "the primary closed the stream"
        self._cpu_clock = machine.cpu_clock()
        try:
            self._receive()
        except (OSError, ApplyError, WireError, Refused) as error:
            reason = str(error)
        except Exception as error:  # a bug must end the session, not the thread alone
            log.exception("replica: applying failed")
            reason = f"internal error: {error!r}"
        try:
            self._end()
        finally:
            self._on_end(self, reason)

    def _end(self) -> None:
        for _ in self._pool:
            self._jobs.put(None)
        for thread in self._pool:
            thread.join()
        with self._ack_lock:
            self._ending = True
        self._ended.set()
        for connection in (self._data, self._acks):
            self._shut(connection, socket.SHUT_RDWR)
        self._pulse.join()
        self._data.close()
        self._acks.close()
        if self.resync is not None:
            self.resync.abandon()
        if self._verify is not None:
            self._verify.close()
        self._files.close()

    def _receive(self) -> None:
        buffer = memoryview(bytearray(limits.RECEIVE_BUFFER_BYTES))
        filled = 0
        while True:
            # A record of TLS is 16 KiB, a frame may be 64 of them.
            while True:
                if not machine.SHUTDOWN_WAKES and not self._more_comes():
                    return
                count = self._data.recv_into(buffer[filled:])
                if count == 0:
                    return
                self.heard_s = boottime_s()
                filled += count
                if filled >= wire.wanted(buffer, filled):
                    break
            position = 0
            waited = False
            while (frame := wire.decode(buffer, position, filled)) is not None:
                position += frame.size
                self._accept(frame)
                # A frame with SYNC is answered by its DONE; its place in the order is acknowledged with the next ones.
                waited = waited or frame.flags & _EAGER == wire.WAITED
            if waited or self.position[1] - self._acked_bytes >= _LAZY_ACK_BYTES:
                self._acknowledge()
            if self._sealing:
                return
            rest = filled - position
            if position and rest:
                buffer[:rest] = bytes(buffer[position:filled])
            filled = rest

    def _more_comes(self) -> bool:
        """False once everything that had arrived when the session was sealed is taken in."""
        while not self._data.pending() and not machine.arrives(self._data):
            if self._sealing:
                return False
        return True

    def _accept(self, frame: Frame) -> None:
        own = self._state.generation.epoch
        if frame.epoch < own or (frame.epoch > own and frame.op != Op.EPOCH):
            raise Refused(f"frame {frame.seq} has epoch {frame.epoch}, this node has {own}")
        applied, applied_bytes = self.position
        if frame.seq != applied + 1:
            raise Refused(f"frame {frame.seq} came after frame {applied}")
        self._state.checkpoints.guard()
        handler = self._handlers.get(frame.op)
        if handler is None:
            raise WireError(f"operation {frame.op} does not belong on the stream")
        self._applying = frame.seq
        try:
            handler(frame)
        except (OSError, ApplyError) as error:
            self._answer(Op.NAK, frame.seq, data=wire.text_payload(f"{Op(frame.op).name}: {error}"))
            raise ApplyError(f"frame {frame.seq} ({Op(frame.op).name}) could not be applied: {error}") from error
        finally:
            self._applying = 0
            self._files.call.holding.clear()
        self.position = (frame.seq, applied_bytes + frame.size)

    def _table(self) -> dict[int, Callable[[Frame], None]]:
        files = self._files
        return {
            Op.HEARTBEAT: lambda _frame: None,
            Op.EPOCH: self._epoch,
            Op.LIVE: self._live,
            Op.BYE: self._bye,
            Op.BIND: self._bind,
            Op.UNBIND: files.unbind,
            Op.MAKE: files.make,
            Op.LINK: files.link,
            Op.REMOVE: files.remove,
            Op.RENAME: files.rename,
            Op.WRITE: self._write,
            Op.SETATTR: files.setattr,
            Op.FALLOCATE: files.fallocate,
            Op.SETXATTR: files.setxattr,
            Op.REMOVEXATTR: files.removexattr,
            Op.FSYNC: self._fsync,
            Op.BARRIER: self._barrier,
            Op.CHECKPOINT: self._checkpoint,
            Op.RESYNC: self._resync,
            Op.DIR_BEGIN: lambda frame: self._resyncing().dir_begin(frame),
            Op.ENSURE: lambda frame: self._resyncing().ensure(frame),
            Op.DIR_END: lambda frame: self._resyncing().dir_end(frame),
            Op.STASH: lambda frame: self._resyncing().stash(frame),
            Op.SUM: self._sum,
            Op.FILL: lambda frame: self._resyncing().fill(frame),
            Op.SETTLED: lambda frame: self._resyncing().settled(frame),
            Op.KEEP: lambda frame: self._resyncing().keep(frame),
            Op.NAMES: lambda frame: self._verifying().names(frame),
            Op.CHECK: lambda frame: self._verifying().check(frame),
            Op.COMPARE: lambda frame: self._verifying().compare(frame),
            Op.PATCH: lambda frame: self._verifying().patch(frame),
            Op.VERDICT: self._verdict,
        }

    # -- answers ---------------------------------------------------------------------------------------------------

    def _answer(self, op: int, seq: int, *, fid: int = 0, offset: int = 0, data: bytes = b"", flags: int = 0) -> None:
        epoch = self._state.generation.epoch
        frame = wire.encode(op, flags=flags, epoch=epoch, seq=seq, fid=fid, offset=offset, data=data)
        with self._ack_lock:
            if self._ending:
                return
            try:
                self._acks.sendall(frame)
            except OSError as error:
                # The receiving side sees the same end; a session without answers is over.
                log.info("replica: answering failed: %s", error)
                self._shut(self._data, socket.SHUT_RD)

    def _acknowledge(self) -> None:
        applied, self._acked_bytes = self.position
        self._answer(Op.ACK, applied, offset=self._acked_bytes)

    def _pulses(self) -> None:
        work = Work(boottime_s)
        while not self._ended.wait(limits.HEARTBEAT_S):
            try:
                spaces = [_space(root) for root in self._roots]
            except OSError as error:
                log.error("replica: free space cannot be read (%s); the session ends", error)
                self._shut(self._data, socket.SHUT_RD)
                return
            standing = wire.standing_field(self._look_at(work))
            applied, applied_bytes = self.position
            self._answer(Op.PULSE, applied, fid=standing, offset=applied_bytes, data=wire.pulse_payload(spaces))

    def _look_at(self, work: Work) -> float | None:
        """How long what this session has in hand has stood still. What a resync sets aside may lie on another disk."""
        disks = device_token(self._devices if self.resync is None else self._devices_of_resync)
        return work.look(self._applying, tuple(self._flushing), disks, machine.cpu_ns(self._cpu_clock))

    def _flush_jobs(self) -> None:
        """Flushes one descriptor (closed afterwards) or, for -1, the file systems of all roots."""
        while (job := self._jobs.get()) is not None:
            seq, fd, data_only, made = job
            self._flushing[seq] = None
            try:
                self._flush(fd, data_only=data_only)
                if made is not None:
                    self._state.checkpoints.record_replica(*made)
            except OSError as error:
                self._answer(Op.NAK, seq, data=wire.text_payload(f"flushing failed: {error}"))
                self._shut(self._data, socket.SHUT_RD)
            else:
                self._answer(Op.DONE, seq)
            finally:
                del self._flushing[seq]
                if fd >= 0:
                    files.close(fd)

    def _flush(self, fd: int, *, data_only: bool) -> None:
        if fd < 0:
            self._sync_all()
        elif data_only:
            files.fdatasync(fd)
        else:
            files.fsync(fd)

    def _sync_all(self) -> None:
        for root in self._roots:
            files.syncfs(root.fd)

    # -- frames of the session itself ------------------------------------------------------------------------------

    def _epoch(self, frame: Frame) -> None:
        if frame.epoch > self._state.generation.epoch:
            self._state.record_epoch(frame.epoch)
        self._answer(Op.DONE, frame.seq)

    def _write(self, frame: Frame) -> None:
        fd = self._files.write(frame)
        if frame.flags & wire.SYNC:
            self._flush_for(frame, fd, data_only=True)

    def _fsync(self, frame: Frame) -> None:
        fd = self._files.flushable(frame.fid)
        self._flush_for(frame, fd, data_only=bool(frame.flags & wire.DATA_ONLY))

    def _flush_for(self, frame: Frame, fd: int, *, data_only: bool) -> None:
        """At once for a lone client (a thread switch less), in the pool when others may be waiting for this thread."""
        if fd < 0:
            self._answer(Op.DONE, frame.seq)
        elif frame.flags & wire.ALONE:
            self._flush(fd, data_only=data_only)
            self._answer(Op.DONE, frame.seq)
        else:
            self._jobs.put((frame.seq, files.dup(fd), data_only, None))

    def _barrier(self, frame: Frame) -> None:
        self._jobs.put((frame.seq, -1, False, None))

    def _live(self, frame: Frame) -> None:
        """From here on this node is identical and in the stream."""
        if self.resync is not None:
            self.resync.finish()
            self.resync = None
            self._files.preserving = Preserving()
            self._sync_all()
            self._state.clear_inconsistent()
            if self.plan is not None and self.plan.base is None:
                self._state.verified.cleared()
        elif self._state.inconsistent or self._state.generation.point is None:
            raise ApplyError("this copy is not known to be identical; it needs a resync")
        self._state.record(epoch=self._state.generation.epoch, role="replica", point=None)
        self.link = "live"
        self._on_link()
        self._answer(Op.DONE, frame.seq)

    def _checkpoint(self, frame: Frame) -> None:
        """Everything up to here is applied; once it is on disk, what changes after this clock reading is all there is
        to compare."""
        if self.link != "live":
            raise ApplyError("a checkpoint was asked for before this copy was identical")
        generation = self._state.generation
        rotated = self._state.checkpoints.rotate()
        made = Checkpoint(self.stream_id, frame.seq, generation.epoch, read_clock(), generation.roots)
        self._jobs.put((frame.seq, -1, False, (made, rotated)))

    def _bye(self, frame: Frame) -> None:
        """A clean end: both nodes stand at this frame."""
        if self.link != "live":
            raise ApplyError("a clean end was asked for before this copy was identical")
        self._sync_all()
        self._state.record(epoch=self._state.generation.epoch, role="replica", point=Point(self.stream_id, frame.seq))
        self._answer(Op.DONE, frame.seq)

    def _resync(self, frame: Frame) -> None:
        if self.link != "connecting":
            raise ApplyError("a resync was asked for in the middle of a session")
        plan = parse_plan(frame.payload)
        known = self._known(plan)
        log.warning("replica: resync by the rule %s: %s", plan.rule, RULES[plan.rule].sentence)
        epoch = self._state.generation.epoch
        why = f"resync of stream {self.stream_id} in epoch {epoch} has not ended"
        self._state.mark_inconsistent(why, read_clock().boot)
        self._state.record(epoch=epoch, role="replica", point=None)
        self.resync = ResyncTarget(self._files, self._roots, self._quarantine, self.stream_id, known)
        self.plan = plan
        self._files.preserving = self.resync
        self.link = "resync"
        self._on_link()
        if known is not None:
            self._report(frame.seq, known)

    def _known(self, plan: PlanMessage) -> Known | None:
        """This node's own changes since the base of a resync. Raises `ApplyError` without proof."""
        if plan.base is None:
            return None
        held = {one.point: one for one in prove_checkpoints(self._state, self._roots)}.get(plan.base)
        base = self._state.checkpoints.find(plan.base)
        if held is None or base is None or held.gap not in (Gap.NONE, Gap.TORN):
            raise ApplyError(f"checkpoint {plan.base} cannot be proven here any more")
        return Known(floor_ns(base.clock), self._state.checkpoints.changes_since(plan.base))

    def _report(self, seq: int, known: Known) -> None:
        """Tells the primary what changed here since the base."""
        told_s = boottime_s()

        def tick() -> None:
            nonlocal told_s
            if boottime_s() - told_s > limits.PEER_SILENCE_S:
                told_s = boottime_s()
                self._answer(Op.CANDIDATES, seq)

        try:
            for root in self._roots:
                for payload in report_frames(root, known, tick):
                    self._answer(Op.CANDIDATES, seq, fid=root.fid, data=payload)
        except TooMuch:
            self._answer(Op.CANDIDATES, seq, offset=1, flags=wire.FINAL)
        else:
            self._answer(Op.CANDIDATES, seq, flags=wire.FINAL)

    def _bind(self, frame: Frame) -> None:
        self._files.bind(frame)
        if self.resync is not None:
            self.resync.bound(frame)

    def _resyncing(self) -> ResyncTarget:
        if self.resync is None:
            raise ApplyError("a frame of a resync came outside of one")
        return self.resync

    def _sum(self, frame: Frame) -> None:
        different = self._resyncing().compare(frame)
        self._answer(
            Op.DIFFERENT, frame.seq, fid=frame.fid, offset=frame.offset, data=wire.different_payload(different)
        )

    # -- verify ----------------------------------------------------------------------------------------------------

    def _verifying(self) -> VerifyTarget:
        if self.link != "live":
            raise ApplyError("a frame of a verify came before this copy was identical")
        if self._verify is None:
            self._verify = VerifyTarget(self._files, self._new_quarantine, self._found)
        return self._verify

    def _new_quarantine(self) -> Quarantine:
        return self._quarantine.sibling(f"-verify-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S%fZ')}")

    def _found(self, frame: Frame, findings: Sequence[Finding]) -> None:
        payload = verify_wire.found_payload(findings)
        self._answer(Op.FOUND, frame.seq, fid=frame.fid, offset=frame.offset, data=payload)

    def _verdict(self, frame: Frame) -> None:
        """What the primary found stands here as well: this copy may be the one that is asked next."""
        verdict = verify_wire.parse_verdict(frame.payload)
        if self._verify is not None:
            self._verify.end()
        self._state.verified.save(record_of(verdict, self._state.generation.epoch))
        self._on_link()


def _space(root: Root) -> Space:
    st = files.fstatvfs(root.fd)
    unit = st.f_frsize
    return Space(st.f_bfree * unit // _SPACE_UNIT, st.f_bavail * unit // _SPACE_UNIT, st.f_ffree, st.f_favail)
