"""What an engine leaves to its successor, kept by the kernel in the queue of a socket pair that the supervisor holds.

Problem: when the engine dies its descriptors die with it: the FUSE connections (the application gets ENOTCONN), the
directories below the mounts (nobody can open them again), the inode tables, and files that are open but unlinked.
Therefore each of them is also put, as a message with a descriptor, into a socket pair; the supervisor has both ends
open and never reads. As long as it lives, they live. If it dies as well, the kernel closes everything, which aborts the
connections: nothing hangs.

Guarantee: what `put` accepted is there for the successor until `drop` or `clear`, also if this process is killed in the
middle of any method (an entry may then be there twice). Dropped orphans are weeded out in bulk.

Limits: `_QUEUE_BYTES` of queue, about 20,000 open unlinked files; `put` says False when it is full.
"""

from __future__ import annotations

import array
import contextlib
import errno
import logging
import os
import socket
import struct
import threading
from collections import deque
from enum import IntEnum
from typing import Final, NamedTuple

log: Final = logging.getLogger(__name__)

_MESSAGE: Final = struct.Struct("<BQ")
_QUEUE_BYTES: Final = 16 * 1024 * 1024
_SO_SNDBUFFORCE: Final = 32
_WEED_MIN: Final = 64


Entry = tuple[int, int]


class Kind(IntEnum):
    """What a descriptor is; the key is the root's index, for an orphan the inode's fid."""

    END = 0
    CONNECTION = 1
    DIRECTORY = 2
    TABLE = 3
    ORPHAN = 4


class Heirloom(NamedTuple):
    kind: Kind
    key: int
    fd: int


def estate_sockets() -> tuple[socket.socket, socket.socket]:
    """(where the engine puts, where it takes): the supervisor makes them and keeps both open."""
    sink, source = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sink.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _QUEUE_BYTES)
    except PermissionError:
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUE_BYTES)  # up to the system's limit
    return sink, source


def is_empty(source: socket.socket) -> bool:
    """True if nothing was left behind. For the supervisor, without taking anything."""
    try:
        _, fds = _receive(source, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    for fd in fds:
        os.close(fd)
    return False


def drain(source: socket.socket) -> None:
    """Closes everything that was left behind."""
    with contextlib.suppress(BlockingIOError):
        while True:
            for fd in _receive(source)[1]:
                os.close(fd)


def _receive(source: socket.socket, flags: int = 0) -> tuple[bytes, list[int]]:
    flags |= socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    data, ancillary, _, _ = source.recvmsg(_MESSAGE.size, socket.CMSG_SPACE(4), flags)
    fds = array.array("i")
    for _, _, body in ancillary:
        fds.frombytes(body[: len(body) - len(body) % fds.itemsize])
    return data, list(fds)


class Estate:
    """One per engine process."""

    def __init__(self, sink: socket.socket, source: socket.socket) -> None:
        self._sink = sink
        self._source = source
        self._lock = threading.Lock()
        self._live: set[Entry] = set()
        # As in the queue.
        self._order: deque[Entry] = deque()
        self._dead = 0

    def put(self, kind: Kind, key: int, fd: int) -> bool:
        """Keeps a duplicate of the descriptor; False (and a log entry) if that cannot be done."""
        with self._lock:
            if (kind, key) in self._live:
                return True
            sent = self._send(kind, key, fd)
            if not sent and self._dead:
                self._weed()
                sent = self._send(kind, key, fd)
            if sent:
                self._live.add((kind, key))
                self._order.append((kind, key))
            return sent

    def _send(self, kind: int, key: int, fd: int | None) -> bool:
        rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        try:
            self._sink.sendmsg([_MESSAGE.pack(kind, key)], rights, socket.MSG_DONTWAIT)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS):
                raise
            log.warning("a successor cannot be left %s %#x: %s", Kind(kind).name, key, error)
            return False
        return True

    def drop(self, kind: Kind, key: int) -> None:
        """The entry is not needed any more; it may stay for a while."""
        with self._lock:
            if (kind, key) not in self._live:
                return
            self._live.discard((kind, key))
            self._dead += 1
            if self._dead > _WEED_MIN + len(self._live):
                self._weed()

    def clear(self) -> None:
        """The role is over: nothing is left to anybody."""
        with self._lock:
            self._live.clear()
            self._order.clear()
            drain(self._source)
            self._dead = 0

    def inherit(self) -> list[Heirloom]:
        """What the engine before left, each once; everything stays in the estate. The caller owns the descriptors
        and drops what it does not need. Raises OSError if the queue is too full to be gone through."""
        with self._lock:
            mark = int.from_bytes(os.urandom(8), "little")
            if not self._send(Kind.END, mark, None):
                raise OSError(errno.ENOBUFS, "the estate is full")
            found: dict[Entry, Heirloom] = {}
            while True:
                message, fds = _receive(self._source, socket.MSG_PEEK)
                kind, key = _MESSAGE.unpack(message)
                if not fds or (kind, key) in found:
                    # The end of this round or of one that was cut off, or a copy such a one has made.
                    self._take_away(fds)
                    if kind == Kind.END and key == mark:
                        self._live, self._order, self._dead = set(found), deque(found), 0
                        return list(found.values())
                    continue
                if not self._send(kind, key, fds[0]):
                    raise OSError(errno.ENOBUFS, "the estate is full")
                self._take_away([])
                found[(kind, key)] = Heirloom(Kind(kind), key, fds[0])

    def _weed(self) -> None:
        """Once through the queue: what lives goes to the end (and is taken away only then), the rest goes."""
        seen: set[Entry] = set()
        for _ in range(len(self._order)):
            entry = self._order[0]
            copied: list[int] = []
            if entry in self._live and entry not in seen:
                seen.add(entry)
                _, copied = _receive(self._source, socket.MSG_PEEK)
                if not self._send(*entry, copied[0]):
                    os.close(copied[0])
                    return
                self._order.append(entry)
            self._take_away(copied)
            self._order.popleft()
        self._dead = 0

    def _take_away(self, also: list[int]) -> None:
        for fd in (*_receive(self._source)[1], *also):
            os.close(fd)
