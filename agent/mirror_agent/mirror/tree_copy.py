"""Copying and removing directory entries with all below them, by descriptors and single names, never by a path.

Links are never followed. A copy has owner, mode, extended attributes and times of its original; what the target's file
system cannot store of the attributes is left out.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

_PATH_FLAGS: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIR_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_BYTES: Final = 1024 * 1024
# Beside a directory whose shared files are being copied; names in a quarantine folder never begin with a dot, and one
# level further down a name of the application's that long cannot be met by accident.
_COPYING: Final = b".mirrorplane-copying-" + b"x" * 200


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


def copy_attributes(source_fd: int, target_fd: int) -> None:
    """Owner, mode, extended attributes and times, between two O_PATH descriptors of the same type."""
    st = os.fstat(source_fd)
    source, target = f"/proc/self/fd/{source_fd}", f"/proc/self/fd/{target_fd}"
    os.chown(target, st.st_uid, st.st_gid)
    if not stat.S_ISLNK(st.st_mode):
        os.chmod(target, stat.S_IMODE(st.st_mode))
    for key in os.listxattr(source):
        try:
            os.setxattr(target, key, os.getxattr(source, key))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # the quarantine's file system may know fewer namespaces
                raise
    os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns))


def _copy_data(source_fd: int, target_fd: int) -> int:
    done = 0
    while data := os.pread(source_fd, _COPY_BYTES, done):
        write_all(target_fd, data, done)
        done += len(data)
    return done


def copy_entry(from_fd: int, from_name: bytes, to_fd: int, to_name: bytes) -> int:
    """Copies an entry with all below it; returns the bytes of data. Directories get their times after their content."""
    source = os.open(from_name, _PATH_FLAGS, dir_fd=from_fd)
    try:
        st = os.fstat(source)
        copied = 0
        if stat.S_ISDIR(st.st_mode):
            os.mkdir(to_name, 0o700, dir_fd=to_fd)
            inner_from = os.open(from_name, _DIR_FLAGS, dir_fd=from_fd)
            try:
                inner_to = os.open(to_name, _DIR_FLAGS, dir_fd=to_fd)
                try:
                    for name in os.listdir(inner_from):
                        copied += copy_entry(inner_from, os.fsencode(name), inner_to, os.fsencode(name))
                finally:
                    os.close(inner_to)
            finally:
                os.close(inner_from)
        elif stat.S_ISREG(st.st_mode):
            reader = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                writer = os.open(to_name, flags, 0o600, dir_fd=to_fd)
                try:
                    copied = _copy_data(reader, writer)
                finally:
                    os.close(writer)
            finally:
                os.close(reader)
        elif stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(b"", dir_fd=source), to_name, dir_fd=to_fd)
        else:
            os.mknod(to_name, st.st_mode, st.st_rdev, dir_fd=to_fd)
        target = os.open(to_name, _PATH_FLAGS, dir_fd=to_fd)
        try:
            copy_attributes(source, target)
        finally:
            os.close(target)
        return copied
    finally:
        os.close(source)


def separate(parent_fd: int, name: bytes) -> None:
    """Gives everything below a kept directory that has names elsewhere an inode of its own: the others live on."""
    directory = os.open(name, _DIR_FLAGS, dir_fd=parent_fd)
    try:
        for child in map(os.fsencode, os.listdir(directory)):
            st = os.stat(child, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(st.st_mode):
                separate(directory, child)
            elif st.st_nlink > 1:
                copy_entry(directory, child, parent_fd, _COPYING)
                os.rename(_COPYING, child, src_dir_fd=parent_fd, dst_dir_fd=directory)
    finally:
        os.close(directory)


def remove_entry(parent_fd: int, name: bytes) -> None:
    """Removes an entry with all below it, never following a link."""
    st = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    if not stat.S_ISDIR(st.st_mode):
        os.unlink(name, dir_fd=parent_fd)
        return
    inner = os.open(name, _DIR_FLAGS, dir_fd=parent_fd)
    try:
        for child in os.listdir(inner):
            remove_entry(inner, os.fsencode(child))
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=parent_fd)


def tree_bytes(path: str) -> int:
    """Bytes of everything below a directory, or of one entry, as the file system counts them."""
    st = os.lstat(path)
    total = max(st.st_blocks * 512, 0)
    if stat.S_ISDIR(st.st_mode):
        for name in os.listdir(path):
            total += tree_bytes(os.path.join(path, name))
    return total
