"""Copying and removing directory entries with all below them, by descriptors and single names, never by a path.

Links are never followed. A copy has owner, mode, extended attributes and times of its original; what the target's file
system cannot store of the attributes is left out.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from mirror_agent.mirror import files

_PATH_FLAGS: Final = files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC
_DIR_FLAGS: Final = files.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC
_COPY_BYTES: Final = 1024 * 1024
# Beside a directory whose shared files are being copied; names in a quarantine folder never begin with a dot, and one
# level further down a name of the application's that long cannot be met by accident.
_COPYING: Final = b".mirrorplane-copying-" + b"x" * 200


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += files.pwrite(fd, data[done:], offset + done)


def copy_attributes(source_fd: int, target_fd: int) -> None:
    """Owner, mode, extended attributes and times, between two O_PATH descriptors of the same type."""
    st = files.fstat(source_fd)
    source, target = files.through(source_fd), files.through(target_fd)
    files.chown(target, st.st_uid, st.st_gid)
    if not stat.S_ISLNK(st.st_mode):
        files.chmod(target, stat.S_IMODE(st.st_mode))
    for key in files.listxattr(source):
        try:
            files.setxattr(target, key, files.getxattr(source, key))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # the quarantine's file system may know fewer namespaces
                raise
    files.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns))


def _copy_data(source_fd: int, target_fd: int) -> int:
    done = 0
    while data := files.pread(source_fd, _COPY_BYTES, done):
        write_all(target_fd, data, done)
        done += len(data)
    return done


def copy_entry(from_fd: int, from_name: bytes, to_fd: int, to_name: bytes) -> int:
    """Copies an entry with all below it; returns the bytes of data. Directories get their times after their content."""
    source = files.open(from_name, _PATH_FLAGS, dir_fd=from_fd)
    try:
        st = files.fstat(source)
        copied = 0
        if stat.S_ISDIR(st.st_mode):
            files.mkdir(to_name, 0o700, dir_fd=to_fd)
            inner_from = files.open(from_name, _DIR_FLAGS, dir_fd=from_fd)
            try:
                inner_to = files.open(to_name, _DIR_FLAGS, dir_fd=to_fd)
                try:
                    for name in files.listdir(inner_from):
                        copied += copy_entry(inner_from, os.fsencode(name), inner_to, os.fsencode(name))
                finally:
                    files.close(inner_to)
            finally:
                files.close(inner_from)
        elif stat.S_ISREG(st.st_mode):
            reader = files.open(files.through(source), files.O_RDONLY | files.O_CLOEXEC)
            try:
                flags = files.O_WRONLY | files.O_CREAT | files.O_EXCL | files.O_CLOEXEC
                writer = files.open(to_name, flags, 0o600, dir_fd=to_fd)
                try:
                    copied = _copy_data(reader, writer)
                finally:
                    files.close(writer)
            finally:
                files.close(reader)
        elif stat.S_ISLNK(st.st_mode):
            files.symlink(files.readlink(b"", dir_fd=source), to_name, dir_fd=to_fd)
        else:
            files.mknod(to_name, st.st_mode, st.st_rdev, dir_fd=to_fd)
        target = files.open(to_name, _PATH_FLAGS, dir_fd=to_fd)
        try:
            copy_attributes(source, target)
        finally:
            files.close(target)
        return copied
    finally:
        files.close(source)


def separate(parent_fd: int, name: bytes) -> None:
    """Gives everything below a kept directory that has names elsewhere an inode of its own: the others live on."""
    directory = files.open(name, _DIR_FLAGS, dir_fd=parent_fd)
    try:
        for child in map(os.fsencode, files.listdir(directory)):
            st = files.stat(child, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(st.st_mode):
                separate(directory, child)
            elif st.st_nlink > 1:
                copy_entry(directory, child, parent_fd, _COPYING)
                files.rename(_COPYING, child, src_dir_fd=parent_fd, dst_dir_fd=directory)
    finally:
        files.close(directory)


def remove_entry(parent_fd: int, name: bytes) -> None:
    """Removes an entry with all below it, never following a link."""
    st = files.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    if not stat.S_ISDIR(st.st_mode):
        files.unlink(name, dir_fd=parent_fd)
        return
    inner = files.open(name, _DIR_FLAGS, dir_fd=parent_fd)
    try:
        for child in files.listdir(inner):
            remove_entry(inner, os.fsencode(child))
    finally:
        files.close(inner)
    files.rmdir(name, dir_fd=parent_fd)


def tree_bytes(path: str) -> int:
    """Bytes of everything below a directory, or of one entry, as the file system counts them."""
    st = files.lstat(path)
    total = max(st.st_blocks * 512, 0)
    if stat.S_ISDIR(st.st_mode):
        for name in files.listdir(path):
            total += tree_bytes(os.path.join(path, name))
    return total
