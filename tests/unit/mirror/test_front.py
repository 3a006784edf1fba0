"""Pure parts of the front and of the resync: record layouts, modes, runs of blocks."""

from __future__ import annotations

import os
import stat

from hypothesis import given
from hypothesis import strategies as st
from mirror_agent.mirror import fuse_abi as abi
from mirror_agent.mirror.front_attrs import signed64
from mirror_agent.mirror.front_data import without_set_id
from mirror_agent.mirror.front_names import repack_entries
from mirror_agent.mirror.resync import runs


def linux_dirent(ino: int, cookie: int, kind: int, name: bytes) -> bytes:
    length = (abi.LINUX_DIRENT.size + len(name) + 1 + 7) & ~7
    return (abi.LINUX_DIRENT.pack(ino, cookie, length, kind) + name).ljust(length, b"\0")


def fuse_dirents(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    position = 0
    while position < len(data):
        ino, cookie, size, kind = abi.DIRENT.unpack_from(data, position)
        start = position + abi.DIRENT.size
        found.append((ino, cookie, kind, data[start : start + size]))
        position = (start + size + 7) & ~7
    return found


@given(st.lists(st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name), max_size=30))
def test_directory_records_are_repacked(names: list[bytes]) -> None:
    records = [(index + 1, (index + 1) << 40, 8, name) for index, name in enumerate(names)]
    raw = b"".join(linux_dirent(*record) for record in records)
    assert fuse_dirents(repack_entries(raw, 1 << 20)) == records
    short = repack_entries(raw, 300)
    assert len(short) <= 300
    assert fuse_dirents(short) == records[: len(fuse_dirents(short))]


@given(st.integers(0, 4095), st.integers(0, (1 << 20) - 1))
def test_device_numbers_round_trip(major: int, minor: int) -> None:
    device = os.makedev(major, minor)
    assert abi.decode_device(abi.encode_device(device)) == device


def test_set_id_bits() -> None:
    assert without_set_id(0o6777) == 0o777
    assert without_set_id(0o2666) == 0o2666  # mandatory locking, not set-group-id
    assert stat.S_IMODE(without_set_id(0o4644)) == 0o644


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_times_before_1970(value: int) -> None:
    assert signed64(value & 0xFFFFFFFFFFFFFFFF) == value


@given(st.sets(st.integers(0, 300)), st.integers(1, 20))
def test_runs_cover_exactly_the_blocks(blocks: set[int], longest: int) -> None:
    found = runs(sorted(blocks), longest)
    assert [block for start, end in found for block in range(start, end)] == sorted(blocks)
    assert all(0 < end - start <= longest for start, end in found)
