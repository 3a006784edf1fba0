"""The primary's side of a resync: makes the replica's tree this one while the application goes on.

Top-down: a directory's names are sent as a whole under its order lock (DIR_BEGIN, one ENSURE per entry, DIR_END: the
replica drops everything else), after which live changes in it are streamed; then the contents of its files are
compared by block digests, and differing blocks are read and sent again under the file's order lock. Live frames and
these share the one stream, so whatever comes last is right and no cursor is needed.

A match is always right although the replica compares later than this side read: every frame in between sets bytes to
what they are here, so if the result equals the old content, the frames changed nothing.

Names that move between directories the replica has and has not: `depart` stashes them there, `arrive` creates them.

Limits: totals grow while the tree is being listed; the inodes of one directory, and all files with several links, are
held until their content was compared.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

from mirror_agent.mirror import limits, wire
from mirror_agent.mirror.front import Front
from mirror_agent.mirror.inodes import Call, Descriptors, Inode
from mirror_agent.mirror.outlet import Outlet
from mirror_agent.mirror.replica_resync import digests_of
from mirror_agent.mirror.stream import Stream
from mirror_agent.mirror.wire import Entry, Op

log: Final = logging.getLogger(__name__)

_PATH_FLAGS: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ROOT_NAME: Final = b"root"


@dataclass
class Progress:
    """Bytes of file content found so far, and of these compared (and repaired where needed)."""

    done_bytes: int = 0
    total_bytes: int = 0
    filled_bytes: int = 0


@dataclass
class _Asked:
    inode: Inode
    offset: int
    length: int
    final: bool
    state: dict[str, bool]


class Resync:
    """One attempt on one stream. `run` returns True when the replica has everything that is not in the stream."""

    def __init__(self, stream: Stream, fronts: list[Front], outlet: Outlet, descriptors: Descriptors) -> None:
        self.progress = Progress()
        self._stream = stream
        self._fronts = fronts
        self._outlet = outlet
        self._descriptors = descriptors
        self._call: Call = descriptors.new_call()
        self._directories: deque[tuple[Front, Inode]] = deque()
        self._files: deque[tuple[Front, Inode]] = deque()
        self._arrived: deque[tuple[Front, Inode]] = deque()
        self._arriving = threading.Lock()
        self._held: list[tuple[Front, Inode]] = []
        self._asked: deque[_Asked] = deque()
        self._asked_bytes = 0

    def run(self) -> bool:
        stream, outlet = self._stream, self._outlet
        try:
            if not stream.append(Op.RESYNC):
                return False
            for front in self._fronts:
                front.table.root_inode.bound = stream
            outlet.arrivals = self
            outlet.stream = stream
            for front in self._fronts:
                root = front.table.root_inode
                front.table.hold(root)
                self._ensure(self._call, root, None, _ROOT_NAME)
                self._directories.append((front, root))
            while not self._is_complete():
                self._walk()
                if stream.lost is not None:
                    return False
            self._send_times()
            return stream.lost is None
        finally:
            outlet.arrivals = None
            self._let_all_go()
            self._descriptors.end_call(self._call)

    def _is_complete(self) -> bool:
        """Every directory is listed, so nothing can arrive any more; from here the outlet insists on bound inodes."""
        with self._arriving:
            if self._directories or self._arrived:
                return False
            self._stream.complete = True
            return True

    def _walk(self) -> None:
        while self._stream.lost is None:
            while self._arrived:
                front, inode = self._arrived.popleft()
                (self._directories if inode.is_dir else self._files).append((front, inode))
            self._call.holding.clear()
            if self._files:
                self._compare(*self._files.popleft())
            elif self._directories:
                self._list(*self._directories.pop())
            elif self._asked:
                self._take_answer(wait=True)
            else:
                return

    # -- names -----------------------------------------------------------------------------------------------------

    def _front(self, inode: Inode) -> Front:
        return self._fronts[inode.root.index]

    def _list(self, front: Front, directory: Inode) -> None:
        """Sends one directory as a whole; its files and directories are queued."""
        stream = self._stream
        children = []
        try:
            with self._outlet.directory_lock(directory):
                if directory.orphan or directory.synced is stream:
                    return
                fd = self._descriptors.path_fd(directory, self._call)
                reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    names = [os.fsencode(name) for name in os.listdir(reader)]
                finally:
                    os.close(reader)
                stream.append(Op.DIR_BEGIN, fid=directory.fid)
                for name in names:
                    children.append(self._child(front, directory, fd, name))
                mtime_ns = os.fstat(fd).st_mtime_ns
                stream.append(Op.DIR_END, fid=directory.fid, data=wire.settled_payload(0, mtime_ns))
                directory.synced = stream
        finally:
            front.names.let_go(self._call, directory, 1)
        for child in children:
            self._call.holding.clear()
            if child.is_dir:
                self._directories.append((front, child))
            elif child.is_file and child.synced is not stream:
                self._files.append((front, child))
            else:
                self._done_with(front, child)

    def _child(self, front: Front, directory: Inode, directory_fd: int, name: bytes) -> Inode:
        fd = os.open(name, _PATH_FLAGS, dir_fd=directory_fd)
        st = os.fstat(fd)
        if st.st_dev != front.root.device:
            os.close(fd)
            raise OSError(errno.EXDEV, f"{name!r} below {front.root.path} is another file system")
        inode = front.table.remember(fd, st)
        self._ensure(self._call, inode, directory, name)
        # Only this directory's descriptor is needed until its end; a hundred thousand others are not.
        del self._call.holding[1:]
        return inode

    def _ensure(self, call: Call, inode: Inode, parent: Inode | None, name: bytes) -> int:
        with self._outlet.inode_lock(inode):
            fd = self._descriptors.path_fd(inode, call)
            st = os.fstat(fd)
            target = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(st.st_mode) else b""
            entry = Entry(
                st.st_mode, st.st_uid, st.st_gid, st.st_rdev,
                st.st_size if stat.S_ISREG(st.st_mode) else 0, st.st_mtime_ns, st.st_nlink, name, target, xattrs_of(fd),
            )  # fmt: skip
            offset = 0 if parent is None else parent.fid
            seq = self._stream.append(Op.ENSURE, fid=inode.fid, offset=offset, data=wire.entry_payload(entry))
            if seq:
                inode.bound = self._stream
            return seq

    def arrive(self, parent: Inode, name: bytes, inode: Inode) -> int:
        """A name appeared in a listed directory whose inode the replica may not have; the directory's lock is held."""
        front = self._front(inode)
        call = self._descriptors.new_call()
        try:
            seq = self._ensure(call, inode, parent, name)
        finally:
            self._descriptors.end_call(call)
        if inode.synced is not self._stream and (inode.is_dir or inode.is_file):
            with self._arriving:
                front.table.hold(inode)
                self._arrived.append((front, inode))
        return seq

    def found(self, directory: Inode) -> None:
        """The application came upon a directory of which this side does not know whether the replica has its names."""
        with self._arriving:
            if directory.synced is not self._stream and not self._stream.complete:
                self._front(directory).table.hold(directory)
                self._arrived.append((self._front(directory), directory))

    def depart(self, parent: Inode, name: bytes, inode: Inode) -> int:
        """A name left a listed directory for one that is not; the directory's lock is held."""
        front = self._front(inode)
        with self._outlet.inode_lock(inode):
            seq = self._stream.append(Op.STASH, fid=inode.fid, offset=parent.fid, data=name)
            if seq:
                inode.bound = self._stream
        front.table.hold(inode)
        self._held.append((front, inode))
        return seq

    # -- content ---------------------------------------------------------------------------------------------------

    def _compare(self, front: Front, inode: Inode) -> None:
        """Asks for the comparison of a whole file, as far as the window allows without waiting for answers."""
        if inode.synced is self._stream or inode.orphan:
            self._done_with(front, inode)
            return
        inode.synced = self._stream  # asked for once, however many links lead here
        fd = self._descriptors.data_fd(inode, self._call)
        size = os.fstat(fd).st_size
        if size == 0:
            self._done_with(front, inode)
            return
        self.progress.total_bytes += size
        state = {"different": False}
        step = limits.BLOCK_BYTES * limits.BLOCKS_PER_SUM
        for offset in range(0, size, step):
            length = min(step, size - offset)
            digests = [digest for digest, _ in digests_of(fd, offset, length)]
            final = offset + length >= size
            flags = wire.FINAL if final else 0
            payload = wire.sum_payload(size, digests)
            if not self._stream.append(Op.SUM, fid=inode.fid, offset=offset, data=payload, flags=flags):
                self._held.append((front, inode))
                return
            self._asked.append(_Asked(inode, offset, length, final, state))
            self._asked_bytes += length
            while self._asked_bytes > limits.RESYNC_WINDOW_BYTES and self._stream.lost is None:
                self._take_answer(wait=True)
        while self._asked and not self._stream.answers.empty() and self._stream.lost is None:
            self._take_answer(wait=False)

    def _take_answer(self, *, wait: bool) -> None:
        """One answer to the oldest question: differing blocks are read and sent under the file's order lock."""
        self._stream.flush()
        answer = self._stream.answers.get(block=wait)
        if answer is None:
            return  # the stream is lost
        fid, offset, different = answer
        asked = self._asked.popleft()
        if (fid, offset) != (asked.inode.fid, asked.offset):
            self._stream.fail(f"answer for file id {fid} at {offset}, expected {asked.inode.fid} at {asked.offset}")
            return
        call = self._descriptors.new_call()
        try:
            for start, end in runs(different, limits.MAX_WRITE_BYTES // limits.BLOCK_BYTES):
                self._fill(call, asked.inode, offset + start * limits.BLOCK_BYTES, (end - start) * limits.BLOCK_BYTES)
                asked.state["different"] = True
            if asked.final:
                if asked.state["different"]:
                    self._settle(call, asked.inode)
                self._done_with(self._front(asked.inode), asked.inode)
        finally:
            self._descriptors.end_call(call)
        self._asked_bytes -= asked.length
        self.progress.done_bytes += asked.length

    def _fill(self, call: Call, inode: Inode, offset: int, length: int) -> None:
        with self._outlet.inode_lock(inode):
            if inode.orphan:
                return
            data = os.pread(self._descriptors.data_fd(inode, call), length, offset)
            if data:
                self._stream.append(Op.FILL, fid=inode.fid, offset=offset, data=data)
                self.progress.filled_bytes += len(data)

    def _settle(self, call: Call, inode: Inode) -> None:
        with self._outlet.inode_lock(inode):
            if not inode.orphan:
                st = os.fstat(self._descriptors.path_fd(inode, call))
                payload = wire.settled_payload(st.st_size, st.st_mtime_ns)
                self._stream.append(Op.SETTLED, fid=inode.fid, data=payload)

    def _done_with(self, front: Front, inode: Inode) -> None:
        """What has several links stays held to the end, so that the next link finds the same fid."""
        if (
            not inode.is_dir
            and not inode.orphan
            and os.fstat(self._descriptors.path_fd(inode, self._call)).st_nlink > 1
        ):
            self._held.append((front, inode))
        else:
            front.names.let_go(self._call, inode, 1)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _send_times(self) -> None:
        for _ in range(2):
            for inode in self._outlet.take_times():
                if not inode.dropped:
                    self._outlet.send_times(inode, self._descriptors.path_fd(inode, self._call))
                self._call.holding.clear()

    def _let_all_go(self) -> None:
        self._call.holding.clear()
        for queue in (self._directories, self._files, self._arrived, self._held):
            while queue:
                front, inode = queue.pop()
                front.names.let_go(self._call, inode, 1)
                self._call.holding.clear()
        finals = [asked for asked in self._asked if asked.final]
        for asked in finals:
            self._front(asked.inode).names.let_go(self._call, asked.inode, 1)
        self._asked.clear()


def xattrs_of(fd: int) -> tuple[tuple[bytes, bytes], ...]:
    """All extended attributes of the inode behind an O_PATH descriptor, sorted by name."""
    path = f"/proc/self/fd/{fd}"
    found = []
    for key in sorted(os.listxattr(path)):
        try:
            found.append((os.fsencode(key), os.getxattr(path, key)))
        except OSError as error:
            if error.errno != errno.ENODATA:  # removed between the two calls
                raise
    return tuple(found)


def runs(blocks: list[int], longest: int) -> list[tuple[int, int]]:
    """Half-open ranges of neighbouring numbers in a sorted list, none longer than `longest`."""
    found: list[tuple[int, int]] = []
    for block in blocks:
        if found and found[-1][1] == block and block - found[-1][0] < longest:
            found[-1] = (found[-1][0], block + 1)
        else:
            found.append((block, block + 1))
    return found
