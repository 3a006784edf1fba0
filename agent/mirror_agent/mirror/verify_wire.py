"""What the frames of a verify carry: the names of a directory, what the replica found, and the verdict at the end.

    NAMES    fid = directory; payload: u8 length, name, ... (several frames, the last with FINAL); REPAIR
    CHECK    fid = inode, offset = its directory (0: a root); payload: an entry as in MAKE; REPAIR
    COMPARE  fid, offset; payload: as SUM; SURE: compared in the order of the stream, otherwise when there is time
    PATCH    fid, offset; payload: the data; what differs from it is kept, then replaced
    VERDICT  payload: JSON, see `Verdict`
    FOUND    seq = of the question; payload: JSON list of findings; a frame without differences has an empty one

Any input either decodes or raises `WireError`. Names are bytes; in JSON they are written as Python's surrogateescape.
Limits: one FOUND carries at most `MAX_FINDINGS` findings; the last one then says how many more there were.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from mirror_agent.mirror import wire
from mirror_agent.mirror.limits import BLOCKS_PER_SUM, MAX_FRAME_BYTES, MAX_NAME_BYTES
from mirror_agent.mirror.wire import Buffer, WireError

MAX_FINDINGS: Final = 32
MAX_DETAIL_CHARS: Final = 200
# A NAMES frame; more names come in further frames.
NAMES_FRAME_BYTES: Final = 256 * 1024
_MAX_FOUND_BYTES: Final = 128 * 1024
# Worst case in JSON: every byte of a name becomes six characters, every character of a detail twelve.
assert MAX_FINDINGS * (6 * MAX_NAME_BYTES + 12 * MAX_DETAIL_CHARS + 64) < _MAX_FOUND_BYTES
assert NAMES_FRAME_BYTES + MAX_NAME_BYTES + 1 < MAX_FRAME_BYTES


class Kind(StrEnum):
    """In what the replica differs. `identity`: under this name lies another inode than the one that takes the changes;
    `links`: other hard links; `unreadable`: it could not be compared there, for the reason in the detail."""

    MISSING = "missing"
    EXTRA = "extra"
    TYPE = "type"
    MODE = "mode"
    OWNER = "owner"
    TIME = "time"
    XATTR = "xattr"
    IDENTITY = "identity"
    LINKS = "links"
    TARGET = "target"
    DEVICE = "device"
    SIZE = "size"
    CONTENT = "content"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Finding:
    """One difference in the replica. `block` (content): index from the question's offset; `name` (extra): the entry."""

    kind: Kind
    detail: str = ""
    name: bytes = b""
    block: int = 0
    repaired: bool = False


@dataclass(frozen=True)
class Verdict:
    """The end of a verify. `differences` are those that are still there; `complete` with 0: identical."""

    at_utc: str
    differences: int
    repaired: int
    entries: int
    content_bytes: int
    complete: bool


_VERDICT_KEYS: Final[dict[str, Any]] = {
    "at_utc": str,
    "differences": int,
    "repaired": int,
    "entries": int,
    "content_bytes": int,
    "complete": bool,
}


def names_payloads(names: Sequence[bytes]) -> list[bytes]:
    """At least one payload, also for an empty directory."""
    payloads: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    for name in names:
        parts.append(bytes((len(name),)) + name)
        size += 1 + len(name)
        if size >= NAMES_FRAME_BYTES:
            payloads.append(b"".join(parts))
            parts, size = [], 0
    if parts or not payloads:
        payloads.append(b"".join(parts))
    return payloads


def parse_names(data: memoryview) -> list[bytes]:
    names: list[bytes] = []
    position = 0
    while position < len(data):
        end = position + 1 + data[position]
        if end > len(data):
            raise WireError("NAMES ends in the middle of a name")
        names.append(wire.name_of(data[position + 1 : end]))
        position = end
    return names


def found_payload(findings: Sequence[Finding]) -> bytes:
    told = list(findings[:MAX_FINDINGS])
    if len(findings) > MAX_FINDINGS:
        last, more = told[-1], len(findings) - MAX_FINDINGS
        told[-1] = Finding(last.kind, f"and {more} more like it", last.name, last.block, last.repaired)
    lines = [[one.kind.value, one.detail[:MAX_DETAIL_CHARS], _text(one.name), one.block, one.repaired] for one in told]
    return json.dumps(lines).encode()


def parse_found(data: Buffer) -> list[Finding]:
    try:
        lines = json.loads(bytes(data[:_MAX_FOUND_BYTES]))
        if not isinstance(lines, list) or len(lines) > MAX_FINDINGS:
            raise WireError("FOUND is no list of findings")
        return [_finding(*line) for line in lines]
    except (ValueError, TypeError, RecursionError) as error:
        raise WireError(f"FOUND is not valid: {error}") from None


def _finding(kind: str, detail: str, name: str, block: int, repaired: bool) -> Finding:
    if not isinstance(detail, str) or not isinstance(name, str) or not isinstance(block, int):
        raise TypeError("a finding has a field of the wrong type")
    if len(detail) > MAX_DETAIL_CHARS or not 0 <= block < BLOCKS_PER_SUM or not isinstance(repaired, bool):
        raise WireError("a finding is outside the limits")
    data = name.encode("utf-8", "surrogateescape")
    return Finding(Kind(kind), detail, wire.name_of(data) if data else b"", block, repaired)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def verdict_payload(verdict: Verdict) -> bytes:
    return wire.json_payload(asdict(verdict))


def parse_verdict(data: memoryview) -> Verdict:
    document = wire.parse_json(data, _VERDICT_KEYS)
    counts = [document[key] for key, kind in _VERDICT_KEYS.items() if kind is int]
    if len(document["at_utc"]) > 40 or any(isinstance(n, bool) or not 0 <= n < 1 << 63 for n in counts):
        raise WireError("VERDICT is outside the limits")
    return Verdict(**document)
