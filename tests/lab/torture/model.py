"""What a directory must look like: an in-memory file system that knows only POSIX, and nothing of the engine.

Every operation of the tester is a method of `Model` with the arguments of the method of the same name of
`tests.lab.torture.disk.Disk`. Both return a value or raise `OSError`; the tester compares them after every call. The
rules (which errno comes first, what a rename does to an open file) are those of Linux on ext4; the tester is run on
plain ext4 as well, to show that a difference is the engine's and not the model's.

Limits: everything is done as root, symbolic links point nowhere, set-id bits are left out on directories, and times are
known only after an explicit utimens (`mtime_ns` None: whatever the file system says).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tests.lab.torture.payload import payload

NOREPLACE: Final = 1
EXCHANGE: Final = 2
KEEP_SIZE: Final = 1
PUNCH_HOLE: Final = 2
ZERO_RANGE: Final = 16

XATTR_CREATE: Final = 1
XATTR_REPLACE: Final = 2


class Kind(Enum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"


@dataclass(eq=False, slots=True)
class Inode:
    """One inode; which fields count depends on its kind."""

    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    data: bytearray = field(default_factory=bytearray)
    target: bytes = b""
    entries: dict[bytes, Inode] = field(default_factory=dict)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    links: int = 1
    mtime_ns: int | None = None


@dataclass(eq=False, slots=True)
class Handle:
    """An open file."""

    inode: Inode
    append: bool
    durable: bool


Stat = tuple[Kind, int, int, int, int, int]


def _refuse(number: int) -> OSError:
    return OSError(number, "model")


class Model:
    """The tree and the open files. Paths are relative to the replicated directory, b"" is that directory itself."""

    def __init__(self) -> None:
        self.root = Inode(Kind.DIRECTORY, 0o755)
        self.handles: dict[int, Handle] = {}

    # -- looking up ------------------------------------------------------------------------------------------------

    def find(self, path: bytes) -> Inode:
        """The inode a path stands for (a final symbolic link itself). Raises ENOENT, ENOTDIR."""
        inode = self.root
        for name in path.split(b"/") if path else ():
            if inode.kind is Kind.SYMLINK:
                raise _refuse(errno.ENOENT)  # it points nowhere
            if inode.kind is not Kind.DIRECTORY:
                raise _refuse(errno.ENOTDIR)
            found = inode.entries.get(name)
            if found is None:
                raise _refuse(errno.ENOENT)
            inode = found
        return inode

    def _place(self, path: bytes) -> tuple[Inode, bytes]:
        """The directory in which the last component of a path is looked up."""
        above, _, name = path.rpartition(b"/")
        inode = self.find(above)
        if inode.kind is Kind.SYMLINK:
            raise _refuse(errno.ENOENT)
        if inode.kind is not Kind.DIRECTORY:
            raise _refuse(errno.ENOTDIR)
        return inode, name

    def walk(self) -> Iterator[tuple[bytes, Inode]]:
        """Every path with its inode, directories before what is in them, names in ascending order."""
        waiting: list[tuple[bytes, Inode]] = [(b"", self.root)]
        while waiting:
            path, inode = waiting.pop()
            yield path, inode
            for name in sorted(inode.entries, reverse=True):
                waiting.append((path + b"/" + name if path else name, inode.entries[name]))

    def path_of(self, handle: int) -> bytes | None:
        """A path of an open file's inode, None if its last link is gone."""
        wanted = self.handles[handle].inode
        if wanted.links == 0:
            return None
        return next(path for path, inode in self.walk() if inode is wanted)

    def copy(self) -> Model:
        """An independent model in the same state."""
        twins: dict[int, Inode] = {}

        def twin(inode: Inode) -> Inode:
            known = twins.get(id(inode))
            if known is None:
                known = Inode(
                    inode.kind, inode.mode, inode.uid, inode.gid, bytearray(inode.data), inode.target, {},
                    dict(inode.xattrs), inode.links, inode.mtime_ns,
                )  # fmt: skip
                twins[id(inode)] = known
                known.entries = {name: twin(child) for name, child in inode.entries.items()}
            return known

        other = Model()
        other.root = twin(self.root)
        other.handles = {
            number: Handle(twin(handle.inode), handle.append, handle.durable) for number, handle in self.handles.items()
        }
        return other

    # -- names -----------------------------------------------------------------------------------------------------

    def _add(self, path: bytes, inode: Inode) -> None:
        parent, name = self._place(path)
        if name in parent.entries:
            raise _refuse(errno.EEXIST)
        parent.entries[name] = inode
        parent.mtime_ns = None

    def create(self, handle: int, path: bytes, mode: int, append: bool, durable: bool) -> None:
        """O_CREAT | O_EXCL, and the file stays open."""
        inode = Inode(Kind.FILE, mode)
        self._add(path, inode)
        self.handles[handle] = Handle(inode, append, durable)

    def mkdir(self, path: bytes, mode: int) -> None:
        self._add(path, Inode(Kind.DIRECTORY, mode))

    def symlink(self, path: bytes, target: bytes) -> None:
        self._add(path, Inode(Kind.SYMLINK, 0o777, target=target))

    def mkfifo(self, path: bytes, mode: int) -> None:
        self._add(path, Inode(Kind.FIFO, mode))

    def link(self, old: bytes, new: bytes) -> None:
        inode = self.find(old)
        parent, name = self._place(new)
        if name in parent.entries:
            raise _refuse(errno.EEXIST)
        if inode.kind is Kind.DIRECTORY:
            raise _refuse(errno.EPERM)
        parent.entries[name] = inode
        parent.mtime_ns = None
        inode.links += 1

    def unlink(self, path: bytes) -> None:
        parent, name = self._place(path)
        inode = parent.entries.get(name)
        if inode is None:
            raise _refuse(errno.ENOENT)
        if inode.kind is Kind.DIRECTORY:
            raise _refuse(errno.EISDIR)
        del parent.entries[name]
        parent.mtime_ns = None
        inode.links -= 1

    def rmdir(self, path: bytes) -> None:
        parent, name = self._place(path)
        inode = parent.entries.get(name)
        if inode is None:
            raise _refuse(errno.ENOENT)
        if inode.kind is not Kind.DIRECTORY:
            raise _refuse(errno.ENOTDIR)
        if inode.entries:
            raise _refuse(errno.ENOTEMPTY)
        del parent.entries[name]
        parent.mtime_ns = None
        inode.links = 0

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        """The order of the checks is that of the kernel's do_renameat2, vfs_rename and ext4_rename."""
        source, old_name = self._place(old)
        target, new_name = self._place(new)
        moved = source.entries.get(old_name)
        if moved is None:
            raise _refuse(errno.ENOENT)
        victim = target.entries.get(new_name)
        if flags & NOREPLACE and victim is not None:
            raise _refuse(errno.EEXIST)
        if flags & EXCHANGE and victim is None:
            raise _refuse(errno.ENOENT)
        if new.startswith(old + b"/"):
            raise _refuse(errno.EINVAL)
        if old.startswith(new + b"/"):
            raise _refuse(errno.EINVAL if flags & EXCHANGE else errno.ENOTEMPTY)
        if moved is victim:
            return
        if flags & EXCHANGE:
            assert victim is not None
            source.entries[old_name] = victim
            target.entries[new_name] = moved
        else:
            if victim is not None:
                self._replace(moved, victim)
            del source.entries[old_name]
            target.entries[new_name] = moved
        source.mtime_ns = target.mtime_ns = None

    def _replace(self, moved: Inode, victim: Inode) -> None:
        if moved.kind is Kind.DIRECTORY:
            if victim.kind is not Kind.DIRECTORY:
                raise _refuse(errno.ENOTDIR)
            if victim.entries:
                raise _refuse(errno.ENOTEMPTY)
            victim.links = 0
            return
        if victim.kind is Kind.DIRECTORY:
            raise _refuse(errno.EISDIR)
        victim.links -= 1

    # -- attributes ------------------------------------------------------------------------------------------------

    def chmod(self, path: bytes, mode: int) -> None:
        inode = self.find(path)
        if inode.kind is Kind.SYMLINK:
            raise _refuse(errno.ENOENT)  # chmod(2) follows it
        inode.mode = mode

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        """A change of owner clears set-id bits of everything but directories (chown(2))."""
        inode = self.find(path)
        inode.uid, inode.gid = uid, gid
        if inode.kind in (Kind.FILE, Kind.FIFO):
            inode.mode &= ~0o4000
            if inode.mode & 0o010:
                inode.mode &= ~0o2000

    def utimens(self, path: bytes, mtime_ns: int) -> None:
        self.find(path).mtime_ns = mtime_ns

    def setxattr(self, path: bytes, key: str, value: bytes, flags: int) -> None:
        inode = self.find(path)
        self._may_have(inode, key)
        if flags & XATTR_CREATE and key in inode.xattrs:
            raise _refuse(errno.EEXIST)
        if flags & XATTR_REPLACE and key not in inode.xattrs:
            raise _refuse(errno.ENODATA)
        inode.xattrs[key] = value

    def removexattr(self, path: bytes, key: str) -> None:
        inode = self.find(path)
        self._may_have(inode, key)
        if inode.xattrs.pop(key, None) is None:
            raise _refuse(errno.ENODATA)

    def _may_have(self, inode: Inode, key: str) -> None:
        if key.startswith("user.") and inode.kind not in (Kind.FILE, Kind.DIRECTORY):
            raise _refuse(errno.EPERM)

    def truncate(self, path: bytes, size: int) -> None:
        inode = self.find(path)
        match inode.kind:
            case Kind.SYMLINK:
                raise _refuse(errno.ENOENT)
            case Kind.DIRECTORY:
                raise _refuse(errno.EISDIR)
            case Kind.FIFO:
                raise _refuse(errno.EINVAL)
            case Kind.FILE:
                self._resize(inode, size)

    def _resize(self, inode: Inode, size: int) -> None:
        if size <= len(inode.data):
            del inode.data[size:]
        else:
            inode.data.extend(bytes(size - len(inode.data)))
        inode.mtime_ns = None

    # -- open files ------------------------------------------------------------------------------------------------

    def open(self, handle: int, path: bytes, truncate: bool, append: bool, durable: bool) -> None:
        """O_RDWR | O_NOFOLLOW; fifos are not asked for."""
        inode = self.find(path)
        match inode.kind:
            case Kind.SYMLINK:
                raise _refuse(errno.ELOOP)
            case Kind.DIRECTORY:
                raise _refuse(errno.EISDIR)
        if truncate:
            self._resize(inode, 0)
        self.handles[handle] = Handle(inode, append, durable)

    def close(self, handle: int) -> None:
        del self.handles[handle]

    def _store(self, inode: Inode, offset: int, data: bytes) -> None:
        if len(inode.data) < offset:
            inode.data.extend(bytes(offset - len(inode.data)))
        inode.data[offset : offset + len(data)] = data
        inode.mtime_ns = None

    def write(self, handle: int, offset: int, size: int, token: int) -> int:
        """Also what write_direct does. The handle is not open for appending."""
        self._store(self.handles[handle].inode, offset, payload(token, size))
        return size

    write_direct = write

    def append(self, handle: int, size: int, token: int) -> int:
        inode = self.handles[handle].inode
        self._store(inode, len(inode.data), payload(token, size))
        return size

    def store(self, handle: int, offset: int, size: int, token: int) -> None:
        """Through a shared mapping, followed by msync(MS_SYNC)."""
        self._store(self.handles[handle].inode, offset, payload(token, size))

    def ftruncate(self, handle: int, size: int) -> None:
        self._resize(self.handles[handle].inode, size)

    def fallocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        inode = self.handles[handle].inode
        end = offset + length
        if mode & (PUNCH_HOLE | ZERO_RANGE):
            inside = max(0, min(end, len(inode.data)) - offset)
            inode.data[offset : offset + inside] = bytes(inside)
        if not mode & KEEP_SIZE and len(inode.data) < end:
            inode.data.extend(bytes(end - len(inode.data)))
        inode.mtime_ns = None

    def fsync(self, handle: int) -> None:
        """Nothing changes; what it means for a crash is the judge's business."""

    fdatasync = fsync

    def fsync_directory(self, path: bytes) -> None:
        if self.find(path).kind is not Kind.DIRECTORY:
            raise _refuse(errno.ENOTDIR)

    # -- looking ---------------------------------------------------------------------------------------------------

    def read(self, handle: int, offset: int, size: int) -> bytes:
        return bytes(self.handles[handle].inode.data[offset : offset + size])

    def stat(self, path: bytes) -> Stat:
        return self.stat_of(self.find(path))

    def stat_of(self, inode: Inode) -> Stat:
        """(kind, mode, uid, gid, links, size); the size counts for files and symbolic links only."""
        match inode.kind:
            case Kind.DIRECTORY:
                below = sum(child.kind is Kind.DIRECTORY for child in inode.entries.values())
                return inode.kind, inode.mode, inode.uid, inode.gid, 2 + below, 0
            case Kind.FILE:
                size = len(inode.data)
            case Kind.SYMLINK:
                size = len(inode.target)
            case Kind.FIFO:
                size = 0
        return inode.kind, inode.mode, inode.uid, inode.gid, inode.links, size

    def mtime(self, path: bytes) -> int | None:
        return self.find(path).mtime_ns

    def listdir(self, path: bytes) -> list[bytes]:
        inode = self.find(path)
        if inode.kind is Kind.SYMLINK:
            raise _refuse(errno.ENOENT)
        if inode.kind is not Kind.DIRECTORY:
            raise _refuse(errno.ENOTDIR)
        return sorted(inode.entries)

    def readlink(self, path: bytes) -> bytes:
        inode = self.find(path)
        if inode.kind is not Kind.SYMLINK:
            raise _refuse(errno.EINVAL)
        return inode.target

    def xattrs(self, path: bytes) -> dict[str, bytes]:
        return dict(self.find(path).xattrs)
