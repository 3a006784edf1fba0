"""The primary's end of the one ordered stream: appends frames, sends them, and waits for the replica's answers.

Guarantees: the sequence number is taken in the same critical section that puts the frame into the queue, and frames
leave in that order; a waiter returns True only for an answer of a live stream to its own frame; a stream that failed
never comes back (a reconnect is a new `Stream`), and every waiter returns False then.

Shape: no thread of its own per direction. Whoever appends a frame somebody waits for also sends what is queued (one
sender at a time takes all), and one of the waiters reads the acknowledgements for all (leader and followers): both
save a thread switch per operation, which is most of the cost at LAN latency. The connector's threads flush and
collect what nobody waits for. Data and acknowledgements use two connections, because one TLS object must not be read
and written by two threads at once.

Limits: unacknowledged bytes are bounded by `ring_bytes` (plus one frame per thread); beyond it `append` waits.
"""

from __future__ import annotations

import queue
import select
import socket
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from typing import Final

from mirror_agent.mirror import limits, wire
from mirror_agent.mirror.wire import Buffer, Frame, Op, Space, WireError

_SEND_BYTES: Final = 1024 * 1024
_EAGER_BYTES: Final = 32 * 1024
_JOIN_BYTES_MAX: Final = 64 * 1024
# Taken out by the status a few times a second; beyond it the oldest are dropped.
_LATENCY_SAMPLES: Final = 65536
_ACK_BUFFER_BYTES: Final = 256 * 1024
# Acknowledgements are small, but a DIFFERENT frame may name every block of its SUM.
assert _ACK_BUFFER_BYTES > 4 * (wire.HEADER_BYTES + 2 * limits.BLOCKS_PER_SUM + limits.MAX_TEXT_BYTES)


def boottime_s() -> float:
    """Seconds on the clock that also counts while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Slot:
    """One waiting thread: `ready` says what for, the lock is what it sleeps on."""

    __slots__ = ("lock", "ready")

    def __init__(self, ready: Callable[[], bool]) -> None:
        self.ready = ready
        self.lock = threading.Lock()
        self.lock.acquire()

    def wake(self) -> None:
        """Called with the stream's answer lock held."""
        if self.lock.locked():
            self.lock.release()


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
    ) -> None:
        self.epoch = epoch
        self.complete = False
        self.applied = 0
        self.operations = 0
        self.latencies_ms: deque[float] = deque(maxlen=_LATENCY_SAMPLES)
        self.spaces: list[Space] = []
        self.answers: queue.SimpleQueue[tuple[int, int, list[int]] | None] = queue.SimpleQueue()
        # Of a verify: the number of the question's frame, and what was found.
        self.found: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self.heard_s = boottime_s()
        self.progress_s = self.heard_s
        self.lost: str | None = None
        self.nudged = threading.Event()
        self._data = data
        self._acks = acks
        self._readable = select.poll()
        self._readable.register(acks.fileno(), select.POLLIN)
        self._ring_bytes = ring_bytes
        self._on_lost = on_lost
        self._ack_epoch = epoch
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._queue: deque[tuple[bytes, Buffer]] = deque()
        self._queued_bytes = 0
        self._large: Buffer | None = None
        self._seq = 0
        self._appended_bytes = 0
        self._acked_bytes = 0
        self._answer_lock = threading.Lock()
        self._reading = threading.Lock()
        self._slots: list[_Slot] = []
        self._done: set[int] = set()
        self._buffer = memoryview(bytearray(_ACK_BUFFER_BYTES))
        self._filled = 0

    @property
    def sequence(self) -> int:
        return self._seq

    @property
    def in_flight_bytes(self) -> int:
        return max(0, self._appended_bytes - self._acked_bytes)

    @property
    def sent_bytes(self) -> int:
        return self._appended_bytes

    def append(self, op: int, *, fid: int = 0, offset: int = 0, data: Buffer = b"", flags: int = 0) -> int:
        """Queues one frame; its sequence number, or 0 when the stream is lost. Waits while the ring is full."""
        crc = zlib.crc32(data)
        size = wire.HEADER_BYTES + len(data)
        if flags & wire.SYNC and not self._slots:
            flags |= wire.ALONE
        if self._appended_bytes - self._acked_bytes > self._ring_bytes and op != Op.HEARTBEAT:
            self.flush()
            self._wait(lambda: self._appended_bytes - self._acked_bytes <= self._ring_bytes)
        with self._lock:
            if self.lost is not None:
                return 0
            self._seq = seq = self._seq + 1
            self._queue.append((wire.head(op, flags, self.epoch, seq, fid, offset, len(data), crc), data))
            self._queued_bytes += size
            self._appended_bytes += size
        self.operations += 1
        if not flags & wire.WAITED:
            if self._queued_bytes > _EAGER_BYTES:
                self.flush()
            elif not self.nudged.is_set():
                self.nudged.set()
        return seq

    def flush(self) -> None:
        """Sends what is queued, unless another thread is sending: then that one takes it along."""
        while self._queue and self._sending.acquire(blocking=False):
            try:
                while (batch := self._take()) is not None:
                    self._data.sendall(batch)
            except OSError as error:
                self.fail(f"sending failed: {error}")
            finally:
                self._sending.release()

    def _take(self) -> Buffer | None:
        with self._lock:
            if not self._queue or self.lost is not None:
                self._queue.clear()
                self._queued_bytes = 0
                return None
            parts: list[Buffer] = []
            size = 0
            while self._queue and size < _SEND_BYTES:
                header, data = self._queue[0]
                if len(data) >= _JOIN_BYTES_MAX:
                    # Large data is not copied once more: the header goes with what is before it, the data alone.
                    if data is not self._large:
                        self._large = data
                        parts.append(header)
                        break
                    if parts:
                        break
                    self._queue.popleft()
                    self._queued_bytes -= wire.HEADER_BYTES + len(data)
                    self._large = None
                    return data
                self._queue.popleft()
                parts.append(header)
                parts.append(data)
                size += len(header) + len(data)
            self._queued_bytes -= size
        return b"".join(parts)

    def wait(self, seq: int) -> bool:
        """Sends and waits until the replica has applied everything up to `seq`. False: the stream is lost."""
        self.flush()
        if self.applied >= seq:
            return True
        began = time.perf_counter()
        answered = self._wait(lambda: self.applied >= seq)
        self.latencies_ms.append((time.perf_counter() - began) * 1000)
        return answered

    def wait_flushed(self, seq: int, timeout_s: float = limits.BARRIER_TIMEOUT_S) -> bool:
        """Sends and waits for the DONE of a frame with SYNC: it is flushed to the replica's disk."""
        self.flush()
        began = time.perf_counter()
        answered = self._wait(lambda: seq in self._done, timeout_s)
        self.latencies_ms.append((time.perf_counter() - began) * 1000)
        with self._answer_lock:
            self._done.discard(seq)
        return answered

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
        with self._answer_lock:
            for slot in self._slots:
                slot.wake()
        self.answers.put(None)
        self.found.put(None)
        self.nudged.set()
        self._on_lost(self, reason)

    def close(self) -> None:
        """Frees the connections; only after `fail`, when no thread uses the stream any more."""
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
            self._promote()

    # -- answers ---------------------------------------------------------------------------------------------------

    def _wait(self, ready: Callable[[], bool], timeout_s: float | None = None) -> bool:
        deadline = None if timeout_s is None else boottime_s() + timeout_s
        slot = _Slot(ready)
        with self._answer_lock:
            self._slots.append(slot)
        try:
            while True:
                if ready():
                    return True
                if self.lost is not None:
                    return False
                if deadline is not None and boottime_s() > deadline:
                    self.fail(f"no answer to a barrier within {timeout_s} s")
                    return False
                if self._reading.acquire(blocking=False):
                    try:
                        if not ready() and self.lost is None:
                            self._read()
                    finally:
                        self._reading.release()
                else:
                    slot.lock.acquire(timeout=1.0)
        finally:
            with self._answer_lock:
                self._slots.remove(slot)
            self._promote()

    def _promote(self) -> None:
        """Nobody reads now: wakes one waiter to do it."""
        with self._answer_lock:
            if self._slots:
                self._slots[0].wake()

    def _read(self) -> None:
        """Reads once (blocking) and takes in all complete answers. The caller holds `_reading`."""
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
        try:
            while (frame := wire.decode(self._buffer, position, self._filled)) is not None:
                position += frame.size
                self._take_in(frame)
        except WireError as error:
            self.fail(f"the replica's answer is not valid: {error}")
            return
        rest = self._filled - position
        self._buffer[:rest] = bytes(self._buffer[position : self._filled])
        self._filled = rest
        with self._answer_lock:
            for slot in self._slots:
                if slot.ready():
                    slot.wake()

    def _take_in(self, frame: Frame) -> None:
        if frame.epoch < self._ack_epoch or frame.epoch > self.epoch:
            raise WireError(f"answer of epoch {frame.epoch} on a stream of epoch {self.epoch}")
        match frame.op:
            case Op.ACK | Op.DONE | Op.PULSE:
                if frame.seq > self._seq or frame.offset > self._appended_bytes:
                    raise WireError(f"acknowledgement of frame {frame.seq}, {self._seq} were sent")
                if frame.op == Op.DONE:
                    with self._answer_lock:
                        self._done.add(frame.seq)
                    self.progress_s = self.heard_s
                    return
                if frame.seq > self.applied:
                    self.progress_s = self.heard_s
                    self.applied = frame.seq
                self._acked_bytes = max(self._acked_bytes, frame.offset)
                if frame.op == Op.PULSE:
                    self.spaces = wire.parse_pulse(frame.payload)
                    if self.in_flight_bytes == 0:
                        self.progress_s = self.heard_s
            case Op.DIFFERENT:
                self.answers.put((frame.fid, frame.offset, wire.parse_different(frame.payload)))
            case Op.FOUND:
                self.found.put((frame.seq, bytes(frame.payload)))
            case Op.NAK:
                self.fail(f"the replica could not apply frame {frame.seq}: {wire.parse_text(frame.payload)}")
            case _:
                raise WireError(f"operation {frame.op} is no answer")
