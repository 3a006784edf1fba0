"""The seeded stream of operations: a pure function of the seed, whatever happens to the engines.

Which operation comes next depends on the random generator and on the model after the one before, never on the disk.
So operation number n of a seed is always the same, a crash changes nothing in what follows, and "seed and number"
replays a failure. What a crash undid is done again from the journal before the stream goes on (`drivers`).

The mix resembles an application with a few dozen files up to 200 KiB: a third looks, two thirds change; one name in
five is wrong on purpose.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tests.lab.torture.model import (
    EXCHANGE,
    KEEP_SIZE,
    NOREPLACE,
    PUNCH_HOLE,
    XATTR_CREATE,
    XATTR_REPLACE,
    ZERO_RANGE,
    Handle,
    Inode,
    Kind,
    Model,
)

SIZE_MAX: Final = 200_000
_HANDLES_MAX: Final = 8
_INODES_MAX: Final = 60
_DEPTH_MAX: Final = 4
_DIRECT_UNIT: Final = 4096
_DIRECT_UNITS_MAX: Final = 8
_KEYS: Final = ("user.torture.a", "user.torture.b", "trusted.torture.c")
_NAMES: Final = (b"a", b"b", b"c", b"dir", b"\xff\xfe", b"new\nline", b" ", "äöü.txt".encode(), b"n" * 255)
# Renames nest directories; below the kernel's PATH_MAX with room for the replicated directory's own path.
_PATH_BYTES_MAX: Final = 3000
_MODES: Final = (0o600, 0o640, 0o644, 0o755, 0o400, 0o000)

# The only operations whose return promises, in `ordered`, that everything before is on both nodes; writes through a
# handle opened with O_DSYNC do so as well.
BARRIERS: Final = frozenset({"fsync", "fdatasync", "store", "fsync_directory"})
DURABLE_WRITES: Final = frozenset({"write", "append", "write_direct"})


class Operation(NamedTuple):
    """`name` is a method of Model and of Disk."""

    name: str
    arguments: tuple[Any, ...]


class Stream:
    """`next` chooses an operation for the model as it stands; the caller applies it to the model before it asks again.

    `model` may be replaced by an equal one."""

    def __init__(self, seed: int, model: Model) -> None:
        self.model = model
        self._random = random.Random(seed)
        self._token = 0
        self._choices: list[Callable[[], Operation | None]] = []
        for make, weight in self._mix():
            self._choices += [make] * weight

    def _mix(self) -> list[tuple[Callable[[], Operation | None], int]]:
        return [
            (self._read, 14), (self._stat, 8), (self._listdir, 4), (self._xattrs, 2), (self._readlink, 1),
            (self._mtime, 3),
            (self._write, 16), (self._append, 6), (self._write_direct, 2), (self._store, 2), (self._ftruncate, 3),
            (self._truncate, 2), (self._fallocate, 4), (self._fsync, 1), (self._fdatasync, 1),
            (self._fsync_directory, 1),
            (self._open, 6), (self._close, 4), (self._create, 6), (self._mkdir, 3), (self._symlink, 1),
            (self._mkfifo, 1), (self._link, 3), (self._unlink, 5), (self._rmdir, 2), (self._rename, 5),
            (self._exchange, 2), (self._no_replace, 1),
            (self._chmod, 2), (self._chown, 2), (self._utimens, 3), (self._setxattr, 3), (self._removexattr, 1),
        ]  # fmt: skip

    def next(self) -> Operation:
        self._token += 1
        while True:
            operation = self._random.choice(self._choices)()
            if operation is not None and not _too_long(operation):
                return operation

    # -- choosing --------------------------------------------------------------------------------------------------

    def _directory(self) -> tuple[bytes, Inode]:
        path, inode, depth = b"", self.model.root, 0
        while depth < _DEPTH_MAX and self._random.random() < 0.6:
            below = [name for name, child in inode.entries.items() if child.kind is Kind.DIRECTORY]
            if not below:
                break
            name = self._random.choice(below)
            path = path + b"/" + name if path else name
            inode = inode.entries[name]
            depth += 1
        return path, inode

    def _somewhere(self) -> bytes:
        """A path that may or may not exist; now and then below something that is no directory."""
        path, inode = self._directory()
        name = self._random.choice(_NAMES)
        if self._random.random() < 0.03 and inode.entries:
            name = self._random.choice(list(inode.entries)) + b"/" + name
        return path + b"/" + name if path else name

    def _something(self) -> bytes:
        """Mostly a path that exists, sometimes the directory itself."""
        if self._random.random() < 0.2:
            return self._somewhere()
        path, inode = self._directory()
        if not inode.entries:
            return path
        name = self._random.choice(list(inode.entries))
        return path + b"/" + name if path else name

    def _no_directory(self) -> bytes:
        """Mostly a path that exists and is no directory."""
        path, inode = self._directory()
        others = [name for name, child in inode.entries.items() if child.kind is not Kind.DIRECTORY]
        if not others or self._random.random() < 0.15:
            return self._entry()
        name = self._random.choice(others)
        return path + b"/" + name if path else name

    def _entry(self) -> bytes:
        """As `_something`, but never the replicated directory itself."""
        return self._something() or self._somewhere()

    def _free(self) -> bytes | None:
        """A path for a new name; None when there are enough."""
        if sum(1 for _ in self.model.walk()) >= _INODES_MAX:
            return None
        return self._somewhere()

    def _handle(self, wanted: Callable[[Handle], bool] = lambda handle: True) -> int | None:
        fitting = [number for number, handle in self.model.handles.items() if wanted(handle)]
        return self._random.choice(fitting) if fitting else None

    def _size(self) -> int:
        kind = self._random.random()
        if kind < 0.5:
            return self._random.randrange(1, 600)
        if kind < 0.9:
            return self._random.randrange(600, 9000)
        return self._random.randrange(9000, 70_000)

    def _offset(self, inode: Inode, size: int) -> int:
        """Mostly inside the file or at its end, sometimes beyond."""
        have = len(inode.data)
        kind = self._random.random()
        if kind < 0.6:
            offset = self._random.randrange(have + 1)
        elif kind < 0.8:
            offset = have
        else:
            offset = self._random.randrange(SIZE_MAX)
        return max(0, min(offset, SIZE_MAX - size))

    # -- looking ---------------------------------------------------------------------------------------------------

    def _read(self) -> Operation | None:
        handle = self._handle()
        if handle is None:
            return None
        have = len(self.model.handles[handle].inode.data)
        return Operation("read", (handle, self._random.randrange(have + 100), self._random.choice((100, 5000, 70_000))))

    def _stat(self) -> Operation:
        return Operation("stat", (self._something(),))

    def _mtime(self) -> Operation:
        return Operation("mtime", (self._something(),))

    def _listdir(self) -> Operation:
        return Operation("listdir", (self._directory()[0] if self._random.random() < 0.9 else self._something(),))

    def _readlink(self) -> Operation:
        return Operation("readlink", (self._something(),))

    def _xattrs(self) -> Operation:
        return Operation("xattrs", (self._something(),))

    # -- data ------------------------------------------------------------------------------------------------------

    def _write(self) -> Operation | None:
        handle = self._handle(lambda handle: not handle.append)
        if handle is None:
            return None
        size = self._size()
        offset = self._offset(self.model.handles[handle].inode, size)
        return Operation("write", (handle, offset, size, self._token))

    def _write_direct(self) -> Operation | None:
        handle = self._handle(lambda handle: not handle.append)
        if handle is None:
            return None
        size = _DIRECT_UNIT * self._random.randrange(1, _DIRECT_UNITS_MAX + 1)
        offset = self._offset(self.model.handles[handle].inode, size) // _DIRECT_UNIT * _DIRECT_UNIT
        return Operation("write_direct", (handle, offset, size, self._token))

    def _append(self) -> Operation | None:
        handle = self._handle(lambda handle: handle.append and len(handle.inode.data) < SIZE_MAX)
        return None if handle is None else Operation("append", (handle, self._size(), self._token))

    def _store(self) -> Operation | None:
        handle = self._handle(lambda handle: len(handle.inode.data) > 0)
        if handle is None:
            return None
        have = len(self.model.handles[handle].inode.data)
        offset = self._random.randrange(have)
        return Operation("store", (handle, offset, min(self._size(), have - offset), self._token))

    def _length(self, inode: Inode) -> int:
        return self._random.choice((0, len(inode.data) // 2, self._random.randrange(SIZE_MAX), len(inode.data) + 1))

    def _ftruncate(self) -> Operation | None:
        handle = self._handle()
        if handle is None:
            return None
        return Operation("ftruncate", (handle, self._length(self.model.handles[handle].inode)))

    def _truncate(self) -> Operation:
        return Operation("truncate", (self._no_directory(), self._random.randrange(SIZE_MAX // 4)))

    def _fallocate(self) -> Operation | None:
        handle = self._handle()
        if handle is None:
            return None
        mode = self._random.choice(
            (0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE)
        )
        length = self._random.choice((1, 100, 4096, 10_000, 65_536))
        offset = self._offset(self.model.handles[handle].inode, length)
        return Operation("fallocate", (handle, mode, offset, length))

    def _fsync(self) -> Operation | None:
        handle = self._handle()
        return None if handle is None else Operation("fsync", (handle,))

    def _fdatasync(self) -> Operation | None:
        handle = self._handle()
        return None if handle is None else Operation("fdatasync", (handle,))

    def _fsync_directory(self) -> Operation:
        return Operation("fsync_directory", (self._directory()[0],))

    # -- names -----------------------------------------------------------------------------------------------------

    def _open(self) -> Operation | None:
        path = self._no_directory()
        try:
            if self.model.find(path).kind is Kind.FIFO:
                return None
        except OSError:
            pass  # opening what is not there is an operation as well
        if len(self.model.handles) >= _HANDLES_MAX:
            return self._close()
        how = self._random.random()
        return Operation("open", (self._token, path, how < 0.1, how > 0.7, self._random.random() < 0.05))

    def _close(self) -> Operation | None:
        handle = self._handle()
        return None if handle is None else Operation("close", (handle,))

    def _create(self) -> Operation | None:
        if len(self.model.handles) >= _HANDLES_MAX:
            return self._close()
        path = self._free()
        if path is None:
            return self._unlink()
        append = self._random.random() < 0.3
        durable = self._random.random() < 0.05
        return Operation("create", (self._token, path, self._random.choice(_MODES), append, durable))

    def _mkdir(self) -> Operation:
        path = self._free()
        return self._rmdir() if path is None else Operation("mkdir", (path, self._random.choice((0o755, 0o700))))

    def _symlink(self) -> Operation | None:
        path = self._free()
        if path is None:
            return None
        return Operation("symlink", (path, b"nowhere/" + b"x" * self._random.randrange(1, 200)))

    def _mkfifo(self) -> Operation | None:
        path = self._free()
        return None if path is None else Operation("mkfifo", (path, 0o640))

    def _link(self) -> Operation | None:
        path = self._free()
        return None if path is None else Operation("link", (self._entry(), path))

    def _unlink(self) -> Operation:
        return Operation("unlink", (self._no_directory(),))

    def _rmdir(self) -> Operation:
        path, inode = self._directory()
        empty = [name for name, child in inode.entries.items() if child.kind is Kind.DIRECTORY and not child.entries]
        if empty and self._random.random() < 0.7:
            name = self._random.choice(empty)
            return Operation("rmdir", (path + b"/" + name if path else name,))
        return Operation("rmdir", (self._entry(),))

    def _rename(self) -> Operation:
        return Operation("rename", (self._entry(), self._somewhere(), 0))

    def _no_replace(self) -> Operation:
        return Operation("rename", (self._entry(), self._somewhere(), NOREPLACE))

    def _exchange(self) -> Operation:
        return Operation("rename", (self._entry(), self._entry(), EXCHANGE))

    # -- attributes ------------------------------------------------------------------------------------------------

    def _chmod(self) -> Operation:
        return Operation("chmod", (self._entry(), self._random.choice(_MODES)))

    def _chown(self) -> Operation:
        return Operation("chown", (self._something(), self._random.randrange(3), self._random.randrange(3)))

    def _utimens(self) -> Operation:
        return Operation("utimens", (self._something(), self._random.randrange(2_000_000_000_000_000_000)))

    def _setxattr(self) -> Operation:
        flags = self._random.choice((0, 0, 0, XATTR_CREATE, XATTR_REPLACE))
        value = self._random.randbytes(self._random.choice((0, 5, 40, 300)))
        return Operation("setxattr", (self._something(), self._random.choice(_KEYS), value, flags))

    def _removexattr(self) -> Operation:
        return Operation("removexattr", (self._something(), self._random.choice(_KEYS)))


def _too_long(operation: Operation) -> bool:
    return any(isinstance(value, bytes) and len(value) > _PATH_BYTES_MAX for value in operation.arguments)
