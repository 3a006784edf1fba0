"""What is sent about an inode and about a directory: attributes, extended attributes, names."""

from __future__ import annotations

import errno
import os
import stat

from mirror_agent.mirror import files
from mirror_agent.mirror.wire import Entry


def size_of(st: os.stat_result) -> int:
    """The size that counts: only a regular file has one of its own."""
    return st.st_size if stat.S_ISREG(st.st_mode) else 0


def entry_of(fd: int, name: bytes) -> Entry:
    """Everything about the inode behind an O_PATH descriptor but its data, under one of its names."""
    st = files.fstat(fd)
    target = files.readlink(b"", dir_fd=fd) if stat.S_ISLNK(st.st_mode) else b""
    return Entry(
        st.st_mode, st.st_uid, st.st_gid, st.st_rdev,
        size_of(st), st.st_mtime_ns, st.st_nlink, name, target, xattrs_of(fd),
    )  # fmt: skip


def names_of(fd: int) -> list[bytes]:
    """What the directory behind a descriptor holds now."""
    reader = files.open(files.through(fd), files.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC)
    try:
        return [os.fsencode(name) for name in files.listdir(reader)]
    finally:
        files.close(reader)


def xattrs_of(fd: int) -> tuple[tuple[bytes, bytes], ...]:
    """All extended attributes of the inode behind an O_PATH descriptor, sorted by name."""
    path = files.through(fd)
    found = []
    for key in sorted(files.listxattr(path)):
        try:
            found.append((os.fsencode(key), files.getxattr(path, key)))
        except OSError as error:
            if error.errno != errno.ENODATA:  # removed between the two calls
                raise
    return tuple(found)
