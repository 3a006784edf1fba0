"""What a resync takes away from this node is kept: files, directories and byte ranges, each with a manifest line.

Guarantee (I6): the manifest line and the data are written when `keep_*` returns, and the caller changes the original
only after that, so a crash of the process at any point loses nothing. They are on disk at the latest with the first
`sync` after `SYNC_S`, and always before the resync ends; a power cut can lose what was kept in the last `SYNC_S`.

One folder per resync; `manifest.jsonl` has one JSON object per kept thing, `ranges.bin` the ranges one after the other,
and every kept entry lies in a numbered item beside it, with owner, mode, times and attributes. An entry on the same
file system is moved, otherwise copied and then removed; what has further names is always copied, because those names
may be written to later.

Limits: no limit of size or age; when the folder cannot be written, the resync stops and says so.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import stat
import time
from datetime import UTC, datetime
from typing import IO, Any, Final

from mirror_agent.mirror import syscalls

log: Final = logging.getLogger(__name__)

MANIFEST: Final = "manifest.jsonl"
RANGES: Final = "ranges.bin"
SYNC_S: Final = 1.0
_PATH_FLAGS: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIR_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_BYTES: Final = 1024 * 1024
# Beside a directory whose shared files are being copied; names in a quarantine folder never begin with a dot, and one
# level further down a name of the application's that long cannot be met by accident.
_COPYING: Final = b".mirrorplane-copying-" + b"x" * 200


class Quarantine:
    """The folder of one resync; created with the first thing kept."""

    def __init__(self, directory: str, label: str) -> None:
        self.path = os.path.join(directory, label)
        self.kept_bytes = 0
        self.kept_items = 0
        self._fd = -1
        self._device = -1
        self._manifest: IO[bytes] | None = None
        self._ranges: IO[bytes] | None = None
        self._dirty = False
        self._synced_s = time.monotonic()

    def close(self) -> None:
        self._sync_now()
        for stream in (self._manifest, self._ranges):
            if stream is not None:
                stream.close()
        if self._fd >= 0:
            os.close(self._fd)
        self._manifest = self._ranges = None
        self._fd = -1

    def keep_range(self, path: str, fd: int, offset: int, length: int) -> None:
        """Copies a byte range of an open file."""
        self._open()
        assert self._ranges is not None
        position = os.fstat(self._ranges.fileno()).st_size
        digest = hashlib.sha256()
        done = 0
        while done < length and (data := os.pread(fd, min(_COPY_BYTES, length - done), offset + done)):
            write_all(self._ranges.fileno(), data, position + done)
            digest.update(data)
            done += len(data)
        if done:
            self._note(
                {
                    "kind": "range", "path": path, "offset": offset, "length": done, "stored": RANGES,
                    "stored_offset": position, "sha256": digest.hexdigest(),
                },
                done,
            )  # fmt: skip

    def keep_entry(self, path: str, parent_fd: int, name: bytes) -> None:
        """Takes a directory entry, with all below it, out of the tree."""
        self._open()
        item = f"{self.kept_items:06d}".encode()
        st = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        shared = not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1
        line = {
            "kind": "entry", "path": path, "stored": item.decode(), "mode": f"{st.st_mode:o}", "uid": st.st_uid,
            "gid": st.st_gid, "size_bytes": st.st_size, "mtime_ns": st.st_mtime_ns,
        }  # fmt: skip
        if st.st_dev == self._device and not shared:
            self._note(line, 0 if stat.S_ISDIR(st.st_mode) else st.st_size)
            self.sync()
            os.rename(name, item, src_dir_fd=parent_fd, dst_dir_fd=self._fd)
            if stat.S_ISDIR(st.st_mode):
                separate(self._fd, item)
            return
        copied = copy_entry(parent_fd, name, self._fd, item)
        self._note(line, copied)
        self.sync()
        remove_entry(parent_fd, name)

    def sync(self) -> None:
        """Flushes to disk what was kept, at most once in `SYNC_S`: a resync may keep thousands of small things."""
        if self._dirty and time.monotonic() - self._synced_s >= SYNC_S:
            self._sync_now()

    def _sync_now(self) -> None:
        if not self._dirty:
            return
        assert self._manifest is not None
        assert self._ranges is not None
        for stream in (self._ranges, self._manifest):
            os.fsync(stream.fileno())
        syscalls.syncfs(self._fd)
        self._dirty = False
        self._synced_s = time.monotonic()

    def _note(self, line: dict[str, Any], size: int) -> None:
        assert self._manifest is not None
        text = json.dumps({**line, "at_utc": datetime.now(UTC).isoformat()}).encode() + b"\n"
        write_all(self._manifest.fileno(), text, os.fstat(self._manifest.fileno()).st_size)
        self._dirty = True
        self.kept_items += 1
        self.kept_bytes += size

    def _open(self) -> None:
        if self._fd >= 0:
            return
        os.makedirs(self.path, mode=0o700)
        self._fd = os.open(self.path, _DIR_FLAGS)
        self._device = os.fstat(self._fd).st_dev
        self._manifest = open(os.path.join(self.path, MANIFEST), "xb", buffering=0)  # noqa: SIM115 - closed in `close`
        self._ranges = open(os.path.join(self.path, RANGES), "xb", buffering=0)  # noqa: SIM115 - closed in `close`
        parent = os.open(os.path.dirname(self.path), _DIR_FLAGS)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
        log.warning("resync: keeping what differs in %s", self.path)


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
