"""The second front: a mounted directory served through a FUSE library, by paths (libfuse 3; WinFsp's interface too).

Problem: /dev/fuse is Linux. What Windows has instead (WinFsp) offers the high-level interface of libfuse: a call for
each operation, with a path, which must have its answer when it returns.
Guarantee: as for `front.Front`, which this is but for the way requests come in: each call is turned into the request
the kernel would have sent, and is carried out, guarded, parked and answered by the same code. So the rule of order,
"acknowledged only through the outlet" and everything the replica is told do not depend on the front.
Limits, against the front on /dev/fuse (docs/windows.md has the list): a call that waits holds a thread of the library,
so when all of them (`threads_max`) are parked, reads wait as well; a parked call cannot be given up before `release` or
the end of the mount; the mount does not survive its engine; several links of one file are several files to the
kernel's cache. The copy below it is still reached the Linux way (`inodes`).

mfusepy is imported when the first directory is mounted: a node that uses the other front needs neither it nor libfuse.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from mirror_agent.mirror import files, mounts
from mirror_agent.mirror import fuse_abi as abi
from mirror_agent.mirror.front import MUTATING, Front, Handler
from mirror_agent.mirror.front_paths import Change, Name, Paths
from mirror_agent.mirror.fuse_abi import Op
from mirror_agent.mirror.inodes import Call

if sys.platform == "win32":
    from mirror_agent.mirror.winfsp_errors import number_for_library
else:

    def number_for_library(number: int) -> int:
        """The library speaks this system's own numbers."""
        return number


log: Final = logging.getLogger(__name__)

_START_S: Final = 10.0
_HEAD: Final = abi.HEADER_BYTES


class _Answer:
    """What one call waits for. `error` None: the mount ended before there was an answer."""

    def __init__(self) -> None:
        self.given = threading.Event()
        self.error: int | None = None
        self.out = b""


class LibraryFront(Front):
    """One mounted root."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """As `Front`."""
        super().__init__(*arguments, **settings)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Answer] = {}
        self._waiting_lock = threading.Lock()
        self._ended = False
        self._failure: BaseException | None = None
        self._cache_call = self._descriptors.new_call()
        self.paths = Paths(self)
        self._handlers.update({op: self._on_names(op, self._handlers[op]) for op in _NAMING})

    # -- life ------------------------------------------------------------------------------------------------------

    def mount(self) -> None:
        """Mounts and serves. Raises OSError; nothing is left mounted then.

        The mount is made here, as for the other front, and handed to the library as an open connection: the library
        would take it away at its own end, and uncover the directory while the application may live."""
        serve = self._library()
        place = self._place()
        thread = threading.Thread(
            target=self._serve_through, args=(serve, place), name=f"front-{self.root.index}", daemon=True
        )
        self._threads.append(thread)
        thread.start()
        if not self._initialised.wait(_START_S):
            mounts.abort(self.root.path)
            raise OSError(errno.EIO, f"the FUSE library did not serve {self.root.path}: {self._failure}")

    def _library(self) -> Callable[[str], None]:
        """What serves a place until its mount ends. Raises OSError."""
        try:
            from mirror_agent.mirror.front_library_calls import library
        except ImportError as error:
            raise OSError(errno.ENOSYS, f"{error}: install mirror-agent[fuse-library]") from None
        return library(self, threads_max=self._threads_max)

    def _place(self) -> str:
        """Makes the mount; how the library finds it. Raises OSError."""
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        try:
            mounts.mount_front(self._fd, self.root.path)
        except OSError:
            os.close(self._fd)
            raise
        return f"/dev/fd/{os.dup(self._fd)}"  # the library closes what it is given

    def take_over(self, connection: int) -> None:
        raise OSError(errno.ENOTSUP, "a mount through the FUSE library does not survive its engine")

    def join(self, timeout_s: float) -> bool:
        """After the mount is gone: calls that still wait end with an error, then the library's threads."""
        with self._waiting_lock:
            self._ended = True
            left = list(self._waiting.values())
        for answer in left:
            answer.given.set()
        return super().join(timeout_s)

    def close(self) -> None:
        self._descriptors.end_call(self._cache_call)
        super().close()

    def relieve(self) -> None:
        """The library has as many threads as it needs; none has a turn to lose."""

    def began(self) -> None:
        """Called by the library's initialisation."""
        self._initialised.set()

    def _serve_through(self, serve: Callable[[str], None], place: str) -> None:
        try:
            serve(place)
        except Exception as error:
            self._failure = error
            log.exception("serving %s through the FUSE library failed", self.root.path)
        finally:
            # A mount without a server hangs its users: better a dead one. Nothing if it was unmounted.
            mounts.disconnect(self.root.path)

    # -- requests --------------------------------------------------------------------------------------------------

    def ask(self, op: Op, nodeid: int, *parts: bytes | memoryview, uid: int = 0, gid: int = 0) -> bytes:
        """Carries out one request as if the kernel had sent it, and waits for its answer. Raises OSError."""
        unique = next(self._numbers)
        size = _HEAD + sum(len(part) for part in parts)
        request = b"".join((abi.IN_HEADER.pack(size, op, unique, nodeid, uid, gid, 0, 0, 0), *parts))
        answer = _Answer()
        with self._waiting_lock:
            if self._ended:
                raise OSError(errno.ENOTCONN, "the mirror's mount has ended")
            self._waiting[unique] = answer
        try:
            self._take_in(op, unique, nodeid, request)
            answer.given.wait()
        finally:
            with self._waiting_lock:
                del self._waiting[unique]
        if answer.error is None:
            raise OSError(errno.ENOTCONN, "the mirror's mount has ended")
        if answer.error:
            raise OSError(number_for_library(answer.error), os.strerror(answer.error))
        return answer.out

    def _take_in(self, op: Op, unique: int, nodeid: int, request: bytes) -> None:
        late = (self.root.index, unique)
        if op in MUTATING and self.outlet.parked and self.outlet.hold_back(late, lambda: self._begin_late(request)):
            return
        call = self._descriptors.new_call()
        try:
            _, _, call.unique, _, call.uid, call.gid, *_ = abi.IN_HEADER.unpack_from(request, 0)
            self._carry_out(call, op, nodeid, memoryview(request))
        finally:
            self._descriptors.end_call(call)

    def _answer(self, unique: int, error: int, out: bytes) -> None:
        with self._waiting_lock:
            answer = self._waiting.get(unique)
        if answer is not None:  # None: the mount has ended meanwhile
            answer.error, answer.out = error, bytes(out)
            answer.given.set()

    # -- names -----------------------------------------------------------------------------------------------------

    def _on_names(self, op: Op, handler: Handler) -> Handler:
        """The operation, with what it did to names remembered under the lock that look-ups hold."""
        seen = _NAMING[op]

        def carried_out(call: Call, nodeid: int, request: memoryview) -> bytes | None:
            with self.paths.lock:
                out = handler(call, nodeid, request)
                if op == Op.RENAME2:
                    self._renamed(nodeid, request)
                else:
                    self.paths.changed(seen(nodeid, request, out or b""))
                return out

        return carried_out

    def _renamed(self, nodeid: int, request: memoryview) -> None:
        target, flags, _ = abi.RENAME2_IN.unpack_from(request, _HEAD)
        old, new = bytes(request[_HEAD + abi.RENAME2_IN.size : -1]).split(b"\0")
        if flags & _RENAME_EXCHANGE:
            self.paths.exchanged((nodeid, old), (target, new))
        elif not self._same_file((nodeid, old), (target, new)):
            self.paths.changed(Change(moved=(((nodeid, old), (target, new)),)))

    def _same_file(self, old: Name, new: Name) -> bool:
        """After a rename of one link of a file over another both names are still there (rename(2))."""
        return old != new and self.look_up_again(old)

    def look_up_again(self, name: Name) -> bool:
        inode = self.table.inode(name[0])
        try:
            directory = self._descriptors.path_fd(inode, self._cache_call)
            files.stat(name[1], dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        finally:
            self._cache_call.holding.clear()
        return True

    def look_up(self, directory: int, name: bytes) -> int:
        call = self._cache_call
        try:
            out = self.names.lookup(call, directory, memoryview(bytes(_HEAD) + name + b"\0"))
        finally:
            call.holding.clear()
        nodeid: int = abi.ENTRY_HEAD.unpack_from(out)[0]
        return nodeid

    def spelling(self, directory: int, name: bytes) -> bytes:
        call = self._cache_call
        try:
            return files.spelling(self._descriptors.path_fd(self.table.inode(directory), call), name)
        finally:
            call.holding.clear()

    def refer(self, nodeid: int) -> None:
        self.table.told(self.table.inode(nodeid))

    def forget(self, nodeid: int, count: int) -> None:
        call = self._cache_call
        try:
            self.names.forget(call, nodeid, memoryview(bytes(_HEAD) + abi.FORGET_IN.pack(count)))
        finally:
            call.holding.clear()


_RENAME_EXCHANGE: Final = 2


def _nodeid(out: bytes) -> int:
    found: int = abi.ENTRY_HEAD.unpack_from(out)[0]
    return found


def _made_after(skip: int) -> Callable[[int, memoryview, bytes], Change]:
    """The answer is the entry of the first name after `skip` bytes of arguments."""

    def seen(nodeid: int, request: memoryview, out: bytes) -> Change:
        name = bytes(request[_HEAD + skip :]).split(b"\0", 1)[0]
        return Change(made=(((nodeid, name), _nodeid(out)),))

    return seen


def _removed(nodeid: int, request: memoryview, out: bytes) -> Change:
    return Change(gone=((nodeid, bytes(request[_HEAD:-1])),))


def _elsewhere(nodeid: int, request: memoryview, out: bytes) -> Change:
    return Change()


_NAMING: Final[dict[Op, Callable[[int, memoryview, bytes], Change]]] = {
    Op.MKNOD: _made_after(abi.MKNOD_IN.size),
    Op.MKDIR: _made_after(abi.MKDIR_IN.size),
    Op.SYMLINK: _made_after(0),
    Op.LINK: _made_after(abi.LINK_IN.size),
    Op.UNLINK: _removed,
    Op.RMDIR: _removed,
    Op.RENAME2: _elsewhere,
}
