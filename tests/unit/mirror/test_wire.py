"""Frames survive the round trip, and nothing else gets through: any input is a frame, incomplete, or a WireError."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirror_agent.mirror import limits, verify_wire, wire
from mirror_agent.mirror.wire import Entry, Op, Rename, SetAttr, Space, WireError

U16, U32, U63, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 63, 64))
I64 = st.integers(-(2**63), 2**63 - 1)
OPS = st.sampled_from(list(Op))
NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
XATTR_NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name)
ENTRIES = st.builds(
    Entry,
    U32, U32, U32, U32, U63, I64, U64, NAMES, st.binary(max_size=4000).filter(lambda target: b"\0" not in target),
    st.lists(st.tuples(XATTR_NAMES, st.binary(max_size=500)), max_size=4).map(tuple),
)  # fmt: skip
PARSERS = [
    wire.parse_setattr, wire.parse_fallocate, wire.parse_rename, wire.parse_entry, wire.parse_setxattr, wire.parse_sum,
    wire.parse_different, wire.parse_settled, wire.parse_pulse, wire.name_of, wire.xattr_name,
    verify_wire.parse_names, verify_wire.parse_found, verify_wire.parse_verdict,
]  # fmt: skip


def decode(data: bytes) -> wire.Frame | None:
    return wire.decode(memoryview(data), 0, len(data))


@given(OPS, U16, U64, U64, U64, st.integers(0, wire.POSITION_MAX), st.binary(max_size=5000))
def test_frames_round_trip(op: Op, flags: int, epoch: int, seq: int, fid: int, offset: int, data: bytes) -> None:
    encoded = wire.encode(op, flags=flags, epoch=epoch, seq=seq, fid=fid, offset=offset, data=data)
    frame = decode(encoded + b"the next frame begins here")
    assert frame is not None
    assert (frame.op, frame.flags, frame.epoch, frame.seq, frame.fid, frame.offset) == (
        op, flags, epoch, seq, fid, offset,
    )  # fmt: skip
    assert bytes(frame.payload) == data
    assert frame.size == len(encoded)


@given(st.binary(max_size=200), st.data())
def test_incomplete_frames_wait_for_more(data: bytes, draw: st.DataObject) -> None:
    encoded = wire.encode(Op.WRITE, epoch=1, seq=2, fid=3, data=data)
    assert decode(encoded[: draw.draw(st.integers(0, len(encoded) - 1))]) is None


@given(st.binary(max_size=200), st.data())
def test_any_flipped_bit_is_noticed(data: bytes, draw: st.DataObject) -> None:
    encoded = bytearray(wire.encode(Op.WRITE, epoch=1, seq=2, fid=3, data=data))
    position = draw.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[position // 8] ^= 1 << (position % 8)
    try:
        frame = decode(bytes(encoded))
    except WireError:
        return
    assert frame is None  # a longer length: the reader waits for bytes that never match the checksum


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_garbage_is_refused(data: bytes) -> None:
    """No other exception, and never a request for more than the largest frame."""
    try:
        frame = decode(data)
    except WireError:
        return
    assert frame is None or frame.size <= limits.MAX_FRAME_BYTES


def test_limits_of_a_frame() -> None:
    for length in (0, 43, limits.MAX_FRAME_BYTES + 1, 2**32 - 1):
        with pytest.raises(WireError, match="length"):
            decode(wire.PREFIX.pack(length, 0) + bytes(40))
    largest = wire.encode(Op.WRITE, epoch=0, data=bytes(limits.MAX_FRAME_BYTES - wire.HEADER_BYTES))
    assert decode(largest) is not None
    with pytest.raises(WireError, match="unknown"):
        decode(wire.PREFIX.pack(44, 0) + wire.REST.pack(999, 0, 0, 0, 0, 0))


@given(ENTRIES)
def test_entries_round_trip(entry: Entry) -> None:
    assert wire.parse_entry(memoryview(wire.entry_payload(entry))) == entry


@given(U64, U32, U64, U64, NAMES, NAMES)
def test_renames_round_trip(parent: int, flags: int, victim: int, how: int, name: bytes, new: bytes) -> None:
    move = Rename(parent, flags, victim, how, name, new)
    assert wire.parse_rename(memoryview(wire.rename_payload(move))) == move


@given(U32, U32, U32, U32, U63, I64, I64)
def test_setattr_round_trips(valid: int, mode: int, uid: int, gid: int, size: int, atime: int, mtime: int) -> None:
    change = SetAttr(valid, mode, uid, gid, size, atime, mtime)
    assert wire.parse_setattr(memoryview(wire.setattr_payload(change))) == change


@given(U32, XATTR_NAMES, st.binary(max_size=2000))
def test_setxattr_round_trips(flags: int, key: bytes, value: bytes) -> None:
    assert wire.parse_setxattr(memoryview(wire.setxattr_payload(flags, key, value))) == (flags, key, value)


@given(U63, st.lists(st.binary(min_size=limits.DIGEST_BYTES, max_size=limits.DIGEST_BYTES), max_size=20))
def test_sums_round_trip(size: int, digests: list[bytes]) -> None:
    assert wire.parse_sum(memoryview(wire.sum_payload(size, digests))) == (size, digests)


@given(st.lists(st.integers(0, limits.BLOCKS_PER_SUM - 1), max_size=limits.BLOCKS_PER_SUM))
def test_different_round_trips(blocks: list[int]) -> None:
    assert wire.parse_different(memoryview(wire.different_payload(blocks))) == blocks


@given(st.lists(st.builds(Space, U64, U64, U64, U64), max_size=4))
def test_pulses_round_trip(spaces: list[Space]) -> None:
    assert wire.parse_pulse(memoryview(wire.pulse_payload(spaces))) == spaces


@settings(max_examples=200)
@given(st.sampled_from(PARSERS), st.binary(max_size=600))
def test_payload_parsers_refuse_garbage(parser: object, data: bytes) -> None:
    assert callable(parser)
    try:
        parser(memoryview(data))
    except WireError:
        return


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0b", b"n" * 256])
def test_names_cannot_leave_their_directory(name: bytes) -> None:
    with pytest.raises(WireError):
        wire.name_of(name)


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_handshake_refuses_garbage(data: bytes) -> None:
    try:
        wire.parse_json(memoryview(data), {"protocol": int})
    except WireError:
        return


def test_handshake_needs_exactly_its_keys() -> None:
    good = wire.json_payload({"protocol": 1})
    assert wire.parse_json(memoryview(good), {"protocol": int}) == {"protocol": 1}
    for bad in ({"protocol": "1"}, {"protocol": 1, "more": 2}, {}):
        with pytest.raises(WireError):
            wire.parse_json(memoryview(wire.json_payload(bad)), {"protocol": int})
    with pytest.raises(WireError):
        wire.parse_json(memoryview(b"[" * 100_000), {"protocol": int})


def test_a_position_beyond_every_file_is_refused() -> None:
    with pytest.raises(WireError, match="position"):
        decode(wire.encode(Op.WRITE, epoch=1, seq=1, fid=16, offset=wire.POSITION_MAX + 1, data=b"x"))
