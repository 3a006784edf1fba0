"""Frames of the mirror stream: pure encoding and decoding, nothing else.

A frame is a 44-byte header and a payload; little endian. The checksum covers everything behind itself, payload first,
so that a sender computes the payload's part outside its critical section.

    u32 length | u32 crc32 | u16 op | u16 flags | u64 epoch | u64 seq | u64 fid | u64 offset | payload

Guarantee: any input either decodes to a frame of a known operation whose payload has the right shape, or raises
`WireError`; nothing else is raised and no more than `MAX_FRAME_BYTES` is ever asked for. Names are single path
components, so no frame can name anything outside the directory it refers to.

Limits: one frame carries at most 1 MiB of data; a directory entry's extended attributes must fit into one frame.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from mirror_agent.mirror.limits import (
    BLOCKS_PER_SUM,
    DIGEST_BYTES,
    MAX_FRAME_BYTES,
    MAX_NAME_BYTES,
    MAX_SYMLINK_BYTES,
    MAX_TEXT_BYTES,
    MAX_XATTR_VALUE_BYTES,
    MAX_XATTRS_TOTAL_BYTES,
)

PROTOCOL: Final = 2
Buffer = bytes | bytearray | memoryview


class WireError(ValueError):
    """Bytes that are no frame of this protocol. The stream they came from is closed."""


class Op(IntEnum):
    """What a frame asks for. 1-15 connection, 16-31 names, 32-47 data and attributes, 48-63 flush, 64-79 resync,
    80-95 verify (payloads in `verify_wire`), 96-111 answers."""

    HELLO = 1
    WELCOME = 2
    REFUSE = 3
    ATTACH = 4
    HEARTBEAT = 5
    EPOCH = 6
    LIVE = 7
    BYE = 8

    BIND = 16
    UNBIND = 17
    MAKE = 18
    LINK = 19
    REMOVE = 20
    RENAME = 21

    WRITE = 32
    SETATTR = 33
    FALLOCATE = 34
    SETXATTR = 35
    REMOVEXATTR = 36

    FSYNC = 48
    BARRIER = 49
    CHECKPOINT = 50

    RESYNC = 64
    DIR_BEGIN = 65
    ENSURE = 66
    DIR_END = 67
    STASH = 68
    SUM = 69
    FILL = 70
    SETTLED = 71
    KEEP = 72

    NAMES = 80
    CHECK = 81
    COMPARE = 82
    PATCH = 83
    VERDICT = 84

    ACK = 96
    DONE = 97
    NAK = 98
    DIFFERENT = 99
    PULSE = 100
    FOUND = 101
    CANDIDATES = 102


_OPS: Final = frozenset(int(op) for op in Op)

# Flags: WAITED = somebody waits for this frame's acknowledgement, so it is sent at once; SYNC = flushed before DONE;
# ALONE = nobody else was waiting, so the flush need not make room for others; REPAIR = what differs is made equal
# (after it was kept); SURE = nothing can have changed meanwhile, so a difference is one; WRITTEN_ONLY = a SUM that
# leaves out what was not written since the checkpoint.
WAITED: Final = 1 << 0
SYNC: Final = 1 << 1
DATA_ONLY: Final = 1 << 2
DIRECTORY: Final = 1 << 3
LAST_LINK: Final = 1 << 4
FINAL: Final = 1 << 5
ALONE: Final = 1 << 6
REPAIR: Final = 1 << 7
SURE: Final = 1 << 8
WRITTEN_ONLY: Final = 1 << 9

PREFIX: Final = struct.Struct("<II")
REST: Final = struct.Struct("<HHQQQQ")
HEADER: Final = struct.Struct("<IIHHQQQQ")
HEADER_BYTES: Final = HEADER.size
assert HEADER_BYTES == PREFIX.size + REST.size == 44

SET_MODE: Final = 1 << 0
SET_UID: Final = 1 << 1
SET_GID: Final = 1 << 2
SET_SIZE: Final = 1 << 3
SET_ATIME: Final = 1 << 4
SET_MTIME: Final = 1 << 5

_SETATTR: Final = struct.Struct("<IIIIQqq")
_FALLOCATE: Final = struct.Struct("<QI")
_RENAME: Final = struct.Struct("<QIQQH")
_ATTRS: Final = struct.Struct("<IIIIQqQ")
_SIZES: Final = struct.Struct("<HHI")
_XATTR: Final = struct.Struct("<HI")
_SUM: Final = struct.Struct("<Q")
_SETTLED: Final = struct.Struct("<Qq")
_SPACE: Final = struct.Struct("<QQQQ")
_KEEP: Final = struct.Struct("<HIQq")


# No file system has longer files, and what is computed with a position still fits the system calls (found by fuzzing).
POSITION_MAX: Final = 1 << 62


class Frame(NamedTuple):
    """A decoded frame; `payload` is a view into the receive buffer, valid until the next read."""

    op: int
    flags: int
    epoch: int
    seq: int
    fid: int
    offset: int
    payload: memoryview
    size: int


def head(op: int, flags: int, epoch: int, seq: int, fid: int, offset: int, size: int, payload_crc: int) -> bytes:
    """The header of a frame whose payload has `size` bytes and the CRC-32 `payload_crc`."""
    rest = REST.pack(op, flags, epoch, seq, fid, offset)
    return PREFIX.pack(HEADER_BYTES + size, zlib.crc32(rest, payload_crc)) + rest


def encode(
    op: int, *, flags: int = 0, epoch: int, seq: int = 0, fid: int = 0, offset: int = 0, data: Buffer = b""
) -> bytes:
    return head(op, flags, epoch, seq, fid, offset, len(data), zlib.crc32(data)) + bytes(data)


def decode(buffer: memoryview, start: int, end: int) -> Frame | None:
    """The frame that begins at `start`, or None while bytes are missing. Raises `WireError`."""
    if end - start < HEADER_BYTES:
        return None
    length, crc, op, flags, epoch, seq, fid, offset = HEADER.unpack_from(buffer, start)
    if not HEADER_BYTES <= length <= MAX_FRAME_BYTES:
        raise WireError(f"frame length {length} is outside {HEADER_BYTES}..{MAX_FRAME_BYTES}")
    if op not in _OPS:
        raise WireError(f"frame operation {op} is unknown")
    if offset > POSITION_MAX:
        raise WireError(f"position {offset} of frame seq {seq}, operation {op}, is beyond {POSITION_MAX}")
    if end - start < length:
        return None
    payload = buffer[start + HEADER_BYTES : start + length]
    if zlib.crc32(buffer[start + 8 : start + HEADER_BYTES], zlib.crc32(payload)) != crc:
        raise WireError(f"checksum of frame seq {seq}, operation {op} is wrong")
    return Frame(op, flags, epoch, seq, fid, offset, payload, length)


def wanted(buffer: memoryview, filled: int) -> int:
    """How many bytes must be there before the first frame is whole, as far as that is known and allowed."""
    if filled < 4:
        return HEADER_BYTES
    return min(int.from_bytes(buffer[:4], "little"), MAX_FRAME_BYTES)


def name_of(data: Buffer) -> bytes:
    """A single path component. Raises `WireError` for anything that could leave its directory."""
    name = bytes(data)
    if not 0 < len(name) <= MAX_NAME_BYTES or b"/" in name or b"\0" in name or name in (b".", b".."):
        raise WireError(f"{name[:64]!r} is no name of a directory entry")
    return name


def _unpack(layout: struct.Struct, data: memoryview, what: str, *, exact: bool = True) -> tuple[Any, ...]:
    if len(data) < layout.size or (exact and len(data) != layout.size):
        raise WireError(f"{what} of {len(data)} bytes, expected {layout.size}")
    return layout.unpack_from(data, 0)


class SetAttr(NamedTuple):
    """`valid` says which fields count; times in nanoseconds."""

    valid: int
    mode: int
    uid: int
    gid: int
    size: int
    atime_ns: int
    mtime_ns: int


def setattr_payload(change: SetAttr) -> bytes:
    return _SETATTR.pack(*change)


def parse_setattr(data: memoryview) -> SetAttr:
    change = SetAttr(*_unpack(_SETATTR, data, "SETATTR"))
    if change.size >= 1 << 63:
        raise WireError(f"size {change.size} is no file size")
    return change


def fallocate_payload(length: int, mode: int) -> bytes:
    return _FALLOCATE.pack(length, mode)


def parse_fallocate(data: memoryview) -> tuple[int, int]:
    length, mode = _unpack(_FALLOCATE, data, "FALLOCATE")
    if length >= 1 << 63:
        raise WireError(f"length {length} is no file range")
    return length, mode


class Rename(NamedTuple):
    """The frame's fid is the inode that moves, its offset the old directory; `victim` (or 0) is replaced."""

    new_parent: int
    flags: int
    victim: int
    victim_flags: int
    name: bytes
    new_name: bytes


def rename_payload(move: Rename) -> bytes:
    return (
        _RENAME.pack(move.new_parent, move.flags, move.victim, move.victim_flags, len(move.name))
        + move.name
        + move.new_name
    )


def parse_rename(data: memoryview) -> Rename:
    new_parent, flags, victim, victim_flags, size = _unpack(_RENAME, data, "RENAME", exact=False)
    names = data[_RENAME.size :]
    return Rename(new_parent, flags, victim, victim_flags, name_of(names[:size]), name_of(names[size:]))


class Entry(NamedTuple):
    """Everything about an inode but its data: for MAKE and ENSURE (fid = the inode, offset = its directory)."""

    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    mtime_ns: int
    links: int
    name: bytes
    target: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]


def entry_payload(entry: Entry) -> bytes:
    attributes = b"".join(_XATTR.pack(len(key), len(value)) + key + value for key, value in entry.xattrs)
    return b"".join(
        (
            _ATTRS.pack(entry.mode, entry.uid, entry.gid, entry.rdev, entry.size, entry.mtime_ns, entry.links),
            _SIZES.pack(len(entry.name), len(entry.target), len(attributes)),
            entry.name,
            entry.target,
            attributes,
        )
    )


def _parse_xattrs(data: memoryview) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    position = 0
    while position < len(data):
        key_size, value_size = _unpack(_XATTR, data[position:], "extended attribute", exact=False)
        position += _XATTR.size
        if key_size == 0 or value_size > MAX_XATTR_VALUE_BYTES or position + key_size + value_size > len(data):
            raise WireError(f"extended attribute of {key_size}+{value_size} bytes does not fit its frame")
        key = bytes(data[position : position + key_size])
        position += key_size
        found.append((xattr_name(key), bytes(data[position : position + value_size])))
        position += value_size
    return tuple(found)


def xattr_name(key: Buffer) -> bytes:
    name = bytes(key)
    if not 0 < len(name) <= MAX_NAME_BYTES or b"\0" in name:
        raise WireError(f"{name[:64]!r} is no name of an extended attribute")
    return name


def parse_entry(data: memoryview) -> Entry:
    mode, uid, gid, rdev, size, mtime_ns, links = _unpack(_ATTRS, data, "entry", exact=False)
    sizes = data[_ATTRS.size :]
    name_size, target_size, xattrs_size = _unpack(_SIZES, sizes, "entry", exact=False)
    rest = sizes[_SIZES.size :]
    if name_size + target_size + xattrs_size != len(rest) or target_size > MAX_SYMLINK_BYTES:
        raise WireError(f"entry of {len(rest)} bytes does not hold {name_size}+{target_size}+{xattrs_size}")
    if size >= 1 << 63 or xattrs_size > MAX_XATTRS_TOTAL_BYTES:
        raise WireError(f"entry with size {size} and {xattrs_size} bytes of attributes is outside the limits")
    target = bytes(rest[name_size : name_size + target_size])
    if b"\0" in target:
        raise WireError("a symbolic link's target contains NUL")
    return Entry(
        mode,
        uid,
        gid,
        rdev,
        size,
        mtime_ns,
        links,
        name_of(rest[:name_size]),
        target,
        _parse_xattrs(rest[name_size + target_size :]),
    )


def setxattr_payload(flags: int, key: bytes, value: Buffer) -> bytes:
    return _XATTR.pack(len(key), flags) + key + bytes(value)


def parse_setxattr(data: memoryview) -> tuple[int, bytes, bytes]:
    key_size, flags = _unpack(_XATTR, data, "SETXATTR", exact=False)
    rest = data[_XATTR.size :]
    if len(rest) < key_size or len(rest) - key_size > MAX_XATTR_VALUE_BYTES:
        raise WireError(f"SETXATTR of {len(rest)} bytes does not hold a name of {key_size}")
    return flags, xattr_name(rest[:key_size]), bytes(rest[key_size:])


def sum_payload(size: int, digests: Sequence[bytes]) -> bytes:
    """SUM: the file's size, and one digest for each block from the frame's offset on."""
    return _SUM.pack(size) + b"".join(digests)


def parse_sum(data: memoryview) -> tuple[int, list[bytes]]:
    (size,) = _unpack(_SUM, data, "SUM", exact=False)
    digests = data[_SUM.size :]
    if len(digests) % DIGEST_BYTES or len(digests) > BLOCKS_PER_SUM * DIGEST_BYTES or size >= 1 << 63:
        raise WireError(f"SUM with {len(digests)} bytes of digests for a file of {size} bytes")
    return size, [bytes(digests[at : at + DIGEST_BYTES]) for at in range(0, len(digests), DIGEST_BYTES)]


def different_payload(blocks: Sequence[int]) -> bytes:
    """DIFFERENT: indexes of differing blocks, counted from the SUM frame's offset."""
    return struct.pack(f"<{len(blocks)}H", *blocks)


def parse_different(data: memoryview) -> list[int]:
    if len(data) % 2 or len(data) // 2 > BLOCKS_PER_SUM:
        raise WireError(f"DIFFERENT of {len(data)} bytes")
    blocks = list(struct.unpack(f"<{len(data) // 2}H", data))
    if any(block >= BLOCKS_PER_SUM for block in blocks):
        raise WireError("DIFFERENT names a block beyond its SUM")
    return blocks


def settled_payload(size: int, mtime_ns: int) -> bytes:
    return _SETTLED.pack(size, mtime_ns)


def parse_settled(data: memoryview) -> tuple[int, int]:
    size, mtime_ns = _unpack(_SETTLED, data, "SETTLED")
    if size >= 1 << 63:
        raise WireError(f"size {size} is no file size")
    return size, mtime_ns


class Unchanged(NamedTuple):
    """An entry that need not be compared, and what it must look like then."""

    name: bytes
    mode: int
    size: int
    mtime_ns: int


def keep_payload(entries: Sequence[Unchanged]) -> bytes:
    """KEEP: entries of the directory `fid` that did not change."""
    return b"".join(_KEEP.pack(len(one.name), one.mode, one.size, one.mtime_ns) + one.name for one in entries)


def parse_keep(data: memoryview) -> list[Unchanged]:
    found = []
    position = 0
    while position < len(data):
        name_size, mode, size, mtime_ns = _unpack(_KEEP, data[position:], "KEEP", exact=False)
        position += _KEEP.size
        found.append(Unchanged(name_of(data[position : position + name_size]), mode, size, mtime_ns))
        position += name_size
    return found


@dataclass(frozen=True)
class Space:
    """Free room of one root on the replica: blocks in units of 4 KiB, and inodes."""

    free_blocks: int
    available_blocks: int
    free_files: int
    available_files: int


def pulse_payload(spaces: Sequence[Space]) -> bytes:
    return b"".join(
        _SPACE.pack(space.free_blocks, space.available_blocks, space.free_files, space.available_files)
        for space in spaces
    )


def standing_field(seconds: float | None) -> int:
    """How long the replica's work has stood still, for the `fid` of a PULSE: 0 nothing to tell, else 1 + ms."""
    return 0 if seconds is None else 1 + int(seconds * 1000)


def standing_of(field: int) -> float | None:
    """The inverse of `standing_field`."""
    return None if field == 0 else (field - 1) / 1000


def parse_pulse(data: memoryview) -> list[Space]:
    if len(data) % _SPACE.size or len(data) > 16 * _SPACE.size:
        raise WireError(f"PULSE of {len(data)} bytes")
    return [Space(*_SPACE.unpack_from(data, at)) for at in range(0, len(data), _SPACE.size)]


def text_payload(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:MAX_TEXT_BYTES]


def parse_text(data: memoryview) -> str:
    return bytes(data[:MAX_TEXT_BYTES]).decode("utf-8", "replace")


def json_payload(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def parse_json(data: memoryview, required: dict[str, type[Any] | tuple[type[Any], ...]]) -> dict[str, Any]:
    """A handshake document with exactly these keys of these types. Raises `WireError`."""
    try:
        document = json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise WireError(f"handshake is no JSON: {error}") from None
    if not isinstance(document, dict) or set(document) != set(required):
        raise WireError(f"handshake must have the keys {sorted(required)}")
    for key, kind in required.items():
        if not isinstance(document[key], kind):
            raise WireError(f"handshake: {key} is {document[key]!r}")
    return document
