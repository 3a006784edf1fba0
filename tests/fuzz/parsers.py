"""Everything of the mirror that reads bytes of the peer, under one shape: bytes in, a value or `WireError` out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mirror_agent.mirror import handshake, verify_wire, wire
from mirror_agent.mirror.resync_report import Report
from mirror_agent.mirror.wire import Frame, Op

Parser = Callable[[memoryview], object]


def decoded(data: memoryview) -> Frame | None:
    return wire.decode(data, 0, len(data))


def whole(data: memoryview) -> Frame:
    """The bytes as payload of a frame with a right checksum, so that what lies behind the checksum is reached too."""
    frame = decoded(memoryview(wire.encode(Op.WRITE, epoch=1, seq=1, fid=16, data=data)))
    assert frame is not None
    assert bytes(frame.payload) == bytes(data)
    return frame


PARSERS: Final[tuple[Parser, ...]] = (
    decoded,
    wire.name_of,
    wire.xattr_name,
    wire.parse_setattr,
    wire.parse_fallocate,
    wire.parse_rename,
    wire.parse_entry,
    wire.parse_setxattr,
    wire.parse_sum,
    wire.parse_different,
    wire.parse_settled,
    wire.parse_keep,
    wire.parse_pulse,
    wire.parse_text,
    verify_wire.parse_names,
    verify_wire.parse_found,
    verify_wire.parse_verdict,
    handshake.parse_plan,
    lambda data: handshake.parse_hello(whole(data)),
    lambda data: handshake.parse_welcome(whole(data)),
    lambda data: Report().take(1, data),
)
