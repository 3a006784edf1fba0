"""The primary's end of the stream against a peer that answers by hand, over a pair of sockets without TLS."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from mirror_agent.mirror import wire
from mirror_agent.mirror.stream import Stream
from mirror_agent.mirror.wire import Frame, Op

_EPOCH = 3
_DEADLINE_S = 30.0


class PlainSocket(socket.socket):
    """A socket with what the stream uses of an SSLSocket."""

    def pending(self) -> int:
        return 0


def _pair() -> tuple[Any, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(_DEADLINE_S)
    return PlainSocket(fileno=ours.detach()), theirs


class Peer:
    """The replica's ends of both connections, and the stream between."""

    def __init__(self, ring_bytes: int = 1 << 20) -> None:
        data, self.data = _pair()
        acks, self.acks = _pair()
        self.lost: list[str] = []
        self.stream = Stream(
            data, acks, epoch=_EPOCH, ring_bytes=ring_bytes, on_lost=lambda _stream, reason: self.lost.append(reason)
        )
        self._received = bytearray()

    def next_frame(self) -> Frame:
        while True:
            frame = wire.decode(memoryview(bytes(self._received)), 0, len(self._received))
            if frame is not None:
                del self._received[: frame.size]
                return frame
            self._received += self.data.recv(65536)

    def answer(self, op: Op, seq: int, *, offset: int = 0) -> None:
        self.acks.sendall(wire.encode(op, epoch=_EPOCH, seq=seq, offset=offset))

    def close(self) -> None:
        self.stream.fail("the test is over")
        self.stream.close()
        self.data.close()
        self.acks.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def test_one_thread_reads_for_all_who_wait(peer: Peer) -> None:
    stream = peer.stream
    answers: queue.SimpleQueue[tuple[int, bool]] = queue.SimpleQueue()

    def operation(seq: int) -> None:
        stream.when(seq, flushed=False, then=lambda good: answers.put((seq, good)), reading=True)

    seqs = [stream.append(Op.REMOVE, fid=1, offset=1, data=b"x", flags=wire.WAITED) for _ in range(3)]
    threads = [threading.Thread(target=operation, args=(seq,)) for seq in seqs]
    threads[0].start()
    assert [peer.next_frame().seq for _ in seqs] == seqs
    for thread in threads[1:]:
        thread.start()
    peer.answer(Op.ACK, seqs[1])
    assert {answers.get(timeout=_DEADLINE_S) for _ in range(2)} == {(seqs[0], True), (seqs[1], True)}
    peer.answer(Op.ACK, seqs[2])
    assert answers.get(timeout=_DEADLINE_S) == (seqs[2], True)
    for thread in threads:
        thread.join(_DEADLINE_S)
        assert not thread.is_alive()


def test_a_command_sleeps_while_the_streams_own_thread_reads(peer: Peer) -> None:
    seq = peer.stream.append(Op.BARRIER, flags=wire.WAITED | wire.SYNC)
    outcome: queue.SimpleQueue[bool] = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: outcome.put(peer.stream.wait_flushed(seq, _DEADLINE_S)))
    thread.start()
    assert peer.next_frame().seq == seq
    peer.answer(Op.ACK, seq)  # applied is not flushed
    peer.answer(Op.DONE, seq)
    assert outcome.get(timeout=_DEADLINE_S) is True
    thread.join(_DEADLINE_S)


def test_only_a_flush_with_no_other_under_way_is_marked_alone(peer: Peer) -> None:
    stream = peer.stream
    flags = wire.WAITED | wire.SYNC
    first = stream.append(Op.FSYNC, fid=1, flags=flags)
    stream.append(Op.FSYNC, fid=2, flags=flags)
    stream.flush()
    assert peer.next_frame().flags & wire.ALONE
    assert not peer.next_frame().flags & wire.ALONE
    for seq in (first, first + 1):
        peer.answer(Op.DONE, seq)
        assert stream.wait_flushed(seq, _DEADLINE_S)
    stream.append(Op.FSYNC, fid=1, flags=flags)
    stream.flush()
    assert peer.next_frame().flags & wire.ALONE


def test_a_full_ring_holds_the_next_append_until_an_acknowledgement() -> None:
    peer = Peer(ring_bytes=1024)
    try:
        stream = peer.stream
        first = stream.append(Op.WRITE, fid=1, data=b"x" * 2000)
        appended: queue.SimpleQueue[int] = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: appended.put(stream.append(Op.WRITE, fid=1, data=b"y")))
        thread.start()
        frame = peer.next_frame()  # the waiting append has sent what was queued
        assert appended.empty()
        peer.answer(Op.ACK, first, offset=frame.size)
        assert appended.get(timeout=_DEADLINE_S) == first + 1
        thread.join(_DEADLINE_S)
    finally:
        peer.close()


def test_a_lost_stream_tells_everybody_and_takes_nothing_more(peer: Peer) -> None:
    stream = peer.stream
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    seq = stream.append(Op.FSYNC, fid=1, flags=wire.WAITED | wire.SYNC)
    thread = threading.Thread(target=lambda: stream.when(seq, flushed=True, then=answers.put, reading=True))
    thread.start()
    peer.next_frame()
    peer.answer(Op.NAK, seq)
    assert answers.get(timeout=_DEADLINE_S) is False
    thread.join(_DEADLINE_S)
    assert stream.append(Op.WRITE, fid=1, data=b"late") == 0
    assert not stream.wait(seq)
    assert len(peer.lost) == 1
