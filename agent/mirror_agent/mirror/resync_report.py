"""What the replica finds changed in its own tree since a checkpoint, and how it tells the serving node.

Scan: every directory is listed and every entry looked at (about 400,000 per second). Reported are entries that may have
changed, all names of a directory that may have changed, and directories that were renamed. Paths are those of the scan;
they are only compared with paths the serving node arrived at through directories that were not renamed.

    frame: FOUND-like answer CANDIDATES, fid = root, offset 1 = too much to report, flag FINAL = the last one
    payload: records  u8 kind | u32 length | bytes     kind DIRECTORY, RENAMED or CHANGED begins one, by its path;
                      NAME, FILE or FOLDER follows: an unchanged name of a CHANGED directory, a changed entry

Limits: `REPORT_BYTES_MAX`; beyond it everything is compared.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from mirror_agent.mirror.dirty_log import LogContent
from mirror_agent.mirror.inodes import Root
from mirror_agent.mirror.tree_scan import Listing, walk
from mirror_agent.mirror.wire import WireError

REPORT_BYTES_MAX: Final = 64 * 1024 * 1024
_FRAME_BYTES: Final = 32 * 1024
_PATH_BYTES_MAX: Final = 16 * 1024
_HEAD: Final = struct.Struct("<BI")


class Item(IntEnum):
    DIRECTORY = 1
    CHANGED = 2
    RENAMED = 3
    NAME = 4
    FILE = 5
    FOLDER = 6


_KINDS: Final = frozenset(int(item) for item in Item)
_BEGINS: Final = frozenset({Item.DIRECTORY, Item.CHANGED, Item.RENAMED})


@dataclass(frozen=True)
class Known:
    """What a node knows of its own changes since a checkpoint. Files are (index of the directory, inode number)."""

    floor_ns: int
    content: LogContent

    def changed(self, root: int, st: os.stat_result) -> bool:
        return st.st_ctime_ns >= self.floor_ns or (root, st.st_ino) in self.content.overwritten

    def renamed(self, root: int, st: os.stat_result) -> bool:
        return (root, st.st_ino) in self.content.moved


@dataclass
class DirectoryReport:
    """One directory of the replica. `names`: all of them, if they may have changed."""

    renamed: bool = False
    names: set[bytes] | None = None
    files: set[bytes] = field(default_factory=set)
    folders: set[bytes] = field(default_factory=set)


NOTHING: Final = DirectoryReport()


def missing(report: DirectoryReport, name: bytes) -> bool:
    """Whether the replica is known not to have this name."""
    return report.names is not None and name not in report.names


@dataclass
class Report:
    """What the replica found, by root (fid) and path. `too_much`: it gave up, everything counts as changed."""

    found: dict[tuple[int, bytes], DirectoryReport] = field(default_factory=dict)
    too_much: bool = False

    def of(self, fid: int, path: bytes) -> DirectoryReport:
        return self.found.get((fid, path), NOTHING)

    def take(self, fid: int, payload: memoryview) -> None:
        """One frame of it. Raises `WireError`."""
        at = 0
        current: DirectoryReport | None = None
        while at < len(payload):
            if len(payload) - at < _HEAD.size:
                raise WireError("a candidate record ends in its head")
            kind, length = _HEAD.unpack_from(payload, at)
            at += _HEAD.size
            data = bytes(payload[at : at + length])
            at += length
            if len(data) != length or kind not in _KINDS:
                raise WireError(f"a candidate record of kind {kind} with {length} bytes does not fit its frame")
            if kind in _BEGINS:
                current = self.found.setdefault((fid, data), DirectoryReport())
                current.renamed = current.renamed or kind == Item.RENAMED
                if kind != Item.DIRECTORY and current.names is None:
                    current.names = set()
            elif current is None:
                raise WireError("a candidate record belongs to no directory")
            else:
                _add(current, Item(kind), data)


def _add(report: DirectoryReport, kind: Item, name: bytes) -> None:
    if report.names is not None:
        report.names.add(name)
    if kind == Item.FILE:
        report.files.add(name)
    elif kind == Item.FOLDER:
        report.folders.add(name)


def _record(kind: Item, data: bytes) -> bytes:
    return _HEAD.pack(kind, len(data)) + data


class TooMuch(Exception):
    """The report would be longer than `REPORT_BYTES_MAX`."""


def report_frames(root: Root, known: Known, tick: Callable[[], None]) -> Iterator[bytes]:
    """Payloads for one root. Raises `TooMuch`, OSError."""
    return frames_of(root.index, walk(root.fd), known, tick)


def frames_of(index: int, listings: Iterable[Listing], known: Known, tick: Callable[[], None]) -> Iterator[bytes]:
    """Payloads for the listings of one root. `tick` is called after every directory, so that a long scan can say it
    lives. Raises `TooMuch`."""
    parts: list[bytes] = []
    size = total = 0
    for listing in listings:
        tick()
        head, items = _items(index, listing, known)
        if head is None:
            continue
        if len(listing.path) > _PATH_BYTES_MAX:
            raise TooMuch
        begin = _record(head, listing.path)
        for record in (begin, *items):
            if size > _FRAME_BYTES:
                total += size
                if total > REPORT_BYTES_MAX:
                    raise TooMuch
                yield b"".join(parts)
                # A directory that goes on in the next frame begins again there.
                parts = [] if record is begin else [begin]
                size = sum(map(len, parts))
            parts.append(record)
            size += len(record)
    if parts:
        yield b"".join(parts)


def _items(root: int, listing: Listing, known: Known) -> tuple[Item | None, list[bytes]]:
    """How the directory is reported (None: not at all) and its records."""
    changed = known.changed(root, listing.own)
    head = Item.RENAMED if known.renamed(root, listing.own) else Item.CHANGED if changed else Item.DIRECTORY
    items = []
    for name, st in listing.entries:
        if known.changed(root, st) or known.renamed(root, st):
            items.append(_record(Item.FOLDER if stat.S_ISDIR(st.st_mode) else Item.FILE, name))
        elif head is not Item.DIRECTORY:
            items.append(_record(Item.NAME, name))
    return (None if head is Item.DIRECTORY and not items else head), items
