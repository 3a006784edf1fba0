"""The quarantine directory as a whole: what is in it, taking something out again, and its limits of size and age.

One folder per resync (`<UTC time>-epoch<n>-<stream>`). Its `manifest.jsonl` has one JSON object per kept thing:

    kind "range": path, offset, length, stored ("ranges.bin"), stored_offset, sha256, at_utc
    kind "entry": path, stored (item in the folder), mode (octal), uid, gid, size_bytes, mtime_ns, at_utc

Guarantees: a restore changes nothing that is kept and overwrites nothing; a range with a wrong digest is refused.
The folder being written is locked (flock) and is neither deleted nor removed by the limits, by whichever process.
Room is made by removing the oldest folders, but none younger than `YOUNG_S`: a resync that fails and begins again must
not push out what its own first attempt kept. What does not fit then is an error, and the resync stops.

Limits: the last line of a manifest may be torn after a power cut; it is left out, and the folder says so.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
from dataclasses import dataclass
from typing import Any, Final

from mirror_agent.mirror import files
from mirror_agent.mirror.tree_copy import copy_entry, remove_entry, tree_bytes

MANIFEST: Final = "manifest.jsonl"
RANGES: Final = "ranges.bin"
YOUNG_S: Final = 24 * 3600.0
_DIR_FLAGS: Final = files.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC
_RANGE_BYTES_MAX: Final = 1024 * 1024


class QuarantineError(Exception):
    """The quarantine cannot do what was asked; the message names what, where and the remedy."""


@dataclass(frozen=True)
class Kept:
    """One kept thing. `id` is "<folder>/<line number>", the handle for `restore`."""

    id: str
    kind: str
    path: str
    at_utc: str
    size_bytes: int
    offset: int = 0
    stored: str = ""
    stored_offset: int = 0
    sha256: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0


@dataclass(frozen=True)
class Folder:
    """What one resync kept. `busy`: it is being written now. `torn`: its manifest ends in the middle of a line."""

    name: str
    age_s: float
    size_bytes: int
    kept: tuple[Kept, ...]
    busy: bool
    torn: bool


def folders(directory: str) -> list[Folder]:
    """All folders, oldest first; none if nothing was ever kept."""
    return [_folder(directory, name) for name in _names(directory)]


def entries(directory: str) -> list[Kept]:
    """Everything that is kept, oldest first."""
    return [kept for folder in folders(directory) for kept in folder.kept]


def restore(directory: str, kept_id: str, target: str) -> Kept:
    """Writes one kept thing to `target`, which must not exist: an entry with all below it, owner, mode, times and
    attributes; of a range the bytes alone (they belong at `offset` of `path`). Raises `QuarantineError`, OSError."""
    name, _, number = kept_id.rpartition("/")
    if name not in _names(directory) or not number.isdigit():
        raise QuarantineError(f"{kept_id!r} is not in {directory}; `list` shows what is there")
    folder = _folder(directory, name)
    kept = next((kept for kept in folder.kept if kept.id == kept_id), None)
    if kept is None:
        raise QuarantineError(f"{kept_id!r} is not in the manifest of {name}; `list` shows what is there")
    if os.path.lexists(target):
        raise QuarantineError(f"{target} exists; nothing is overwritten, give another path")
    if kept.kind == "range":
        _restore_range(os.path.join(directory, name, kept.stored), kept, target)
    else:
        _restore_entry(os.path.join(directory, name), kept, target)
    return kept


def delete(directory: str, name: str) -> None:
    """Removes one folder for good. Raises `QuarantineError` if it is unknown or being written."""
    if name not in _names(directory):
        raise QuarantineError(f"{name!r} is not in {directory}; `list` shows what is there")
    if _busy(os.path.join(directory, name)):
        raise QuarantineError(f"{name} is being written by a resync; wait for its end")
    parent = files.open(directory, _DIR_FLAGS)
    try:
        remove_entry(parent, os.fsencode(name))
        files.fsync(parent)
    finally:
        files.close(parent)


class Allowance:
    """How much one quarantine directory may hold. `used_bytes` is measured once and then counted along."""

    def __init__(self, directory: str, *, max_bytes: int, max_age_s: float) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self.used_bytes = 0
        self.full: str | None = None
        self.removed: list[str] = []

    def measure(self) -> None:
        """At the start of a resync: what is too old goes; the rest is counted."""
        self.used_bytes = 0
        for name in _names(self._directory):
            path = os.path.join(self._directory, name)
            if _age_s(path) > self._max_age_s and not _busy(path):
                self._remove(name)
            else:
                self.used_bytes += tree_bytes(path)

    def take(self, size_bytes: int) -> None:
        """Room for so many bytes more, by removing the oldest folders if need be. Raises OSError ENOSPC."""
        if self.used_bytes + size_bytes > self._max_bytes:
            self._make_room(size_bytes)
        self.used_bytes += size_bytes

    def _make_room(self, size_bytes: int) -> None:
        for name in _names(self._directory):
            path = os.path.join(self._directory, name)
            if self.used_bytes + size_bytes <= self._max_bytes or _age_s(path) < YOUNG_S:
                break
            if not _busy(path):
                self.used_bytes -= tree_bytes(path)
                self._remove(name)
        if self.used_bytes + size_bytes > self._max_bytes:
            self.full = (
                f"quarantine {self._directory} is full: {self.used_bytes} of {self._max_bytes} bytes, {size_bytes} "
                "more needed; restore or delete folders (mirrorctl mirror quarantine), or raise "
                "limits.quarantine_max_bytes"
            )
            raise OSError(errno.ENOSPC, self.full)

    def _remove(self, name: str) -> None:
        delete(self._directory, name)
        self.removed.append(name)


def lock_folder(fd: int) -> None:
    """Marks an open folder as being written, until the descriptor is closed or its process ends."""
    files.try_lock(fd)


def _names(directory: str) -> list[str]:
    """Folders by their time of creation: their names begin with it."""
    try:
        found = sorted(files.listdir(directory))
    except FileNotFoundError:
        return []
    return [name for name in found if stat.S_ISDIR(files.lstat(os.path.join(directory, name)).st_mode)]


def _age_s(path: str) -> float:
    """By the manifest's last change, or the folder's."""
    manifest = os.path.join(path, MANIFEST)
    st = files.lstat(manifest if os.path.exists(manifest) else path)
    return max(0.0, time.time() - st.st_mtime_ns / 1e9)


def _busy(path: str) -> bool:
    fd = files.open(path, _DIR_FLAGS)
    try:
        files.try_lock(fd)
    except BlockingIOError:
        return True
    finally:
        files.close(fd)
    return False


def _folder(directory: str, name: str) -> Folder:
    path = os.path.join(directory, name)
    kept, torn = _manifest(path, name)
    return Folder(name, _age_s(path), tree_bytes(path), tuple(kept), _busy(path), torn)


def _manifest(path: str, name: str) -> tuple[list[Kept], bool]:
    try:
        with open(os.path.join(path, MANIFEST), encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.read().split("\n")
    except FileNotFoundError:
        return [], False
    found: list[Kept] = []
    for number, line in enumerate(lines):
        if not line:
            continue
        try:
            found.append(_kept(f"{name}/{number}", json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) - 1:
                return found, True
            raise QuarantineError(f"{path}/{MANIFEST}: line {number + 1} cannot be read: {error}") from error
    return found, False


def _kept(kept_id: str, line: dict[str, Any]) -> Kept:
    if line["kind"] == "range":
        return Kept(
            kept_id, "range", line["path"], line["at_utc"], line["length"], offset=line["offset"],
            stored=line["stored"], stored_offset=line["stored_offset"], sha256=line["sha256"],
        )  # fmt: skip
    if line["kind"] != "entry":
        raise ValueError(f"kind {line['kind']!r} is unknown")
    return Kept(
        kept_id, "entry", line["path"], line["at_utc"], line["size_bytes"], stored=line["stored"],
        mode=int(line["mode"], 8), uid=line["uid"], gid=line["gid"], mtime_ns=line["mtime_ns"],
    )  # fmt: skip


def _restore_range(ranges: str, kept: Kept, target: str) -> None:
    with open(ranges, "rb") as source:
        if kept.size_bytes > _RANGE_BYTES_MAX:
            raise QuarantineError(f"{kept.id}: a range of {kept.size_bytes} bytes is not one this node writes")
        data = files.pread(source.fileno(), kept.size_bytes, kept.stored_offset)
    if hashlib.sha256(data).hexdigest() != kept.sha256:
        raise QuarantineError(f"{kept.id}: what {ranges} holds is not what was kept (SHA-256 differs); not restored")
    with open(target, "xb") as stream:
        stream.write(data)
        stream.flush()
        files.fsync(stream.fileno())


def _restore_entry(folder: str, kept: Kept, target: str) -> None:
    if not os.path.lexists(os.path.join(folder, kept.stored)):
        # The line is written before the entry is moved; a crash in between leaves the entry where it was.
        raise QuarantineError(f"{kept.id}: {kept.stored} was not moved here; look for it at {kept.path}")
    source = files.open(folder, _DIR_FLAGS)
    try:
        parent = files.open(os.path.dirname(os.path.abspath(target)), _DIR_FLAGS)
        try:
            copy_entry(source, os.fsencode(kept.stored), parent, os.fsencode(os.path.basename(target)))
            files.fsync(parent)
        finally:
            files.close(parent)
    finally:
        files.close(source)
