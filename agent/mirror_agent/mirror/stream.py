"""The primary's end of the one ordered stream: appends frames, sends them, and waits for the replica's answers.

Guarantees: the sequence number is taken in the same critical section that puts the frame into the queue, and frames
leave in that order; a waiter is told True only for an answer of a live stream to its own frame; a stream that failed
never comes back (a reconnect is a new `Stream`), and every waiter is told False then.

Shape: whoever appends a frame somebody waits for also sends what is queued (one sender at a time takes all), and then
reads the answers and settles them for all who wait, unless somebody else does: the others are free for the next request
(`mirror_agent.mirror.waiters`). Both save thread switches, which are most of the cost at LAN latency. A thread of the
stream's own reads when those who wait cannot: commands, and appends that found the ring full. The connector's threads
flush and collect what nobody waits for. Data and acknowledgements use two connections, because one TLS object must not
be read and written by two threads at once.

Limits: unacknowledged bytes are bounded by `ring_bytes` (plus one frame per thread); beyond it `append` waits.
"""

from __future__ import annotations

import logging
import queue
import socket
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from typing import Final

from mirror_agent.mirror import limits, machine, wire
from mirror_agent.mirror.machine import boottime_s
from mirror_agent.mirror.waiters import Then, Waiters
from mirror_agent.mirror.wire import Buffer, Frame, Op, Space, WireError

log: Final = logging.getLogger(__name__)

_SEND_BYTES: Final = 1024 * 1024
# Frames nobody waits for are sent by whoever appends one when so much is queued or so long nothing was sent, and by the
# pump when nobody does. Waking a thread for each would cost more than the rest of a frame's way.
_EAGER_BYTES: Final = 32 * 1024
_GATHER_S: Final = 0.002
_JOIN_BYTES_MAX: Final = 64 * 1024
_RECORD_BYTES: Final = 16 * 1024
_ACK_BUFFER_BYTES: Final = 256 * 1024
# Acknowledgements are small, but a DIFFERENT frame may name every block of its SUM.
assert _ACK_BUFFER_BYTES > 4 * (wire.HEADER_BYTES + 2 * limits.BLOCKS_PER_SUM + limits.MAX_TEXT_BYTES)


class Stream:
    """One connected replica. `complete`: it has the whole tree, so every live inode is bound to it."""

    def __init__(
        self,
        data: ssl.SSLSocket,
        acks: ssl.SSLSocket,
        *,
        epoch: int,
        ring_bytes: int,
        on_lost: Callable[[Stream, str], None],
        slow_call_s: float = limits.SLOW_CALL_S,
    ) -> None:
        self.epoch = epoch
        self.complete = False
        self.applied = 0
        self.operations = 0
        self.spaces: list[Space] = []
        # The replica's own changes: (fid of the root or 0 at the end, too many to name, payload); None: lost.
        self.reports: queue.SimpleQueue[tuple[int, bool, bytes] | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[tuple[int, int, list[int]] | None] = queue.SimpleQueue()
        # Of a verify: the number of the question's frame, and what was found.
        self.found: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self.heard_s = boottime_s()
        self.progress_s = self.heard_s
        # The replica's own word, see `standstill`.
        self.standing_s: float | None = None
        self.lost: str | None = None
        self.refused = False
        self._sent_s = time.monotonic()
        self._data = data
        self._acks = acks
        self._answers_fd = acks.fileno()
        self._readable = machine.poll()
        self._readable.register(self._answers_fd, machine.POLLIN)
        self._ring_bytes = ring_bytes
        self._on_lost = on_lost
        self._ack_epoch = epoch
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._queue: deque[tuple[bytes, Buffer]] = deque()
        self._queued_bytes = 0
        self._seq = 0
        self._appended_bytes = 0
        self._acked_bytes = 0
        self._syncs_sent = 0
        self._syncs_done = 0
        self._waiters = Waiters(slow_call_s)
        self._reading = threading.Lock()
        self._wanted = threading.Event()
        self._room = threading.Condition()
        self._starving = 0
        self._starving_since_s = 0.0
        self._buffer = memoryview(bytearray(_ACK_BUFFER_BYTES))
        self._filled = 0
        self._stand_in = threading.Thread(target=self._read_for_sleepers, name="mirror-answers", daemon=True)
        self._stand_in.start()

    @property
    def latencies_ms(self) -> deque[float]:
        return self._waiters.latencies_ms

    @property
    def calls(self) -> tuple[int, int]:
        """Calls that waited for the replica, and how many of them longer than `slow_call_s`."""
        return self._waiters.calls, self._waiters.slow_calls

    def longest_wait_s(self) -> float:
        """Of the call that waits longest for an answer or for room; 0 without one."""
        starving_s = boottime_s() - self._starving_since_s if self._starving else 0.0
        return max(self._waiters.longest_s(), starving_s)

    @property
    def sequence(self) -> int:
        return self._seq

    @property
    def in_flight_bytes(self) -> int:
        return max(0, self._appended_bytes - self._acked_bytes)

    @property
    def full(self) -> bool:
        """True while the next frame has to wait for acknowledgements."""
        return self._appended_bytes - self._acked_bytes > self._ring_bytes

    @property
    def sent_bytes(self) -> int:
        return self._appended_bytes

    def append(self, op: int, *, fid: int = 0, offset: int = 0, data: Buffer = b"", flags: int = 0) -> int:
        """Queues one frame; its sequence number, or 0 when the stream is lost. Waits while the ring is full."""
        crc = zlib.crc32(data)
        size = wire.HEADER_BYTES + len(data)
        if self.full and op != Op.HEARTBEAT:
            self._wait_for_room()
        with self._lock:
            if self.lost is not None:
                return 0
            if flags & wire.SYNC:
                if self._syncs_sent == self._syncs_done:
                    flags |= wire.ALONE
                self._syncs_sent += 1
            self._seq = seq = self._seq + 1
            self._queue.append((wire.head(op, flags, self.epoch, seq, fid, offset, len(data), crc), data))
            self._queued_bytes += size
            self._appended_bytes += size
        self.operations += 1
        if not flags & wire.WAITED and (
            self._queued_bytes > _EAGER_BYTES or time.monotonic() - self._sent_s > _GATHER_S
        ):
            self.flush()
        return seq

    def flush(self) -> None:
        """Sends what is queued, unless another thread is sending: then that one takes it along."""
        while self._queue and self._sending.acquire(blocking=False):
            self._sent_s = time.monotonic()
            try:
                while batch := self._take():
                    for piece in batch:
                        self._data.sendall(piece)
            except OSError as error:
                self.fail(f"sending failed: {error}")
            finally:
                self._sending.release()

    def _take(self) -> list[Buffer]:
        """What to send next, in pieces. Small frames are joined; a large one ends the batch, and only its beginning is
        copied once more: alone, its header would wake the replica for nothing."""
        with self._lock:
            if self.lost is not None:
                self._queue.clear()
                self._queued_bytes = 0
            parts: list[Buffer] = []
            rest: Buffer = b""
            size = 0
            while self._queue and size < _SEND_BYTES and not rest:
                header, data = self._queue.popleft()
                size += len(header) + len(data)
                parts.append(header)
                if len(data) >= _JOIN_BYTES_MAX:
                    whole = memoryview(data)
                    parts.append(whole[:_RECORD_BYTES])
                    rest = whole[_RECORD_BYTES:]
                else:
                    parts.append(data)
            self._queued_bytes -= size
        if rest:
            return [b"".join(parts), rest]
        return [b"".join(parts)] if parts else []

    def when(self, seq: int, *, flushed: bool, then: Then, reading: bool) -> None:
        """Sends, and has `then` called: with True once the replica has applied everything up to `seq` (`flushed`: once
        it has flushed frame `seq`, which had SYNC), with False when the stream is lost. In this thread or another one,
        now or later. `reading`: this thread reads answers meanwhile if nobody else does; otherwise it calls
        `read_answers` as long as they are `unattended`."""
        self.flush()
        known = self._waiters.add(seq, flushed=flushed, then=then)
        if known is not None:
            then(known)
        elif reading:
            self._settle_all()

    def wait(self, seq: int) -> bool:
        """Sends and waits until the replica has applied everything up to `seq`. False: the stream is lost."""
        return self._wait(seq, flushed=False, timeout_s=None)

    def wait_flushed(self, seq: int, timeout_s: float = limits.BARRIER_TIMEOUT_S) -> bool:
        """Sends and waits for the DONE of a frame with SYNC: it is flushed to the replica's disk."""
        return self._wait(seq, flushed=True, timeout_s=timeout_s)

    def _wait(self, seq: int, *, flushed: bool, timeout_s: float | None) -> bool:
        outcome: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.flush()
        known = self._waiters.add(seq, flushed=flushed, then=outcome.put, call=False)
        if known is not None:
            return known
        self._wanted.set()
        try:
            return outcome.get(timeout=timeout_s)
        except queue.Empty:
            self.fail(f"no answer to a barrier within {timeout_s} s")
            return False

    def _wait_for_room(self) -> None:
        """Until the ring is no longer full, or the stream is lost."""
        self.flush()
        with self._room:
            if not self._starving:
                self._starving_since_s = boottime_s()
            self._starving += 1
            self._wanted.set()
            self._room.wait_for(lambda: self.lost is not None or not self.full)
            self._starving -= 1

    def raise_epoch(self, epoch: int, timeout_s: float) -> bool:
        """All later frames carry `epoch`; True once the replica has recorded it. Lower answers are refused then."""
        with self._lock:
            self.epoch = epoch
        seq = self.append(Op.EPOCH, flags=wire.WAITED | wire.SYNC)
        if not seq or not self.wait_flushed(seq, timeout_s):
            return False
        self._ack_epoch = epoch
        return True

    def fail(self, reason: str) -> None:
        """Ends the stream: everybody who waits gets False. Idempotent, callable from any thread."""
        with self._lock:
            if self.lost is not None:
                return
            self.lost = reason
        for connection in (self._data, self._acks):
            try:
                # Not SSLSocket.shutdown: that one drops the TLS object a blocked thread is using.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                continue  # the peer was faster; the descriptor is closed by `close`
        self.answers.put(None)
        self.reports.put(None)
        self.found.put(None)
        self._wanted.set()
        with self._room:
            self._room.notify_all()
        self._on_lost(self, reason)
        for then in self._waiters.end():
            then(False)

    def close(self) -> None:
        """Frees the connections; only after `fail`, when no thread uses the stream any more."""
        self._stand_in.join()
        with self._sending, self._reading:
            self._data.close()
            self._acks.close()

    def collect(self) -> None:
        """Takes in the answers nobody waits for, without waiting for more."""
        if self._reading.acquire(blocking=False):
            try:
                while self.lost is None and (self._acks.pending() or self._readable.poll(0)):
                    self._read()
            finally:
                self._reading.release()
            if self._anybody_waits():
                self._wanted.set()

    # -- answers ---------------------------------------------------------------------------------------------------

    @property
    def answers_fd(self) -> int:
        return self._answers_fd

    @property
    def unattended(self) -> bool:
        """True while somebody waits for an answer and nobody reads them."""
        return len(self._waiters) > 0 and self.lost is None and not self._reading.locked()

    def read_answers(self) -> bool:
        """Takes in answers that have arrived; False if another thread does."""
        if not self._reading.acquire(blocking=False):
            return False
        try:
            if self.lost is None:
                self._read()
        finally:
            self._reading.release()
        return True

    def _anybody_waits(self) -> bool:
        return self.lost is None and (len(self._waiters) > 0 or self._starving > 0)

    def _settle_all(self) -> None:
        """Reads answers as long as anybody waits for one, unless another thread does. Looks once more after it let go:
        who came in between did not get the lock."""
        while self._anybody_waits() and self._reading.acquire(blocking=False):
            try:
                while self._anybody_waits():
                    self._read()
            finally:
                self._reading.release()

    def _read_for_sleepers(self) -> None:
        try:
            while self.lost is None:
                self._wanted.wait()
                self._wanted.clear()
                self._settle_all()
        except Exception as error:  # without it sleepers would not wake: better no stream, loudly
            log.exception("reading the replica's answers failed")
            self.fail(f"internal error: {error!r}")

    def _read(self) -> None:
        """Reads once (blocking) and takes in all complete answers. The caller holds `_reading`."""
        if not machine.SHUTDOWN_WAKES and not self._acks.pending() and not machine.arrives(self._acks):
            return
        try:
            count = self._acks.recv_into(self._buffer[self._filled :])
        except OSError as error:
            self.fail(f"reading acknowledgements failed: {error}")
            return
        if count == 0:
            self.fail("the replica closed the stream")
            return
        self.heard_s = boottime_s()
        self._filled += count
        position = 0
        done: list[int] = []
        try:
            while (frame := wire.decode(self._buffer, position, self._filled)) is not None:
                position += frame.size
                if self._take_in(frame):
                    done.append(frame.seq)
        except WireError as error:
            self.fail(f"the replica's answer is not valid: {error}")
            return
        rest = self._filled - position
        if rest:
            self._buffer[:rest] = bytes(self._buffer[position : self._filled])
        self._filled = rest
        self._syncs_done += len(done)
        if self._starving:
            with self._room:
                self._room.notify_all()
        for then in self._waiters.answered(self.applied, done):
            then(True)

    def _take_in(self, frame: Frame) -> bool:
        """True for a DONE."""
        if frame.epoch < self._ack_epoch or frame.epoch > self.epoch:
            raise WireError(f"answer of epoch {frame.epoch} on a stream of epoch {self.epoch}")
        match frame.op:
            case Op.ACK | Op.DONE | Op.PULSE:
                if frame.seq > self._seq or frame.offset > self._appended_bytes:
                    raise WireError(f"acknowledgement of frame {frame.seq}, {self._seq} were sent")
                if frame.op == Op.DONE:
                    self.progress_s = self.heard_s
                    return True
                if frame.seq > self.applied:
                    self.progress_s = self.heard_s
                    self.applied = frame.seq
                self._acked_bytes = max(self._acked_bytes, frame.offset)
                if frame.op == Op.PULSE:
                    self.spaces = wire.parse_pulse(frame.payload)
                    self.standing_s = wire.standing_of(frame.fid)
                    if self.in_flight_bytes == 0:
                        self.progress_s = self.heard_s
                    elif self.standing_s is not None:  # it works on one frame for long, and that gets on
                        self.progress_s = max(self.progress_s, self.heard_s - self.standing_s)
            case Op.DIFFERENT:
                self.answers.put((frame.fid, frame.offset, wire.parse_different(frame.payload)))
            case Op.FOUND:
                self.found.put((frame.seq, bytes(frame.payload)))
            case Op.CANDIDATES:
                self.progress_s = self.heard_s
                if frame.fid or frame.flags & wire.FINAL:
                    self.reports.put((frame.fid, bool(frame.offset), bytes(frame.payload)))
            case Op.NAK:
                self.refused = True
                self.fail(f"the replica could not apply frame {frame.seq}: {wire.parse_text(frame.payload)}")
            case _:
                raise WireError(f"operation {frame.op} is no answer")
        return False
