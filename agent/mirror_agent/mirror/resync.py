"""The primary's side of a resync: makes the replica's tree this one while the application goes on.

Top-down, one directory at a time (DIR_BEGIN … DIR_END; the replica drops every name that was not sent), its names in
turns of `NAMES_PER_TURN` under its order lock. A name that was sent is *covered*: live changes to it are streamed from
then on. Changes to others are not; what they leave is found when their turn comes, or in a last listing under the lock.
Then contents are compared (`resync_content`). Live frames and these share the one stream, so the last one is right.

What may be left out is decided by `resync_choice`: an entry that did not change on either side since the base is only
named (KEEP, with its size, mode and time, which the replica checks), as long as every directory above it kept its
identity. Everything below a directory that was renamed since, or that the replica does not have, is compared.

Names that move between places the replica has and has not: `depart` stashes them there, `arrive` creates them.

Limits: the inodes of one directory that are compared, all directories not listed yet, and all files with several links
are held until their turn. The last listing of a directory takes its lock for about 1 µs per name.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from mirror_agent.mirror import files, limits, wire
from mirror_agent.mirror.front import Front
from mirror_agent.mirror.inodes import Call, Descriptors, Inode
from mirror_agent.mirror.outlet import Outlet
from mirror_agent.mirror.resync_content import Contents, runs
from mirror_agent.mirror.resync_plan import Plan
from mirror_agent.mirror.resync_proof import Place, Proof
from mirror_agent.mirror.stream import Stream
from mirror_agent.mirror.tree_entry import entry_of, names_of, size_of, xattrs_of
from mirror_agent.mirror.tree_scan import walk
from mirror_agent.mirror.wire import Op, Unchanged

__all__ = ["Resync", "runs", "xattrs_of"]

log: Final = logging.getLogger(__name__)

_PATH_FLAGS: Final = files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC
_ROOT_NAME: Final = b"root"
# An application that makes names faster than they are listed is made to wait in the end.
_ROUNDS_MAX: Final = 8
# Between two turns, so that a waiting thread gets the directory's lock.
_TURN_PAUSE_S: Final = 0.0005
_KEEPS_PER_FRAME: Final = 1024


@dataclass(frozen=True)
class Task:
    """Something to be listed or compared. `path`: its place when the replica scanned its tree; `proven`: it is the
    same inode on both sides as at the base."""

    front: Front
    inode: Inode
    path: bytes
    proven: bool

    @property
    def place(self) -> Place:
        return Place(self.front.root.fid, self.front.root.index, self.path, self.proven)


class Resync:
    """One attempt on one stream. `run` returns True when the replica has everything that is not in the stream."""

    def __init__(
        self, stream: Stream, fronts: list[Front], outlet: Outlet, descriptors: Descriptors, plan: Plan
    ) -> None:
        self.progress = plan.progress
        self._plan = plan
        self._stream = stream
        self._fronts = fronts
        self._outlet = outlet
        self._descriptors = descriptors
        self._call: Call = descriptors.new_call()
        self._contents = Contents(stream, outlet, descriptors, self._call, plan, self._done_with)
        self._proof = Proof(plan)
        self._directories: deque[Task] = deque()
        self._files: deque[Task] = deque()
        self._arrived: deque[Task] = deque()
        self._held: list[Task] = []
        self._covered: dict[int, set[bytes]] = {}
        # Directories (root, inode number) whose names the replica has: found again they need no second listing.
        self._listed: set[tuple[int, int]] = set()
        self._arriving = threading.Lock()

    def run(self) -> bool:
        stream, outlet = self._stream, self._outlet
        try:
            if not stream.append(Op.RESYNC, data=self._plan.message.payload()):
                return False
            stream.flush()
            self._survey()
            if not self._receive_report():
                return False
            for front in self._fronts:
                front.table.root_inode.bound = stream
            outlet.arrivals = self
            outlet.stream = stream
            for front in self._fronts:
                root = front.table.root_inode
                front.table.hold(root)
                self._ensure(self._call, root, None, _ROOT_NAME)
                self._directories.append(Task(front, root, b"", self._plan.known is not None))
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
            if self._directories or self._files or self._arrived:
                return False
            self._stream.complete = True
            return True

    def _survey(self) -> None:
        """How much there is to do, while the replica looks for its own changes."""
        for front in self._fronts:
            for listing in walk(front.root.fd):
                if self._stream.lost is not None:
                    return
                sizes = [
                    self._plan.extent_bytes(front.root.index, st)
                    for _, st in listing.entries
                    if stat.S_ISREG(st.st_mode) and self._plan.changed(front.root.index, st)
                ]
                self.progress.expect(len(listing.entries), sum(sizes))

    def _receive_report(self) -> bool:
        """What the replica changed since the base; False: the stream is lost."""
        if self._plan.known is None:
            return True
        while (answer := self._stream.reports.get()) is not None:
            fid, verdict, payload = answer
            if verdict:
                log.warning("resync: the replica found too many changes to name them; everything is compared")
                self._plan.compare_everything()
                return True
            if fid == 0:
                return True
            self._proof.report.take(fid, memoryview(payload))
        return False

    def _walk(self) -> None:
        while self._stream.lost is None:
            while self._arrived:
                task = self._arrived.popleft()
                (self._directories if task.inode.is_dir else self._files).append(task)
            self._call.holding.clear()
            if self._files:
                task = self._files.popleft()
                self._contents.compare(task.front, task.inode, whole=not task.proven)
            elif self._directories:
                self._list(self._directories.pop())
            elif not self._contents.finish_one():
                return

    # -- names -----------------------------------------------------------------------------------------------------

    def _front(self, inode: Inode) -> Front:
        return self._fronts[inode.root.index]

    def covers(self, directory: Inode, name: bytes) -> bool:
        """Whether the replica has this name of a directory that is being listed (or knows that it is not there)."""
        covered = self._covered.get(directory.fid)
        return covered is not None and name in covered

    def _list(self, task: Task) -> None:
        """Sends the names of one directory, in turns; its files and directories are queued."""
        covered = self._covered[task.inode.fid] = set()
        pending: list[bytes] = []
        rounds = 0
        try:
            while self._stream.lost is None:
                self._call.holding.clear()
                children: list[Task] = []
                with self._outlet.directory_lock(task.inode):
                    if task.inode.orphan or task.inode.synced is self._stream:
                        return
                    fd = self._descriptors.path_fd(task.inode, self._call)
                    if rounds == 0:
                        self._stream.append(Op.DIR_BEGIN, fid=task.inode.fid)
                    relisted = not pending
                    if relisted:
                        rounds += 1
                        pending = [name for name in names_of(fd) if name not in covered]
                    count = limits.NAMES_PER_TURN if rounds < _ROUNDS_MAX else len(pending)
                    turn, pending = pending[:count], pending[count:]
                    self._send_names(task, fd, turn, covered, children)
                    ended = relisted and not pending
                    if ended:
                        mtime_ns = files.fstat(fd).st_mtime_ns
                        self._stream.append(Op.DIR_END, fid=task.inode.fid, data=wire.settled_payload(0, mtime_ns))
                        task.inode.synced = self._stream
                        self._listed.add((task.inode.root.index, task.inode.ino))
                self._queue(children)
                self.progress.looked_at(len(turn))
                if ended:
                    return
                self._plan.pace.spent(0)
                time.sleep(_TURN_PAUSE_S)
        finally:
            del self._covered[task.inode.fid]
            self._call.holding.clear()
            task.front.names.let_go(self._call, task.inode, 1)

    def _queue(self, children: list[Task]) -> None:
        for child in children:
            self._call.holding.clear()
            if child.inode.is_dir:
                self._directories.append(child)
            elif child.inode.is_file and child.inode.synced is not self._stream:
                self._files.append(child)
            else:
                self._done_with(child.front, child.inode)

    def _send_names(self, task: Task, fd: int, names: list[bytes], covered: set[bytes], children: list[Task]) -> None:
        """One turn, under the directory's lock."""
        place = task.place
        unchanged: list[Unchanged] = []
        for name in names:
            try:
                st = files.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed since it was listed; the replica drops it at DIR_END
            if stat.S_ISDIR(st.st_mode):
                children.append(self._directory(task, fd, name, st))
                covered.add(name)
            elif self._proof.skips(place, name, st, bound=self._is_bound(task.front, st)):
                unchanged.append(Unchanged(name, st.st_mode, size_of(st), st.st_mtime_ns))
            else:
                inode = self._child(task.front, task.inode, fd, name, ensure=True)
                children.append(Task(task.front, inode, b"", self._proof.file(place, name)))
                covered.add(name)
        for at in range(0, len(unchanged), _KEEPS_PER_FRAME):
            payload = wire.keep_payload(unchanged[at : at + _KEEPS_PER_FRAME])
            self._stream.append(Op.KEEP, fid=task.inode.fid, data=payload)
        # From here on a look-up makes the inode known to the replica by itself; what was looked up, or written, before
        # that is seen now.
        covered.update(one.name for one in unchanged)
        for one in unchanged:
            self._look_again(task, fd, one.name, children)

    def _is_bound(self, front: Front, st: os.stat_result) -> bool:
        """Whether a file with several names became known to the replica in this resync."""
        inode = front.table.by_ino(st.st_ino) if st.st_nlink > 1 else None
        return inode is not None and inode.bound is self._stream

    def _directory(self, task: Task, fd: int, name: bytes, st: os.stat_result) -> Task:
        below = self._proof.directory(task.place, name, st)
        inode = self._child(task.front, task.inode, fd, name, ensure=not below.told)
        return Task(task.front, inode, below.place.path, below.place.proven)

    def _look_again(self, task: Task, fd: int, name: bytes, children: list[Task]) -> None:
        """Makes what is in use, and what has further names, known to the replica; compares what changed meanwhile."""
        st = files.stat(name, dir_fd=fd, follow_symlinks=False)
        table = task.front.table
        if st.st_nlink == 1 and not self._plan.changed(task.front.root.index, st) and table.by_ino(st.st_ino) is None:
            return
        inode = table.remember(opened := files.open(name, _PATH_FLAGS, dir_fd=fd), files.fstat(opened))
        if self._admit(self._call, task.inode, name, inode):
            children.append(Task(task.front, inode, b"", False))
        elif st.st_nlink > 1:
            self._held.append(Task(task.front, inode, b"", False))
        else:
            task.front.names.let_go(self._call, inode, 1)
        del self._call.holding[1:]

    def _admit(self, call: Call, parent: Inode, name: bytes, inode: Inode) -> bool:
        """An inode under a covered name becomes known to the replica; True if it must be compared."""
        with self._outlet.inode_lock(inode):
            if inode.bound is self._stream or inode.orphan or inode.dropped:
                return False
            st = files.fstat(self._descriptors.path_fd(inode, call))
            listed = inode.is_dir and (inode.root.index, inode.ino) in self._listed
            if not listed and (inode.is_dir or self._plan.changed(inode.root.index, st)):
                self._ensure_locked(call, inode, parent, name)
                return inode.is_file or inode.is_dir
            if self._stream.append(Op.BIND, fid=inode.fid, offset=parent.fid, data=name):
                inode.bound = self._stream
                if listed:  # only now: whoever sees it sends changes of a directory the replica must know
                    inode.synced = self._stream
            return False

    def found(self, parent: Inode, name: bytes, inode: Inode) -> None:
        """The application looked up a covered name whose inode the replica does not know (any more)."""
        call = self._descriptors.new_call()
        try:
            if self._admit(call, parent, name, inode):
                self._arrives(inode)
        finally:
            self._descriptors.end_call(call)

    def _arrives(self, inode: Inode) -> None:
        with self._arriving:
            if not self._stream.complete:
                front = self._front(inode)
                front.table.hold(inode)
                self._arrived.append(Task(front, inode, b"", False))

    def _child(self, front: Front, directory: Inode, directory_fd: int, name: bytes, *, ensure: bool) -> Inode:
        fd = files.open(name, _PATH_FLAGS, dir_fd=directory_fd)
        st = files.fstat(fd)
        if st.st_dev != front.root.device:
            files.close(fd)
            raise OSError(errno.EXDEV, f"{name!r} below {front.root.path} is another file system")
        inode = front.table.remember(fd, st)
        if ensure:
            self._ensure(self._call, inode, directory, name)
        else:
            with self._outlet.inode_lock(inode):
                flags = wire.DIRECTORY
                if self._stream.append(Op.BIND, fid=inode.fid, offset=directory.fid, data=name, flags=flags):
                    inode.bound = self._stream
        # Only this directory's descriptor is needed until its end; a hundred thousand others are not.
        del self._call.holding[1:]
        return inode

    def _ensure(self, call: Call, inode: Inode, parent: Inode | None, name: bytes) -> int:
        with self._outlet.inode_lock(inode):
            return self._ensure_locked(call, inode, parent, name)

    def _ensure_locked(self, call: Call, inode: Inode, parent: Inode | None, name: bytes) -> int:
        entry = entry_of(self._descriptors.path_fd(inode, call), name)
        offset = 0 if parent is None else parent.fid
        seq = self._stream.append(Op.ENSURE, fid=inode.fid, offset=offset, data=wire.entry_payload(entry))
        if seq:
            inode.bound = self._stream
        return seq

    def arrive(self, parent: Inode, name: bytes, inode: Inode) -> int:
        """A name appeared in a place the replica has, whose inode it may not have; the directory's lock is held."""
        call = self._descriptors.new_call()
        try:
            seq = self._ensure(call, inode, parent, name)
        finally:
            self._descriptors.end_call(call)
        if inode.synced is not self._stream and (inode.is_dir or inode.is_file):
            self._arrives(inode)
        return seq

    def depart(self, parent: Inode, name: bytes, inode: Inode) -> int:
        """A name left a place the replica has for one it has not; the directory's lock is held."""
        front = self._front(inode)
        with self._outlet.inode_lock(inode):
            seq = self._stream.append(Op.STASH, fid=inode.fid, offset=parent.fid, data=name)
            if seq:
                inode.bound = self._stream
        front.table.hold(inode)
        self._held.append(Task(front, inode, b"", False))
        return seq

    def _done_with(self, front: Front, inode: Inode) -> None:
        """What has several links stays held to the end, so that the next link finds the same fid."""
        if (
            not inode.is_dir
            and not inode.orphan
            and files.fstat(self._descriptors.path_fd(inode, self._call)).st_nlink > 1
        ):
            self._held.append(Task(front, inode, b"", False))
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
                task = queue.pop()
                task.front.names.let_go(self._call, task.inode, 1)
                self._call.holding.clear()
        for inode in self._contents.abandon():
            self._front(inode).names.let_go(self._call, inode, 1)
