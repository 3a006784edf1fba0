"""The same operations as `tests.lab.torture.model.Model`, carried out on a real directory.

Each is one changing system call (so a crash leaves either its effect or nothing), except `store`, which writes through
a shared mapping and calls msync: the change is one contiguous range.

After the engine of the mount died its descriptors are useless: `move` forgets them, and an operation on an open file
opens it again under the path the model knows; a file without a path is gone, and the operation is `Skipped`. The model
has made the operation's step before the disk does.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.lab.torture.model import Kind, Model, Stat
from tests.lab.torture.payload import payload

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_libc.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_MS_SYNC: Final = 4
_MAP_FAILED: Final = ctypes.c_void_p(-1).value
_DIRECT_BYTES_MAX: Final = 128 * 1024
_AT_FDCWD: Final = -100

_KINDS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
}
# Only what the tester sets: a file system may show attributes of its own (security labels).
XATTR_PREFIX: Final = ("user.torture.", "trusted.torture.")


class Skipped(Exception):
    """The open file an operation needs was unlinked before a crash closed it: there is nothing left to do it on."""


def kind_of(mode: int) -> Kind:
    return _KINDS[stat.S_IFMT(mode)]


def stat_of(st: os.stat_result) -> Stat:
    kind = kind_of(st.st_mode)
    size = st.st_size if kind in (Kind.FILE, Kind.SYMLINK) else 0
    return kind, stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_nlink, size


def xattrs_of(path: bytes) -> dict[str, bytes]:
    return {
        key: os.getxattr(path, key, follow_symlinks=False)
        for key in os.listxattr(path, follow_symlinks=False)
        if key.startswith(XATTR_PREFIX)
    }


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Disk:
    """A real directory and the files open in it. `model` knows what each handle stands for."""

    def __init__(self, root: Path, model: Callable[[], Model]) -> None:
        self._root = os.fsencode(root)
        self._model = model
        self._fds: dict[int, int] = {}
        self._memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
        self._aligned = mmap.mmap(-1, _DIRECT_BYTES_MAX)

    def finish(self) -> None:
        self.move(Path(os.fsdecode(self._root)))
        os.close(self._memory)
        self._aligned.close()

    def move(self, root: Path) -> None:
        """The directory is another one from now on; what was open is closed."""
        self._root = os.fsencode(root)
        for fd in self._fds.values():
            try:
                os.close(fd)
            except OSError as error:
                if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO):  # a dead mount: closed anyway
                    raise
        self._fds.clear()

    def _at(self, path: bytes) -> bytes:
        return self._root + b"/" + path if path else self._root

    def _fd(self, handle: int) -> int:
        fd = self._fds.get(handle)
        if fd is None:
            known = self._model().handles[handle]
            fd = self._fds[handle] = os.open(self._again(handle), self._flags(known.append, known.durable))
        return fd

    def _again(self, handle: int) -> bytes:
        """Where to open a handle's file once more: where it lies, or (unlinked since) through another handle of it."""
        model = self._model()
        path = model.path_of(handle)
        if path is not None:
            return self._at(path)
        wanted = model.handles[handle].inode
        for other, fd in self._fds.items():
            if other in model.handles and model.handles[other].inode is wanted:
                return b"/proc/self/fd/%d" % fd
        raise Skipped

    def _flags(self, append: bool, durable: bool) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        return flags | (os.O_APPEND if append else 0) | (os.O_DSYNC if durable else 0)

    # -- names -----------------------------------------------------------------------------------------------------

    def create(self, handle: int, path: bytes, mode: int, append: bool, durable: bool) -> None:
        flags = self._flags(append, durable) | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL
        self._fds[handle] = os.open(self._at(path), flags, mode)

    def mkdir(self, path: bytes, mode: int) -> None:
        os.mkdir(self._at(path), mode)

    def symlink(self, path: bytes, target: bytes) -> None:
        os.symlink(target, self._at(path))

    def mkfifo(self, path: bytes, mode: int) -> None:
        os.mkfifo(self._at(path), mode)

    def link(self, old: bytes, new: bytes) -> None:
        os.link(self._at(old), self._at(new), follow_symlinks=False)

    def unlink(self, path: bytes) -> None:
        os.unlink(self._at(path))

    def rmdir(self, path: bytes) -> None:
        os.rmdir(self._at(path))

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        _check(_libc.renameat2(_AT_FDCWD, self._at(old), _AT_FDCWD, self._at(new), flags))

    # -- attributes ------------------------------------------------------------------------------------------------

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        os.chown(self._at(path), uid, gid, follow_symlinks=False)

    def utimens(self, path: bytes, mtime_ns: int) -> None:
        os.utime(self._at(path), ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def setxattr(self, path: bytes, key: str, value: bytes, flags: int) -> None:
        os.setxattr(self._at(path), key, value, flags, follow_symlinks=False)

    def removexattr(self, path: bytes, key: str) -> None:
        os.removexattr(self._at(path), key, follow_symlinks=False)

    def truncate(self, path: bytes, size: int) -> None:
        os.truncate(self._at(path), size)

    # -- open files ------------------------------------------------------------------------------------------------

    def open(self, handle: int, path: bytes, truncate: bool, append: bool, durable: bool) -> None:
        flags = self._flags(append, durable) | os.O_NOFOLLOW | (os.O_TRUNC if truncate else 0)
        self._fds[handle] = os.open(self._at(path), flags)

    def close(self, handle: int) -> None:
        fd = self._fds.pop(handle, None)
        if fd is not None:
            os.close(fd)

    def write(self, handle: int, offset: int, size: int, token: int) -> int:
        return os.pwrite(self._fd(handle), payload(token, size), offset)

    def write_direct(self, handle: int, offset: int, size: int, token: int) -> int:
        """With O_DIRECT, from aligned memory; offset and size are multiples of 4096."""
        flags = os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC | (os.O_DSYNC if self._model().handles[handle].durable else 0)
        fd = os.open(f"/proc/self/fd/{self._fd(handle)}", flags)
        try:
            self._aligned[:size] = payload(token, size)
            with memoryview(self._aligned)[:size] as view:
                return os.pwritev(fd, [view], offset)
        finally:
            os.close(fd)

    def append(self, handle: int, size: int, token: int) -> int:
        return os.write(self._fd(handle), payload(token, size))

    def store(self, handle: int, offset: int, size: int, token: int) -> None:
        """Not by touching the mapping: where its mount has died that is SIGBUS, and a write to /proc/self/mem EIO."""
        fd = self._fd(handle)
        start = offset & ~4095
        length = offset + size - start
        address = _libc.mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, start)
        if address == _MAP_FAILED:
            raise OSError(ctypes.get_errno(), "mmap")
        try:
            done = os.pwrite(self._memory, payload(token, size), address + offset - start)
            if done != size:
                raise OSError(errno.EIO, f"{done} of {size} bytes stored")
            _check(_libc.msync(address, length, _MS_SYNC))
        finally:
            _check(_libc.munmap(address, length))

    def ftruncate(self, handle: int, size: int) -> None:
        os.ftruncate(self._fd(handle), size)

    def fallocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        _check(_libc.fallocate(self._fd(handle), mode, offset, length))

    def fsync(self, handle: int) -> None:
        os.fsync(self._fd(handle))

    def fdatasync(self, handle: int) -> None:
        os.fdatasync(self._fd(handle))

    def fsync_directory(self, path: bytes) -> None:
        fd = os.open(self._at(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    # -- looking ---------------------------------------------------------------------------------------------------

    def read(self, handle: int, offset: int, size: int) -> bytes:
        return os.pread(self._fd(handle), size, offset)

    def stat(self, path: bytes) -> Stat:
        return stat_of(os.lstat(self._at(path)))

    def mtime(self, path: bytes) -> int:
        return os.lstat(self._at(path)).st_mtime_ns

    def listdir(self, path: bytes) -> list[bytes]:
        return sorted(os.listdir(self._at(path)))

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(self._at(path))

    def xattrs(self, path: bytes) -> dict[str, bytes]:
        return xattrs_of(self._at(path))
