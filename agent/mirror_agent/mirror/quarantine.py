"""What a resync takes away from this node is kept: files, directories and byte ranges, each with a manifest line.

Guarantee (I6): the manifest line and the data are written when `keep_*` returns, and the caller changes the original
only after that, so a crash of the process at any point loses nothing. They are on disk at the latest with the first
`sync` after `SYNC_S`, and always before the resync ends; a power cut can lose what was kept in the last `SYNC_S`.

One folder per resync; `manifest.jsonl` has one JSON object per kept thing, `ranges.bin` the ranges one after the other,
and every kept entry lies in a numbered item beside it, with owner, mode, times and attributes. An entry on the same
file system is moved, otherwise copied and then removed; what has further names is always copied, because those names
may be written to later.

Limits: `quarantine_store.Allowance` (size and age of all folders together); when something cannot be kept, the resync
stops and says so. `quarantine_store` reads all this again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import time
from datetime import UTC, datetime
from typing import IO, Any, Final

from mirror_agent.mirror import files
from mirror_agent.mirror.quarantine_store import MANIFEST, RANGES, Allowance, lock_folder
from mirror_agent.mirror.tree_copy import copy_entry, remove_entry, separate, tree_bytes, write_all

__all__ = ["MANIFEST", "RANGES", "Quarantine", "copy_entry", "write_all"]

log: Final = logging.getLogger(__name__)

SYNC_S: Final = 1.0
_DIR_FLAGS: Final = files.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC
_COPY_BYTES: Final = 1024 * 1024
# A manifest line with a long path.
_LINE_BYTES: Final = 512


class Quarantine:
    """The folder of one resync; created with the first thing kept. `allowance`: what all folders together may hold."""

    def __init__(self, directory: str, label: str, allowance: Allowance | None = None) -> None:
        self._allowance = allowance
        self.path = os.path.join(directory, label)
        self.kept_bytes = 0
        self.kept_items = 0
        self._fd = -1
        self._device = -1
        self._manifest: IO[bytes] | None = None
        self._ranges: IO[bytes] | None = None
        self._dirty = False
        self._synced_s = time.monotonic()

    def sibling(self, suffix: str) -> Quarantine:
        """Another folder beside this one, under the same allowance."""
        folder, label = os.path.split(self.path)
        return Quarantine(folder, label + suffix, self._allowance)

    def close(self) -> None:
        self._sync_now()
        for stream in (self._manifest, self._ranges):
            if stream is not None:
                stream.close()
        if self._fd >= 0:
            files.close(self._fd)
        self._manifest = self._ranges = None
        self._fd = -1

    def keep_range(self, path: str, fd: int, offset: int, length: int) -> None:
        """Copies a byte range of an open file. Raises OSError (ENOSPC: the quarantine is full)."""
        self._open()
        self._take(length)
        assert self._ranges is not None
        position = files.fstat(self._ranges.fileno()).st_size
        digest = hashlib.sha256()
        done = 0
        while done < length and (data := files.pread(fd, min(_COPY_BYTES, length - done), offset + done)):
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
        st = files.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        size_bytes = st.st_size
        if self._allowance is not None or stat.S_ISDIR(st.st_mode):
            size_bytes = tree_bytes(files.beneath(parent_fd, name))
            self._take(size_bytes)
        shared = not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1
        line = {
            "kind": "entry", "path": path, "stored": item.decode(), "mode": f"{st.st_mode:o}", "uid": st.st_uid,
            "gid": st.st_gid, "size_bytes": size_bytes if stat.S_ISDIR(st.st_mode) else st.st_size,
            "mtime_ns": st.st_mtime_ns,
        }  # fmt: skip
        if st.st_dev == self._device and not shared:
            self._note(line, size_bytes)
            self.sync()
            files.rename(name, item, src_dir_fd=parent_fd, dst_dir_fd=self._fd)
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
            files.fsync(stream.fileno())
        files.syncfs(self._fd)
        self._dirty = False
        self._synced_s = time.monotonic()

    def _note(self, line: dict[str, Any], size: int) -> None:
        assert self._manifest is not None
        text = json.dumps({**line, "at_utc": datetime.now(UTC).isoformat()}).encode() + b"\n"
        write_all(self._manifest.fileno(), text, files.fstat(self._manifest.fileno()).st_size)
        self._dirty = True
        self.kept_items += 1
        self.kept_bytes += size

    def _take(self, size_bytes: int) -> None:
        if self._allowance is not None:
            self._allowance.take(size_bytes + _LINE_BYTES)

    def _open(self) -> None:
        if self._fd >= 0:
            return
        if self._allowance is not None:
            self._allowance.measure()
        os.makedirs(self.path, mode=0o700)
        self._fd = files.open(self.path, _DIR_FLAGS)
        lock_folder(self._fd)
        self._device = files.fstat(self._fd).st_dev
        self._manifest = open(os.path.join(self.path, MANIFEST), "xb", buffering=0)  # noqa: SIM115 - closed in `close`
        self._ranges = open(os.path.join(self.path, RANGES), "xb", buffering=0)  # noqa: SIM115 - closed in `close`
        parent = files.open(os.path.dirname(self.path), _DIR_FLAGS)
        try:
            files.fsync(parent)
        finally:
            files.close(parent)
        log.warning("resync: keeping what differs in %s", self.path)
