"""Inodes the kernel or the peer talks about, and the descriptors to reach them.

Problem: a descriptor per inode dies at RLIMIT_NOFILE, and a path is never a name (renames, hard links, PATH_MAX,
unlinked files). So an inode is known by its session file id (fid), and reached through an O_PATH descriptor that may
be closed at any time and opened again from the inode's file handle. An `Inode` object exists only while somebody uses
it or it has a descriptor; idle inodes are packed records (`inode_table`), and what must outlive the object is written
through to the record at once.

Guarantee: a descriptor handed out stays open until the `Call` that asked for it ends. Eviction and use need no lock
between them: a user first enters the inode into its call's `holding`, then reads the descriptor; the evictor first
takes the descriptor out of the inode, then looks through all calls (hazard pointers; the interpreter makes both steps
sequentially consistent). An inode without a link left (`orphan`) and one without a handle keep their descriptor.

Limits: where the file system gives no handles (overlayfs without index) every inode known to the kernel keeps a
descriptor, so RLIMIT_NOFILE bounds their number.
"""

from __future__ import annotations

import errno
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mirror_agent.mirror import files
from mirror_agent.mirror.fuse_abi import RESENT

# Fids 1..15 are reserved for the roots; all others are given once and never again.
FIRST_FID: Final = 16

_PATH_FLAGS: Final = files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC


@dataclass(frozen=True)
class Root:
    """One replicated directory, opened before anything is mounted over it. `fid` is 1 + its index."""

    index: int
    path: str
    strict: bool
    fd: int
    device: int

    @property
    def fid(self) -> int:
        return 1 + self.index


class Home(Protocol):
    """Where the record of an inode is kept while nobody holds the object."""

    def note_handle(self, inode: Inode, handle: bytes) -> None: ...

    def note_orphan(self, inode: Inode) -> None: ...

    def note_flushed(self, inode: Inode) -> None: ...

    def note_bound(self, inode: Inode, stream: object) -> None: ...

    def note_synced(self, inode: Inode, stream: object) -> None: ...


class Inode:
    """One inode. `bound`: the stream whose replica knows the fid; `synced` (directories): the stream whose replica
    has the same names in it; `orphan`: no link is left; `flushed`: a caller has had it flushed; `dropped`: nobody
    refers to it any more; `holds`: references of this process (those of the kernel are counted in the record);
    `fresh`: the dirty log since whose beginning it was made."""

    __slots__ = (
        "__weakref__",
        "_bound",
        "_flushed",
        "_handle",
        "_orphan",
        "_synced",
        "default_acl",
        "dropped",
        "fd",
        "fid",
        "fresh",
        "holds",
        "home",
        "ino",
        "kind",
        "root",
        "rw",
        "slot",
        "used",
    )

    def __init__(self, root: Root, fid: int, ino: int, kind: int, fd: int) -> None:
        self.root = root
        self.fid = fid
        self.ino = ino
        self.kind = kind
        self.fd = fd
        self.rw = -1
        self.holds = 0
        self.dropped = False
        self.used = False
        self.fresh: object = None
        self.default_acl: bool | None = None
        self.home: Home | None = None
        self.slot = 0
        self._handle: bytes | None = None
        self._orphan = False
        self._flushed = False
        self._bound: Any = None
        self._synced: Any = None

    def awake(
        self, home: Home, slot: int, *, handle: bytes | None, orphan: bool, flushed: bool, bound: Any, synced: Any
    ) -> None:
        """Takes over what the record says; later changes go there."""
        self.home, self.slot = home, slot
        self._handle, self._orphan, self._flushed = handle, orphan, flushed
        self._bound, self._synced = bound, synced

    @property
    def handle(self) -> bytes | None:
        return self._handle

    @handle.setter
    def handle(self, handle: bytes) -> None:
        self._handle = handle
        if self.home is not None:
            self.home.note_handle(self, handle)

    @property
    def orphan(self) -> bool:
        return self._orphan

    @orphan.setter
    def orphan(self, orphan: bool) -> None:
        self._orphan = orphan
        if orphan and self.home is not None:
            self.home.note_orphan(self)

    @property
    def flushed(self) -> bool:
        return self._flushed

    def flush_asked(self) -> None:
        if self._flushed:
            return
        self._flushed = True
        if self.home is not None:
            self.home.note_flushed(self)

    @property
    def bound(self) -> Any:
        return self._bound

    @bound.setter
    def bound(self, stream: object) -> None:
        self._bound = stream
        if self.home is not None:
            self.home.note_bound(self, stream)

    @property
    def synced(self) -> Any:
        return self._synced

    @synced.setter
    def synced(self, stream: object) -> None:
        self._synced = stream
        if self.home is not None:
            self.home.note_synced(self, stream)

    @property
    def is_dir(self) -> bool:
        return self.kind == stat.S_IFDIR

    @property
    def is_file(self) -> bool:
        return self.kind == stat.S_IFREG

    def __repr__(self) -> str:
        return f"<Inode fid={self.fid:#x} ino={self.ino} kind={self.kind:o} orphan={self.orphan}>"


def _nothing() -> None:
    """Nobody waits for this thread."""


class Call:
    """What one thread is doing: the inodes whose descriptors it uses, and what it must wait for before it answers.
    `before_waiting` and `before_flushing` are called when it is about to wait for a disk."""

    __slots__ = ("before_flushing", "before_waiting", "gid", "holding", "ticket", "uid", "unique")

    @property
    def replayed(self) -> bool:
        """An engine that died had this request already, and may have carried it out."""
        return bool(self.unique & RESENT)

    def __init__(self) -> None:
        self.holding: list[Inode] = []
        self.ticket: Any = None
        self.uid = 0
        self.gid = 0
        self.unique = 0
        self.before_waiting: Callable[[], None] = _nothing
        self.before_flushing: Callable[[], None] = _nothing


class Descriptors:
    """The open descriptors of all inodes of one process; at most `open_max` inodes keep theirs."""

    def __init__(self, open_max: int) -> None:
        self._open_max = open_max
        self._lock = threading.Lock()
        self._open: deque[Inode] = deque()
        self._calls: list[Call] = []
        self._grave: list[tuple[Inode, int]] = []
        self._handles = True
        self._proven = False
        files.closes_before_moves(self.shed)

    def new_call(self) -> Call:
        call = Call()
        with self._lock:
            self._calls.append(call)
        return call

    def end_call(self, call: Call) -> None:
        with self._lock:
            self._calls.remove(call)

    def path_fd(self, inode: Inode, call: Call) -> int:
        """An O_PATH descriptor (for a root: a directory descriptor), valid until the call's `holding` is cleared."""
        call.holding.append(inode)
        inode.used = True
        fd = inode.fd
        return fd if fd >= 0 else self._reopen(inode)

    def data_fd(self, inode: Inode, call: Call) -> int:
        """A descriptor for reading and writing a regular file, or for reading a directory."""
        call.holding.append(inode)
        inode.used = True
        fd = inode.rw
        if fd >= 0:
            return fd
        with self._lock:
            # Both descriptors or none: what has one is in the account, or it would be lost with the object.
            path = self._path_open(inode)
            if inode.rw < 0:
                flags = (files.O_RDONLY | files.O_DIRECTORY) if inode.is_dir else files.O_RDWR
                inode.rw = files.open(files.through(path), flags | files.O_CLOEXEC)
            return inode.rw

    def adopt(self, inode: Inode) -> None:
        """Takes an inode with a fresh O_PATH descriptor into the account."""
        with self._lock:
            self._open.append(inode)
            if len(self._open) > self._open_max:
                self._evict()

    def close(self, inode: Inode) -> None:
        """Closes what the inode holds as soon as no call uses it. The inode must not be used for new calls."""
        with self._lock:
            inode.dropped = True
            self._bury(inode)
            self._sweep()

    def _reopen(self, inode: Inode) -> int:
        with self._lock:
            return self._path_open(inode)

    def _path_open(self, inode: Inode) -> int:
        """The lock is held."""
        if inode.fd < 0:
            if inode.handle is None:
                raise OSError(errno.ESTALE, f"{inode!r} has neither a descriptor nor a handle")
            if len(self._open) > self._open_max:
                self._evict()
            inode.fd = files.open_handle(inode.root.fd, inode.handle, _PATH_FLAGS)
            self._open.append(inode)
        return inode.fd

    def shed(self) -> None:
        """Closes every descriptor that can be had again (those in use: as soon as their calls end)."""
        with self._lock:
            kept: deque[Inode] = deque()
            for inode in self._open:
                if inode.dropped or inode.fd < 0:
                    self._bury(inode)
                elif inode.orphan or inode.fid < FIRST_FID or not self._movable(inode):
                    kept.append(inode)
                else:
                    self._bury(inode)
            self._open = kept
            self._sweep()

    def _evict(self) -> None:
        self._make_room()
        self._sweep()

    def _make_room(self) -> None:
        """Second chance: an inode used since the last round stays. Gives up after one round over all."""
        for _ in range(len(self._open)):
            if len(self._open) <= self._open_max or not self._handles:
                return
            inode = self._open.popleft()
            if inode.dropped or inode.fd < 0:
                self._bury(inode)
                continue
            if inode.used or inode.orphan or inode.fid < FIRST_FID:
                inode.used = False
                self._open.append(inode)
                continue
            if not self._movable(inode):
                self._open.append(inode)
                return
            self._bury(inode)

    def _movable(self, inode: Inode) -> bool:
        """False: this file system or this process cannot use handles, so every inode keeps its descriptor."""
        try:
            handle = inode.handle
            if handle is None:
                inode.handle = handle = files.handle_of(inode.fd)
            if not self._proven:
                files.close(files.open_handle(inode.root.fd, handle, _PATH_FLAGS))
                self._proven = True
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EOVERFLOW, errno.EPERM, errno.ESTALE):
                raise
            self._handles = False
            return False
        return True

    def _bury(self, inode: Inode) -> None:
        for fd in (inode.fd, inode.rw):
            if fd >= 0:
                self._grave.append((inode, fd))
        inode.fd = inode.rw = -1

    def _sweep(self) -> None:
        still: list[tuple[Inode, int]] = []
        for inode, fd in self._grave:
            if any(inode in call.holding for call in self._calls):
                still.append((inode, fd))
            else:
                files.close(fd)
        self._grave = still

    def pin(self, inode: Inode, fd: int) -> None:
        """The last link is gone: keeps a descriptor until `close`. `fd` is one the caller got from `path_fd`."""
        with self._lock:
            inode.orphan = True
            if inode.fd < 0:
                inode.fd = files.dup(fd)
                self._open.append(inode)

    def close_all(self, inodes: Iterator[Inode]) -> None:
        """At the end of a role: closes everything, no call is running any more."""
        with self._lock:
            for inode in inodes:
                self._bury(inode)
            for _, fd in self._grave:
                files.close(fd)
            self._grave.clear()
            self._open.clear()
