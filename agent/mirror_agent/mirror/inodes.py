"""Inodes the kernel or the peer talks about, and the descriptors to reach them.

Problem: a descriptor per inode dies at RLIMIT_NOFILE, and a path is never a name (renames, hard links, PATH_MAX,
unlinked files). So an inode is known by its session file id (fid), and reached through an O_PATH descriptor that may
be closed at any time and opened again from the inode's file handle.

Guarantee: a descriptor handed out stays open until the `Call` that asked for it ends. Eviction and use need no lock
between them: a user first enters the inode into its call's `holding`, then reads the descriptor; the evictor first
takes the descriptor out of the inode, then looks through all calls (hazard pointers; the interpreter makes both steps
sequentially consistent). An inode without a link left (`orphan`) and one without a handle keep their descriptor.

Limits: where the file system gives no handles (overlayfs without index) every inode known to the kernel keeps a
descriptor, so RLIMIT_NOFILE bounds their number.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from mirror_agent.mirror import syscalls
from mirror_agent.mirror.fuse_abi import ROOT_NODEID

# Fids 1..15 are reserved for the roots; all others are given once per process and never again.
FIRST_FID: Final = 16
next_fid: Final = itertools.count(FIRST_FID).__next__

_PATH_FLAGS: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


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


class Inode:
    """One inode. `bound`: the stream whose replica knows the fid; `synced` (directories): the stream whose replica
    has the same names in it; `orphan`: no link is left; `dropped`: nobody refers to it any more."""

    __slots__ = (
        "bound",
        "default_acl",
        "dropped",
        "fd",
        "fid",
        "handle",
        "ino",
        "kind",
        "lookups",
        "orphan",
        "root",
        "rw",
        "synced",
        "used",
    )

    def __init__(self, root: Root, fid: int, ino: int, kind: int, fd: int) -> None:
        self.root = root
        self.fid = fid
        self.ino = ino
        self.kind = kind
        self.fd = fd
        self.rw = -1
        self.handle: bytes | None = None
        self.lookups = 0
        self.orphan = False
        self.dropped = False
        self.used = False
        self.bound: Any = None
        self.synced: Any = None
        self.default_acl: bool | None = None

    @property
    def is_dir(self) -> bool:
        return self.kind == stat.S_IFDIR

    @property
    def is_file(self) -> bool:
        return self.kind == stat.S_IFREG

    def __repr__(self) -> str:
        return f"<Inode fid={self.fid} ino={self.ino} kind={self.kind:o} lookups={self.lookups} orphan={self.orphan}>"


class Call:
    """What one thread is doing: the inodes whose descriptors it uses, and what it must wait for before it answers."""

    __slots__ = ("gid", "holding", "ticket", "uid", "unique")

    def __init__(self) -> None:
        self.holding: list[Inode] = []
        self.ticket: Any = None
        self.uid = 0
        self.gid = 0
        self.unique = 0


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
        path = inode.fd if inode.fd >= 0 else self._reopen(inode)
        with self._lock:
            if inode.rw < 0:
                flags = (os.O_RDONLY | os.O_DIRECTORY) if inode.is_dir else os.O_RDWR
                inode.rw = os.open(f"/proc/self/fd/{path}", flags | os.O_CLOEXEC)
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
            if inode.fd < 0:
                if inode.handle is None:
                    raise OSError(errno.ESTALE, f"{inode!r} has neither a descriptor nor a handle")
                inode.fd = syscalls.open_handle(inode.root.fd, inode.handle, _PATH_FLAGS)
                self._open.append(inode)
            if len(self._open) > self._open_max:
                self._evict()
            return inode.fd

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
                continue
            if inode.used or inode.orphan or inode.fid < FIRST_FID:
                inode.used = False
                self._open.append(inode)
                continue
            if inode.handle is None and not self._take_handle(inode):
                self._open.append(inode)
                return
            self._bury(inode)

    def _take_handle(self, inode: Inode) -> bool:
        """False: this file system or this process cannot use handles, so every inode keeps its descriptor."""
        try:
            handle = syscalls.handle_of(inode.fd)
            if not self._proven:
                os.close(syscalls.open_handle(inode.root.fd, handle, _PATH_FLAGS))
                self._proven = True
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EOVERFLOW, errno.EPERM, errno.ESTALE):
                raise
            self._handles = False
            return False
        inode.handle = handle
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
                os.close(fd)
        self._grave = still

    def pin(self, inode: Inode, fd: int) -> None:
        """The last link is gone: keeps a descriptor until `close`. `fd` is one the caller got from `path_fd`."""
        with self._lock:
            inode.orphan = True
            if inode.fd < 0:
                inode.fd = os.dup(fd)

    def close_all(self, inodes: Iterator[Inode]) -> None:
        """At the end of a role: closes everything, no call is running any more."""
        with self._lock:
            for inode in inodes:
                self._bury(inode)
            for _, fd in self._grave:
                os.close(fd)
            self._grave.clear()
            self._open.clear()


class InodeTable:
    """The inodes of one root that the kernel remembers, by node id (= fid; the root is 1) and by inode number.

    An inode number cannot be reused while it is in the table: its last link can only go through this mount, and then
    the inode is taken out of `by_ino` and pinned by a descriptor until the kernel forgets it.
    """

    def __init__(self, root: Root, descriptors: Descriptors) -> None:
        self.root = root
        self.descriptors = descriptors
        self.lock = threading.Lock()
        self.root_inode = Inode(root, root.fid, os.fstat(root.fd).st_ino, stat.S_IFDIR, os.dup(root.fd))
        self.root_inode.lookups = 1
        self.by_nodeid: dict[int, Inode] = {ROOT_NODEID: self.root_inode}
        self.by_ino: dict[int, Inode] = {self.root_inode.ino: self.root_inode}

    def remember(self, fd: int, st: os.stat_result) -> Inode:
        """The inode of a fresh O_PATH descriptor, with one more reference; takes over or closes the descriptor."""
        with self.lock:
            inode = self.by_ino.get(st.st_ino)
            if inode is None:
                inode = Inode(self.root, next_fid(), st.st_ino, stat.S_IFMT(st.st_mode), fd)
                self.by_ino[inode.ino] = inode
                self.by_nodeid[inode.fid] = inode
                fresh = True
            else:
                fresh = False
            inode.lookups += 1
        if fresh:
            self.descriptors.adopt(inode)
        else:
            os.close(fd)
        return inode

    def hold(self, inode: Inode) -> None:
        with self.lock:
            inode.lookups += 1

    def forget(self, inode: Inode, count: int) -> bool:
        """Takes references back; True if this was the last one and the inode is out of the table now."""
        with self.lock:
            inode.lookups -= count
            if inode.lookups > 0 or inode is self.root_inode or inode.dropped:
                return False
            inode.dropped = True
            self.by_nodeid.pop(inode.fid, None)
            if self.by_ino.get(inode.ino) is inode:
                del self.by_ino[inode.ino]
            return True

    def orphaned(self, inode: Inode, fd: int) -> None:
        """The last link is gone: the inode is pinned by a descriptor, and its number is free for another."""
        self.descriptors.pin(inode, fd)
        with self.lock:
            if self.by_ino.get(inode.ino) is inode:
                del self.by_ino[inode.ino]

    def known(self) -> list[Inode]:
        with self.lock:
            return list(self.by_nodeid.values())
