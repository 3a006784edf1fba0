"""The calls by which the engine reaches its copy: `os`'s own names, arguments and errors, on Linux and on Windows.

Problem: the engine works by descriptors and single names (openat and its kin), which is what makes it safe against
renames, links and races, and `os` has these on Unix only.
Guarantee: on Unix every name here is `os`'s (or `syscalls`') own function, assigned and not wrapped; on Windows
`files_windows` does the same with NT handles, with the same errno for the same case. One conformance suite
(tests/unit/mirror/files_conformance.py) passes on both.
Limits: what Windows does not have is refused there (`files_windows` lists it); only what the engine uses is here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

if sys.platform == "win32":
    from mirror_agent.mirror.files_windows import (
        O_APPEND,
        O_CLOEXEC,
        O_CREAT,
        O_DIRECTORY,
        O_DSYNC,
        O_EXCL,
        O_NOFOLLOW,
        O_PATH,
        O_RDONLY,
        O_RDWR,
        O_SYNC,
        O_WRONLY,
        RENAME_EXCHANGE,
        RENAME_NOREPLACE,
        SEEK_DATA,
        SEEK_HOLE,
        SEEK_SET,
        XATTR_CREATE,
        beneath,
        birth_ns,
        chmod,
        chown,
        close,
        closes_before_moves,
        directory_page,
        dup,
        entries,
        fallocate,
        fchmod,
        fdatasync,
        file_system_of,
        fstat,
        fstatvfs,
        fsync,
        ftruncate,
        getxattr,
        handle_of,
        link,
        listdir,
        listxattr,
        lseek,
        lstat,
        mkdir,
        mknod,
        open,
        open_handle,
        path_of,
        pread,
        purge,
        pwrite,
        readlink,
        removexattr,
        rename,
        renameat2,
        respell,
        rmdir,
        setxattr,
        spelling,
        stat,
        symlink,
        syncfs,
        through,
        try_lock,
        unlink,
        utime,
        write,
    )
else:
    import ctypes
    import fcntl
    from os import (
        O_APPEND,
        O_CLOEXEC,
        O_CREAT,
        O_DIRECTORY,
        O_DSYNC,
        O_EXCL,
        O_NOFOLLOW,
        O_PATH,
        O_RDONLY,
        O_RDWR,
        O_SYNC,
        O_WRONLY,
        SEEK_DATA,
        SEEK_HOLE,
        SEEK_SET,
        XATTR_CREATE,
        chmod,
        chown,
        close,
        dup,
        fchmod,
        fdatasync,
        fstat,
        fstatvfs,
        fsync,
        ftruncate,
        getxattr,
        link,
        listdir,
        listxattr,
        lseek,
        lstat,
        mkdir,
        mknod,
        open,
        pread,
        pwrite,
        readlink,
        removexattr,
        rename,
        rmdir,
        setxattr,
        stat,
        symlink,
        unlink,
        utime,
        write,
    )

    from mirror_agent.mirror.syscalls import (
        RENAME_EXCHANGE,
        RENAME_NOREPLACE,
        birth_ns,
        fallocate,
        file_system_of,
        getdents64,
        handle_of,
        open_handle,
        renameat2,
        syncfs,
    )

    def through(fd: int) -> str:
        """What leads to an open file (also an O_PATH one) wherever a path may be given."""
        return f"/proc/self/fd/{fd}"

    def path_of(fd: int) -> str:
        """Where an open file is now, for people and manifests."""
        return os.readlink(f"/proc/self/fd/{fd}")

    def beneath(fd: int, name: bytes) -> str:
        """A path to a name in an open directory."""
        return f"/proc/self/fd/{fd}/{os.fsdecode(name)}"

    def entries(fd: int) -> list[tuple[bytes, os.stat_result]]:
        """What an open directory holds now, with attributes; what vanishes meanwhile is left out."""
        found = []
        with os.scandir(fd) as listing:
            for entry in listing:
                try:
                    found.append((os.fsencode(entry.name), entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue  # removed between the listing and the look
        return found

    def directory_page(fd: int, offset: int, size: int) -> bytes:
        """linux_dirent64 records of at most `size` bytes, after the cookie `offset` (0: from the beginning)."""
        reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if offset:
                os.lseek(reader, offset, os.SEEK_SET)
            buffer = ctypes.create_string_buffer(size)
            count = getdents64(reader, buffer, size)
        finally:
            os.close(reader)
        return buffer.raw[:count]

    def respell(directory: int, name: bytes) -> None:
        """Where names differ in case only cannot be: gives what is there this spelling. Here every spelling is a name
        of its own."""

    def spelling(directory: int, name: bytes) -> bytes:
        """As the directory spells a name."""
        return name

    def try_lock(fd: int) -> None:
        """Until the descriptor is closed, nobody else locks the same file. BlockingIOError if somebody has."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def closes_before_moves(shed: Callable[[], None]) -> None:
        """Where no directory can be moved below which anything is open: has `shed` (a bound method) called before, to
        close what can be opened again. Here open files are in nobody's way."""

    def purge(fd: int) -> None:
        """Removes what the port itself has left below an open directory: here nothing."""


__all__ = [
    "O_APPEND",
    "O_CLOEXEC",
    "O_CREAT",
    "O_DIRECTORY",
    "O_DSYNC",
    "O_EXCL",
    "O_NOFOLLOW",
    "O_PATH",
    "O_RDONLY",
    "O_RDWR",
    "O_SYNC",
    "O_WRONLY",
    "RENAME_EXCHANGE",
    "RENAME_NOREPLACE",
    "SEEK_DATA",
    "SEEK_HOLE",
    "SEEK_SET",
    "XATTR_CREATE",
    "beneath",
    "birth_ns",
    "chmod",
    "chown",
    "close",
    "closes_before_moves",
    "directory_page",
    "dup",
    "entries",
    "fallocate",
    "fchmod",
    "fdatasync",
    "file_system_of",
    "fstat",
    "fstatvfs",
    "fsync",
    "ftruncate",
    "getxattr",
    "handle_of",
    "link",
    "listdir",
    "listxattr",
    "lseek",
    "lstat",
    "mkdir",
    "mknod",
    "open",
    "open_handle",
    "path_of",
    "pread",
    "purge",
    "pwrite",
    "readlink",
    "removexattr",
    "rename",
    "renameat2",
    "respell",
    "rmdir",
    "setxattr",
    "spelling",
    "stat",
    "symlink",
    "syncfs",
    "through",
    "try_lock",
    "unlink",
    "utime",
    "write",
]
