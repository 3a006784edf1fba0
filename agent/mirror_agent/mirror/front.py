"""The mounted directory: reads requests from /dev/fuse, has them carried out, and answers when the outlet allows.

Problem: an ordinary application must see an ordinary file system, and no change it was told about may be missing on
the replica. Guarantee: one request is answered at most once; a change is answered only through `Outlet.settle`; reads
go on while changes are parked (a parked call occupies no thread); a bug in one operation becomes EIO for one call and
a log entry, never the end of the mount.

The kernel is this directory's only user, so names and attributes are cached for ever and pages are kept over open.
OPEN, FLUSH, ACCESS and CREATE are answered ENOSYS once: the kernel then does without them. Locks (flock, fcntl) stay in
the kernel, which is right for one active node. copy_file_range and ioctls are refused; the kernel falls back to copies.

One thread at a time reads, carries out and answers; another takes over when it has to wait for a disk, and more are
added while none is left to do so, up to `threads_max` per mount (`mirror_agent.mirror.turns`).
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Final

from mirror_agent.mirror import fuse_abi as abi
from mirror_agent.mirror import limits, machine, mounts
from mirror_agent.mirror.front_attrs import AttributeOps
from mirror_agent.mirror.front_data import DataOps
from mirror_agent.mirror.front_names import NameOps
from mirror_agent.mirror.fuse_abi import Op
from mirror_agent.mirror.inode_table import InodeTable, Marks
from mirror_agent.mirror.inodes import Call, Descriptors, Root
from mirror_agent.mirror.outlet import Outlet, Ticket
from mirror_agent.mirror.slots import Slots
from mirror_agent.mirror.stream import Stream
from mirror_agent.mirror.succession import Succession, can_be_kept
from mirror_agent.mirror.turns import Turns

log: Final = logging.getLogger(__name__)

Handler = Callable[[Call, int, memoryview], bytes | None]

MUTATING: Final = frozenset(
    {
        Op.SETATTR, Op.SYMLINK, Op.MKNOD, Op.MKDIR, Op.UNLINK, Op.RMDIR, Op.RENAME, Op.RENAME2, Op.LINK, Op.WRITE,
        Op.FSYNC, Op.FSYNCDIR, Op.SYNCFS, Op.SETXATTR, Op.REMOVEXATTR, Op.FALLOCATE,
    }
)  # fmt: skip
_UNANSWERED: Final = frozenset({Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT})
# Requests that may wait for the disk from their beginning; flushes do so later, when the replica knows of them.
_WAITING: Final = frozenset({Op.READ, Op.FALLOCATE, Op.SYNCFS})
_FLUSHES: Final = frozenset({Op.FSYNC, Op.FSYNCDIR, Op.SYNCFS})
_REFUSED: Final[dict[int, int]] = {
    Op.COPY_FILE_RANGE: errno.EOPNOTSUPP,
    Op.IOCTL: errno.ENOTTY,
    Op.TMPFILE: errno.EOPNOTSUPP,
}
_WANTED: Final = (
    abi.ASYNC_READ
    | abi.BIG_WRITES
    | abi.DONT_MASK
    | abi.ASYNC_DIO
    | abi.PARALLEL_DIROPS
    | abi.POSIX_ACL
    | abi.MAX_PAGES
    | abi.CACHE_SYMLINKS
    | abi.HANDLE_KILLPRIV_V2
)
_INIT_S: Final = 5.0
# After a flush during which somebody else's request came in, so many flushes let another thread read.
_FLUSHES_IN_COMPANY: Final = 64


class Front:
    """One mounted root."""

    def __init__(
        self,
        root: Root,
        descriptors: Descriptors,
        outlet: Outlet,
        *,
        threads_max: int,
        marks: Marks,
        succession: Succession,
        inherited: Slots | None = None,
    ) -> None:
        self.root = root
        self.table = InodeTable(root, descriptors, marks=marks, guard=succession, slots=inherited)
        self._succession = succession
        self.outlet = outlet
        self.names = NameOps(self.table, outlet)
        self._descriptors = descriptors
        self._threads_max = threads_max
        self._fd = -1
        self._lock = threading.Lock()
        self._turns = Turns(self._add_thread)
        self._polled: tuple[Stream, machine.poll] | None = None
        self._pending = machine.poll()
        self._company = 0
        self._kept_turn = False
        self._threads: list[threading.Thread] = []
        # Requests whose callers got a signal that did not kill them.
        self._interrupted: set[int] = set()
        self._initialised = threading.Event()
        self._handlers = self._table_of_handlers()

    def mount(self) -> None:
        """Mounts and serves. Raises OSError; nothing is left mounted then."""
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        try:
            mounts.mount_front(self._fd, self.root.path)
        except OSError:
            os.close(self._fd)
            raise
        self._pending.register(self._fd, machine.POLLIN)
        self._add_thread()
        if not self._initialised.wait(_INIT_S):
            mounts.abort(self.root.path)
            raise OSError(errno.EIO, f"the kernel did not start the FUSE connection of {self.root.path}")

    def take_over(self, connection: int) -> None:
        """Serves the mount of an engine that died (it must be dead: none of its threads may still write). The kernel
        sends again what was not answered. Raises OSError."""
        self._fd = connection
        self._pending.register(connection, machine.POLLIN)
        os.write(connection, abi.OUT_HEADER.pack(abi.OUT_HEADER.size, abi.NOTIFY_RESEND, 0))
        self._add_thread()

    @property
    def connection(self) -> int:
        return self._fd

    def join(self, timeout_s: float) -> bool:
        """After the mount is gone: waits for the threads and closes the connection; False if one still runs."""
        for thread in list(self._threads):
            thread.join(timeout_s)
        if any(thread.is_alive() for thread in self._threads):
            return False
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        return True

    def close(self) -> None:
        """After `join`: frees the descriptors of all inodes."""
        self._descriptors.close_all(iter(self.table.awake_inodes()))
        self.table.close()

    def _table_of_handlers(self) -> dict[int, Handler]:
        names, data = self.names, DataOps(self.table, self.outlet)
        attributes = AttributeOps(self.table, self.outlet, data)
        return {
            Op.INIT: self._init,
            Op.DESTROY: lambda _call, _nodeid, _request: b"",
            Op.INTERRUPT: self._interrupt,
            Op.LOOKUP: names.lookup,
            Op.FORGET: names.forget,
            Op.BATCH_FORGET: names.batch_forget,
            Op.MKNOD: names.mknod,
            Op.MKDIR: names.mkdir,
            Op.SYMLINK: names.symlink,
            Op.LINK: names.link,
            Op.UNLINK: names.unlink,
            Op.RMDIR: names.rmdir,
            Op.RENAME: names.rename,
            Op.RENAME2: names.rename2,
            Op.READDIR: names.readdir,
            Op.READ: data.read,
            Op.WRITE: data.write,
            Op.FALLOCATE: data.fallocate,
            Op.LSEEK: data.lseek,
            Op.FSYNC: data.fsync,
            Op.FSYNCDIR: data.fsync,
            Op.SYNCFS: data.syncfs,
            Op.GETATTR: attributes.getattr,
            Op.SETATTR: attributes.setattr,
            Op.READLINK: attributes.readlink,
            Op.SETXATTR: attributes.setxattr,
            Op.GETXATTR: attributes.getxattr,
            Op.LISTXATTR: attributes.listxattr,
            Op.REMOVEXATTR: attributes.removexattr,
            Op.STATFS: attributes.statfs,
        }

    def _init(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        major, _, readahead, offered = abi.INIT_IN.unpack_from(request, abi.HEADER_BYTES)
        if major != abi.MAJOR:
            raise OSError(errno.EPROTO, f"the kernel speaks FUSE {major}, {abi.MAJOR} is needed")
        if offered & abi.INIT_EXT and self._succession.wanted:
            (high,) = abi.INIT_IN_HIGH.unpack_from(request, abi.HEADER_BYTES)
            self.table.keep_handles = bool(high & abi.HAS_RESEND) and can_be_kept(self.root)
        self._initialised.set()
        return abi.INIT_OUT.pack(
            abi.MAJOR,
            abi.MINOR,
            readahead,
            offered & _WANTED,
            64,
            48,
            limits.MAX_WRITE_BYTES,
            1,
            limits.MAX_WRITE_BYTES // 4096,
            0,
            0,
        )

    def _interrupt(self, call: Call, nodeid: int, request: memoryview) -> None:
        (unique,) = abi.INTERRUPT_IN.unpack_from(request, abi.HEADER_BYTES)
        if not self._decided(unique):
            self._interrupted.add(unique)

    def _decided(self, unique: int) -> bool:
        """What becomes of the request of a caller that got a signal; False if that may change.

        No program expects EINTR from an ordinary file system, and a request that is held back may have been carried out
        by the engine before this one: only who is killed, and sees no answer any more, gets away. A request that was
        begun has changed something already."""
        key = (self.root.index, unique)
        caller = self.outlet.caller(key)
        if caller is None:
            return True
        if not is_dying(caller):
            return False
        if self.outlet.give_up(key):
            self._answer(unique, errno.EINTR, b"")
        return True

    # -- the loop --------------------------------------------------------------------------------------------------

    def relieve(self) -> None:
        """To be called now and then: lets another thread read when the one that does is stuck in a request, and callers
        go that are killed after another signal (the kernel tells of the first one only)."""
        self._turns.relieve()
        for unique in list(self._interrupted):
            if self._decided(unique):
                self._interrupted.discard(unique)

    def _add_thread(self) -> None:
        with self._lock:
            number = len(self._threads)
            if number >= self._threads_max:
                return
            thread = threading.Thread(target=self._serve, name=f"front-{self.root.index}-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        buffer = memoryview(bytearray(limits.FUSE_BUFFER_BYTES))
        call = self._descriptors.new_call()
        turns = self._turns
        call.before_waiting = lambda: turns.leave(call)
        call.before_flushing = lambda: self._before_flushing(call)
        try:
            while True:
                turns.take(call)
                while turns.holder is call:
                    if (count := self._next(buffer)) is None:
                        return
                    self._handle(call, buffer[:count])
                    call.unique = 0
                    call.holding.clear()
        except Exception:  # a mount without a server hangs its users: better none at all, loudly
            log.exception("serving %s failed; its mount is aborted", self.root.path)
            mounts.disconnect(self.root.path)
        finally:
            turns.end(call)
            self._descriptors.end_call(call)

    def _before_flushing(self, call: Call) -> None:
        """A lone client waits for its flush anyway: waking another thread would only delay it."""
        stream = self.outlet.stream
        if self._company or (stream is not None and stream.unattended):
            self._company = max(0, self._company - 1)
            self._turns.leave(call)
        else:
            self._kept_turn = True

    def _next(self, buffer: memoryview) -> int | None:
        """Reads one request, and the replica's answers meanwhile if nobody else does; None when the mount is gone."""
        while True:
            stream = self.outlet.stream
            if stream is not None and stream.unattended and not self._readable(stream):
                continue
            try:
                return os.readv(self._fd, [buffer])
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                if error.errno not in (errno.ENODEV, errno.ECONNABORTED):
                    raise
                return None

    def _readable(self, stream: Stream) -> bool:
        """Waits for a request or an answer, and takes in the answer; True unless there is only that."""
        polled = self._polled
        if polled is None or polled[0] is not stream:
            poll = machine.poll()
            poll.register(self._fd, machine.POLLIN)
            poll.register(stream.answers_fd, machine.POLLIN)
            self._polled = polled = (stream, poll)
        ready = dict(polled[1].poll())
        if stream.answers_fd in ready and not stream.read_answers():
            return True  # somebody else reads them now, for all
        return self._fd in ready

    def _handle(self, call: Call, request: memoryview) -> None:
        _, op, unique, nodeid, uid, gid, caller, *_ = abi.IN_HEADER.unpack_from(request, 0)
        call.unique, call.uid, call.gid, call.ticket = unique, uid, gid, None
        if op in _WAITING:
            call.before_waiting()
        elif op in MUTATING:
            if self.outlet.parked:
                kept = bytes(request)
                if self.outlet.hold_back((self.root.index, unique), lambda: self._begin_late(kept), caller):
                    return
            if self.outlet.crowded:
                call.before_waiting()
        self._carry_out(call, op, nodeid, request)

    def _begin_late(self, request: bytes) -> None:
        """A request that was parked before it was begun."""
        call = self._descriptors.new_call()
        try:
            _, op, call.unique, nodeid, call.uid, call.gid, *_ = abi.IN_HEADER.unpack_from(request, 0)
            self._carry_out(call, op, nodeid, memoryview(request))
        finally:
            self._descriptors.end_call(call)

    def _carry_out(self, call: Call, op: int, nodeid: int, request: memoryview) -> None:
        unique = call.unique
        handler = self._handlers.get(op)
        error = 0
        out: bytes | None = b""
        if handler is None:
            error = _REFUSED.get(op, errno.ENOSYS)
        else:
            try:
                if op in MUTATING:
                    self.outlet.tracker.guard()
                out = handler(call, nodeid, request)
            except OSError as failure:
                error = failure.errno or errno.EIO
                if error == errno.EIO and op in MUTATING and op not in _FLUSHES:
                    self.outlet.distrust(f"an I/O error interrupted operation {op}: {failure}")
            except Exception as failure:  # one broken operation must not take the mount away from all others
                log.exception("operation %d on node %d of %s failed", op, nodeid, self.root.path)
                self.outlet.distrust(f"operation {op} failed: {failure!r}")
                error = errno.EIO
        if self._kept_turn:
            self._kept_turn = False
            if self._turns.holder is not call or self._pending.poll(0):
                self._company = _FLUSHES_IN_COMPANY
        if op in _UNANSWERED:
            return
        ticket: Ticket | None = call.ticket
        if ticket is None:
            self._answer(unique, error, out or b"")
        else:
            call.holding.clear()
            # Whoever reads requests looks for answers as well; all others wait for them here.
            reading = self._turns.holder is not call
            self.outlet.settle(ticket, lambda: self._answer(unique, error, out or b""), reading=reading)

    def _answer(self, unique: int, error: int, out: bytes) -> None:
        try:
            if error:
                os.write(self._fd, abi.OUT_HEADER.pack(abi.OUT_HEADER.size, -error, unique))
            else:
                os.writev(self._fd, (abi.OUT_HEADER.pack(abi.OUT_HEADER.size + len(out), 0, unique), out))
        except OSError as failure:
            # ENOENT: the caller was killed and the kernel gave up on the request. ENODEV: the mount was aborted.
            if failure.errno not in (errno.ENOENT, errno.ENODEV, errno.ECONNABORTED, errno.EBADF):
                log.error("answering request %d of %s failed: %s", unique, self.root.path, failure)


def is_dying(thread: int) -> bool:
    """True if SIGKILL is pending for the thread, or it is gone. Whatever signal ends a process at once, the kernel has
    SIGKILL pending for each of its threads before it wakes them. False for 0, a caller without a number here."""
    if not thread:
        return False
    try:
        with open(f"/proc/{thread}/status", encoding="ascii", errors="replace") as file:
            pending = next((line.split()[1] for line in file if line.startswith("SigPnd:")), "0")
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError as error:
        log.warning("whether the caller %d is being killed cannot be read: %s", thread, error)
        return False
    return bool(int(pending, 16) >> (signal.SIGKILL - 1) & 1)
