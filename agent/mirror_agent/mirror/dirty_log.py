"""The dirty log: what a serving node changed since a checkpoint, as far as change times alone would not tell.

Fixed records behind a header that names the boot; each has a checksum. Two strengths:
- OVERWRITTEN (a file whose present content is about to change) and MOVED (a directory about to be renamed) are on disk
  before the change is made (`durable`). They hold after a power cut.
- NAMED (a file got, lost or changed a name), ZONE and TAIL (what was written, in units of 64 KiB) are written before
  the change but not flushed: they hold as long as the machine was not booted anew, also when the process was killed.
OVERFLOW says that ranges were not noted any more.

Reading: an incomplete record at the very end was never relied on. After a boot the unflushed end may be damaged, and
reading stops there; a durable record behind damage, or damage without a boot, breaks the chain (`broken`).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from mirror_agent.mirror import files
from mirror_agent.mirror.limits import BLOCK_BYTES

ZONE_BYTES: Final = BLOCK_BYTES
_HEADER: Final = struct.Struct("<8s36sI")
_MAGIC: Final = b"MPDIRTY1"
_RECORD: Final = struct.Struct("<IBBHQQ")
_BODY: Final = struct.Struct("<BBHQQ")
# Read within a handshake: 350,000 records, about half a second.
LOG_BYTES_MAX: Final = 8 * 1024 * 1024

File = tuple[int, int]


class Note(IntEnum):
    OVERWRITTEN = 1
    MOVED = 2
    NAMED = 3
    ZONE = 4
    TAIL = 5
    OVERFLOW = 6


_DURABLE: Final = frozenset({Note.OVERWRITTEN, Note.MOVED})
_NOTES: Final = frozenset(int(note) for note in Note)


@dataclass
class LogContent:
    """What one log, or several in a row, say. Files are (index of the replicated directory, inode number)."""

    boots: set[str] = field(default_factory=set)
    overwritten: set[File] = field(default_factory=set)
    moved: set[File] = field(default_factory=set)
    named: set[File] = field(default_factory=set)
    zones: dict[File, set[int]] = field(default_factory=dict)
    tails: dict[File, int] = field(default_factory=dict)
    overflow: bool = False
    broken: str = ""

    def exact(self, boot: str) -> bool:
        """All that was written is here, not only which files."""
        return not self.broken and not self.overflow and self.boots <= {boot}

    def take(self, note: Note, file: File, number: int) -> None:
        match note:
            case Note.OVERWRITTEN:
                self.overwritten.add(file)
            case Note.MOVED:
                self.moved.add(file)
            case Note.NAMED:
                self.named.add(file)
            case Note.ZONE:
                self.zones.setdefault(file, set()).add(number)
            case Note.TAIL:
                self.tails[file] = min(number, self.tails.get(file, number))
            case Note.OVERFLOW:
                self.overflow = True

    @staticmethod
    def united(contents: list[LogContent]) -> LogContent:
        whole = LogContent()
        for one in contents:
            whole.boots |= one.boots
            whole.overwritten |= one.overwritten
            whole.moved |= one.moved
            whole.named |= one.named
            for file, zones in one.zones.items():
                whole.zones.setdefault(file, set()).update(zones)
            for file, tail in one.tails.items():
                whole.tails[file] = min(tail, whole.tails.get(file, tail))
            whole.overflow = whole.overflow or one.overflow
            whole.broken = whole.broken or one.broken
        return whole


class DirtyLog:
    """One log being written, by one process at a time; calls are serialised by the caller."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.size_bytes = _HEADER.size
        self._fd = fd

    @classmethod
    def create(cls, path: str, boot: str) -> DirtyLog:
        """A new, empty, flushed log. Raises OSError."""
        fd = files.open(path, files.O_WRONLY | files.O_CREAT | files.O_EXCL | files.O_APPEND | files.O_CLOEXEC, 0o600)
        name = boot.encode("ascii")
        files.write(fd, _HEADER.pack(_MAGIC, name, zlib.crc32(_MAGIC + name.ljust(36, b"\0"))))
        files.fsync(fd)
        return cls(path, fd)

    def add(self, notes: list[tuple[Note, File, int]], *, durable: bool) -> None:
        """Appends the records at once; flushed when `durable`. Raises OSError: nothing may be relied on then."""
        data = b"".join(_encode(note, file, number) for note, file, number in notes)
        if files.write(self._fd, data) != len(data):
            raise OSError(f"{self.path}: a record was not written as a whole")
        self.size_bytes += len(data)
        if durable:
            files.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            files.close(self._fd)
            self._fd = -1


def _encode(note: Note, file: File, number: int) -> bytes:
    body = _BODY.pack(note, file[0], 0, file[1], number)
    return struct.pack("<I", zlib.crc32(body)) + body


def read_log(path: str, boot: str) -> LogContent:
    """What a log says to a node that now runs in `boot`; `broken` names why it cannot be relied on."""
    content = LogContent()
    try:
        with open(path, "rb") as stream:
            data = stream.read(LOG_BYTES_MAX + 1)
    except OSError as error:
        content.broken = f"it cannot be read: {error}"
        return content
    if len(data) > LOG_BYTES_MAX:
        content.broken = f"it has more than {LOG_BYTES_MAX} bytes"
        return content
    if len(data) < _HEADER.size:
        content.broken = "its header is missing"
        return content
    magic, name, crc = _HEADER.unpack_from(data, 0)
    if magic != _MAGIC or crc != zlib.crc32(magic + name):
        content.broken = "its header is damaged"
        return content
    own_boot = name.rstrip(b"\0").decode("ascii", "replace")
    content.boots.add(own_boot)
    damaged_at = 0
    for at in range(_HEADER.size, len(data) - _RECORD.size + 1, _RECORD.size):
        crc, kind, root, _, ino, number = _RECORD.unpack_from(data, at)
        if crc != zlib.crc32(data[at + 4 : at + _RECORD.size]) or kind not in _NOTES:
            damaged_at = damaged_at or at
        elif not damaged_at:
            content.take(Note(kind), (root, ino), number)
        elif Note(kind) in _DURABLE:
            content.broken = f"the record at byte {damaged_at} is damaged, and later ones were relied on"
    if damaged_at and own_boot == boot:
        content.broken = f"the record at byte {damaged_at} is damaged although the machine was not booted anew"
    return content
