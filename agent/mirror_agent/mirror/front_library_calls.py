"""What the FUSE library calls: its high-level operations, as requests to the front (`front_library`).

Every method raises OSError; the library turns it into the caller's errno. Times are nanoseconds. The kernel checks
permissions (`default_permissions`), as for the other front.

`Served` is mfusepy's own class where that drops what the library says: flags of a rename (a rename that must not
replace would replace), the open file of a truncate, and "now" and "leave it" among times.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import mfusepy

from mirror_agent.mirror import files, limits
from mirror_agent.mirror import fuse_abi as abi
from mirror_agent.mirror.fuse_abi import Op

if TYPE_CHECKING:
    from mirror_agent.mirror.front_library import LibraryFront

_NS: Final = 1_000_000_000
_UTIME_NOW: Final = (1 << 30) - 1
_UTIME_OMIT: Final = (1 << 30) - 2
_LISTING_BYTES: Final = 64 * limits.KIB
# fuse_common.h: the caller's umask is ours to apply (or not, in a directory with a default ACL), ACLs are checked.
_CAPABILITIES: Final = 1 << 6 | 1 << 19
# Without it the kernel truncates before it opens, and takes set-id bits away itself.
_ATOMIC_TRUNCATION: Final = 1 << 3
_NEVER_AGAIN_S: Final = float(abi.FOREVER_S)
_MINIMUM: Final = (3, 12)


def library(front: LibraryFront, *, threads_max: int) -> Callable[[str], None]:
    """What serves a place (an open connection) until its mount ends. OSError if the library is too old."""
    version = (mfusepy.fuse_version_major, mfusepy.fuse_version_minor)
    if version < _MINIMUM:
        raise OSError(
            errno.ENOSYS, f"libfuse {version[0]}.{version[1]} is too old, {_MINIMUM[0]}.{_MINIMUM[1]} is needed"
        )
    operations = Operations(front)

    def serve(place: str) -> None:
        Served(
            operations,
            place,
            foreground=True,
            max_read=limits.MAX_WRITE_BYTES,
            max_threads=threads_max,
            default_permissions=True,
            allow_other=True,
        )

    return serve


class Served(mfusepy.FUSE):  # type: ignore[misc]
    """mfusepy's callbacks, with the arguments it leaves out."""

    def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
        self.operations.rename(os.fsdecode(old), os.fsdecode(new), flags)
        return 0

    def truncate_fuse_3(self, path: bytes | None, length: int, opened: Any) -> int:
        handle = opened.contents.fh if opened else None
        self.operations.truncate(None if path is None else os.fsdecode(path), length, handle)
        return 0

    def lseek(self, path: bytes | None, offset: int, whence: int, opened: Any) -> int:
        found: int = self.operations.lseek(path, offset, whence, opened.contents.fh)
        return found

    def utimens_fuse_3(self, path: bytes | None, times: Any, opened: Any) -> int:
        pairs = None
        if times:
            given = (times.contents.actime, times.contents.modtime)
            pairs = tuple((int(one.tv_sec), int(one.tv_nsec)) for one in given)
        self.operations.utimens(None if path is None else os.fsdecode(path), pairs)
        return 0


@dataclass(frozen=True)
class _Open:
    nodeid: int
    flags: int


class Operations(mfusepy.Operations):  # type: ignore[misc]
    """One mounted root."""

    use_ns = True

    def __init__(self, front: LibraryFront) -> None:
        self._front = front
        self._paths = front.paths
        self._handles: dict[int, _Open] = {}
        self._next = 1
        self._lock = threading.Lock()

    def init_with_config(self, connection: Any, config: Any) -> None:
        if config is not None:
            config.use_ino = 1
            # Only this mount changes names; attributes of one file are asked for by each of its names.
            config.entry_timeout = _NEVER_AGAIN_S
            config.negative_timeout = 0.0
            config.attr_timeout = 0.0
        if connection is not None:
            connection.max_read = connection.max_write = limits.MAX_WRITE_BYTES
            connection.want |= connection.capable & _CAPABILITIES
            connection.want &= ~_ATOMIC_TRUNCATION
        self._front.began()

    def _umask(self) -> int:
        """Of the caller; mfusepy's own function leaves it out."""
        mask: int = mfusepy._libfuse.fuse_get_context().contents.umask
        return mask

    # -- asking ----------------------------------------------------------------------------------------------------

    def _ask(self, op: Op, nodeid: int, *parts: bytes | memoryview) -> bytes:
        uid, gid, _ = mfusepy.fuse_get_context()
        return self._front.ask(op, nodeid, *parts, uid=uid, gid=gid)

    def _on(self, path: str | None, op: Op, *parts: bytes | memoryview, handle: int | None = None) -> bytes:
        """A request about the inode of a path, or of an open file."""
        if handle:
            return self._ask(op, self._handles[handle].nodeid, *parts)
        if path is None:
            raise OSError(errno.ESTALE, "neither a path nor an open file was given")
        nodeid = self._paths.hold(os.fsencode(path))
        try:
            return self._ask(op, nodeid, *parts)
        finally:
            self._paths.release(nodeid)

    def _in_directory(self, path: str, op: Op, arguments: bytes, *more: bytes) -> bytes:
        """A request about a name in the directory of a path."""
        directory, name = self._paths.hold_directory(os.fsencode(path))
        try:
            return self._ask(op, directory, arguments, b"\0".join((name, *more)), b"\0")
        finally:
            self._paths.release(directory)

    # -- attributes ------------------------------------------------------------------------------------------------

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, int]:
        return _attributes(self._on(path, Op.GETATTR, handle=fh))

    def _setattr(self, path: str | None, valid: int, handle: int | None = None, **given: int) -> int:
        self._on(path, Op.SETATTR, _setattr_request(valid, **given), handle=handle)
        return 0

    def chmod(self, path: str | None, mode: int) -> int:
        return self._setattr(path, abi.FATTR_MODE, mode=mode)

    def chown(self, path: str | None, uid: int, gid: int) -> int:
        valid = (abi.FATTR_UID if uid >= 0 else 0) | (abi.FATTR_GID if gid >= 0 else 0)
        return self._setattr(path, valid, uid=max(uid, 0), gid=max(gid, 0))

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> int:
        return self._setattr(path, abi.FATTR_SIZE, fh, size=length)

    def utimens(self, path: str | None, times: tuple[tuple[int, int], tuple[int, int]] | None = None) -> int:
        pairs = times or ((0, _UTIME_NOW), (0, _UTIME_NOW))
        valid = 0
        given: dict[str, int] = {}
        for name, asked, now, (seconds, ns) in zip(
            ("atime", "mtime"),
            (abi.FATTR_ATIME, abi.FATTR_MTIME),
            (abi.FATTR_ATIME_NOW, abi.FATTR_MTIME_NOW),
            pairs,
            strict=True,
        ):
            if ns == _UTIME_OMIT:
                continue
            valid |= asked | (now if ns == _UTIME_NOW else 0)
            given |= {name: seconds & 0xFFFF_FFFF_FFFF_FFFF, f"{name}_ns": ns if ns != _UTIME_NOW else 0}
        return self._setattr(path, valid, **given)

    def readlink(self, path: str) -> str:
        return os.fsdecode(self._on(path, Op.READLINK))

    def statfs(self, path: str) -> dict[str, int]:
        out = self._ask(Op.STATFS, abi.ROOT_NODEID)
        blocks, free, available, files, free_files, size, longest, fragment, _ = abi.STATFS_OUT.unpack(out)
        return {
            "f_blocks": blocks,
            "f_bfree": free,
            "f_bavail": available,
            "f_files": files,
            "f_ffree": free_files,
            "f_favail": free_files,
            "f_bsize": size,
            "f_namemax": longest,
            "f_frsize": fragment,
        }

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        request = abi.GETXATTR_IN.pack(limits.MAX_XATTR_VALUE_BYTES, 0) + os.fsencode(name) + b"\0"
        return self._on(path, Op.GETXATTR, request)

    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
        request = abi.SETXATTR_IN.pack(len(value), options) + os.fsencode(name) + b"\0" + value
        self._on(path, Op.SETXATTR, request)
        return 0

    def listxattr(self, path: str) -> list[str]:
        out = self._on(path, Op.LISTXATTR, abi.GETXATTR_IN.pack(limits.MAX_XATTRS_TOTAL_BYTES, 0))
        return [os.fsdecode(name) for name in out.split(b"\0") if name]

    def removexattr(self, path: str, name: str) -> int:
        self._on(path, Op.REMOVEXATTR, os.fsencode(name) + b"\0")
        return 0

    # -- names -----------------------------------------------------------------------------------------------------

    def mknod(self, path: str, mode: int, dev: int) -> int:
        self._in_directory(path, Op.MKNOD, abi.MKNOD_IN.pack(mode, abi.encode_device(dev), self._umask(), 0))
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._in_directory(path, Op.MKDIR, abi.MKDIR_IN.pack(mode, self._umask()))
        return 0

    def symlink(self, target: str, source: str) -> int:
        """`target` is the new name (mfusepy's word)."""
        self._in_directory(target, Op.SYMLINK, b"", os.fsencode(source))
        return 0

    def link(self, target: str, source: str) -> int:
        """`target` is the new name (mfusepy's word)."""
        nodeid = self._paths.hold(os.fsencode(source))
        try:
            self._in_directory(target, Op.LINK, abi.LINK_IN.pack(nodeid))
        finally:
            self._paths.release(nodeid)
        return 0

    def unlink(self, path: str) -> int:
        self._in_directory(path, Op.UNLINK, b"")
        return 0

    def rmdir(self, path: str) -> int:
        self._in_directory(path, Op.RMDIR, b"")
        return 0

    def rename(self, old: str, new: str, flags: int = 0) -> int:
        target, name = self._paths.hold_directory(os.fsencode(new))
        try:
            self._in_directory(old, Op.RENAME2, abi.RENAME2_IN.pack(target, flags, 0), name)
        finally:
            self._paths.release(target)
        return 0

    def readdir(self, path: str | None, fh: int) -> Iterator[tuple[str, dict[str, int], int]]:
        """The whole listing at once: the library keeps it until the directory is closed."""
        nodeid = self._handles[fh].nodeid
        offset = 0
        while out := self._ask(Op.READDIR, nodeid, abi.READ_IN.pack(0, offset, _LISTING_BYTES, 0, 0, 0, 0)):
            position = 0
            while position < len(out):
                ino, offset, size, kind = abi.DIRENT.unpack_from(out, position)
                start = position + abi.DIRENT.size
                yield os.fsdecode(out[start : start + size]), {"st_ino": ino, "st_mode": kind << 12}, 0
                position = (start + size + 7) & ~7

    # -- open files ------------------------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        nodeid = self._paths.hold(os.fsencode(path))
        if flags & os.O_TRUNC:  # a library that leaves the truncation to us (WinFsp)
            try:
                self._ask(Op.SETATTR, nodeid, _setattr_request(abi.FATTR_SIZE, size=0))
            except OSError:
                self._paths.release(nodeid)
                raise
        with self._lock:
            handle, self._next = self._next, self._next + 1
            self._handles[handle] = _Open(nodeid, flags)
        return handle

    def opendir(self, path: str) -> int:
        return self.open(path, files.O_RDONLY | files.O_DIRECTORY)

    def release(self, path: str | None, fh: int) -> int:
        with self._lock:
            opened = self._handles.pop(fh)
        self._paths.release(opened.nodeid)
        return 0

    def releasedir(self, path: str | None, fh: int) -> int:
        return self.release(path, fh)

    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
        return self._ask(Op.READ, self._handles[fh].nodeid, abi.READ_IN.pack(0, offset, size, 0, 0, 0, 0))

    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        opened = self._handles[fh]
        done = 0
        while done < len(data):
            part = memoryview(data)[done : done + limits.MAX_WRITE_BYTES]
            head = abi.WRITE_IN.pack(0, offset + done, len(part), 0, 0, opened.flags, 0)
            count, _ = abi.WRITE_OUT.unpack_from(self._ask(Op.WRITE, opened.nodeid, head, part))
            done += count
            if count < len(part):
                break
        return done

    def fsync(self, path: str | None, datasync: int, fh: int) -> int:
        self._ask(Op.FSYNC, self._handles[fh].nodeid, abi.FSYNC_IN.pack(0, abi.FSYNC_FDATASYNC if datasync else 0, 0))
        return 0

    def fsyncdir(self, path: str | None, datasync: int, fh: int) -> int:
        return self.fsync(path, datasync, fh)

    def lseek(self, path: str | None, offset: int, whence: int, fh: int) -> int:
        request = abi.LSEEK_IN.pack(0, offset, whence, 0)
        found: int = abi.LSEEK_OUT.unpack(self._ask(Op.LSEEK, self._handles[fh].nodeid, request))[0]
        return found

    def fallocate(self, path: str | None, mode: int, offset: int, size: int, fh: int) -> int:
        self._ask(Op.FALLOCATE, self._handles[fh].nodeid, abi.FALLOCATE_IN.pack(0, offset, size, mode, 0))
        return 0


# The fields of SETATTR_IN after valid, padding and file handle, in their order.
_FIELDS: Final = (
    "size", "owner", "atime", "mtime", "ctime", "atime_ns", "mtime_ns", "ctime_ns", "mode", "unused1", "uid", "gid",
    "unused2",
)  # fmt: skip


def _setattr_request(valid: int, **given: int) -> bytes:
    fields = dict.fromkeys(_FIELDS, 0) | given
    return abi.SETATTR_IN.pack(valid, 0, 0, *(fields[name] for name in _FIELDS))


def _attributes(out: bytes) -> dict[str, int]:
    (
        _, _, _, ino, size, blocks, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns, mode, links, uid, gid, device,
        block_bytes, _,
    ) = abi.ATTR_OUT.unpack(out)  # fmt: skip

    def ns(seconds: int, rest: int) -> int:
        return (seconds - (1 << 64) if seconds >= 1 << 63 else seconds) * _NS + rest

    found = {
        "st_ino": ino,
        "st_size": size,
        "st_blocks": blocks,
        "st_atime": ns(atime, atime_ns),
        "st_mtime": ns(mtime, mtime_ns),
        "st_ctime": ns(ctime, ctime_ns),
        "st_mode": mode,
        "st_nlink": links,
        "st_uid": uid,
        "st_gid": gid,
        "st_blksize": block_bytes,
    }
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        found["st_rdev"] = abi.decode_device(device)
    return found
