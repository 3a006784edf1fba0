"""What is kept can be listed and taken out again; the oldest goes first, and what is young or being written stays."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from mirror_agent.mirror.quarantine import Quarantine
from mirror_agent.mirror.quarantine_store import (
    MANIFEST,
    RANGES,
    YOUNG_S,
    Allowance,
    QuarantineError,
    delete,
    entries,
    folders,
    restore,
)


def keep(directory: Path, label: str, *, content: bytes = b"kept content", age_s: float = 0) -> None:
    """One folder with one range and one entry."""
    tree = directory.parent / f"tree-{label}"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "f").write_bytes(content)
    os.chmod(tree / "d" / "f", 0o640)
    quarantine = Quarantine(str(directory), label)
    parent = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with (tree / "d" / "f").open("rb") as stream:
            quarantine.keep_range("/data/d/f", stream.fileno(), 0, 4)
        quarantine.keep_entry("/data/d", parent, b"d")
    finally:
        os.close(parent)
    quarantine.close()
    then = time.time() - age_s
    os.utime(directory / label / MANIFEST, (then, then))


def test_list_and_restore(tmp_path: Path) -> None:
    directory = tmp_path / "quarantine"
    assert folders(str(directory)) == []
    keep(directory, "1")
    piece, entry = entries(str(directory))
    assert (piece.id, piece.kind, piece.offset, piece.size_bytes) == ("1/0", "range", 0, 4)
    assert (entry.kind, entry.path) == ("entry", "/data/d")
    restore(str(directory), entry.id, str(tmp_path / "back"))
    restore(str(directory), piece.id, str(tmp_path / "piece"))
    assert (tmp_path / "back" / "f").read_bytes() == b"kept content"
    assert (tmp_path / "back" / "f").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "piece").read_bytes() == b"kept"
    assert len(entries(str(directory))) == 2


def test_a_restore_overwrites_nothing_and_trusts_no_damaged_range(tmp_path: Path) -> None:
    directory = tmp_path / "quarantine"
    keep(directory, "1")
    (tmp_path / "there").write_text("mine")
    with pytest.raises(QuarantineError, match="exists"):
        restore(str(directory), "1/1", str(tmp_path / "there"))
    with pytest.raises(QuarantineError, match="is not in"):
        restore(str(directory), "../1/1", str(tmp_path / "x"))
    with pytest.raises(QuarantineError, match="manifest"):
        restore(str(directory), "1/7", str(tmp_path / "x"))
    (directory / "1" / RANGES).write_bytes(b"Kept")
    with pytest.raises(QuarantineError, match="SHA-256"):
        restore(str(directory), "1/0", str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    directory = tmp_path / "quarantine"
    keep(directory, "1")
    manifest = directory / "1" / MANIFEST
    manifest.write_bytes(manifest.read_bytes() + b'{"kind": "ent')
    (folder,) = folders(str(directory))
    assert folder.torn
    assert len(folder.kept) == 2


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    directory = tmp_path / "quarantine"
    keep(directory, "1", age_s=2000)
    keep(directory, "2", age_s=10)
    allowance = Allowance(str(directory), max_bytes=1 << 30, max_age_s=1000)
    allowance.measure()
    assert allowance.removed == ["1"]
    assert [folder.name for folder in folders(str(directory))] == ["2"]
    assert allowance.used_bytes > 0


def test_the_oldest_makes_room_and_the_young_stay(tmp_path: Path) -> None:
    directory = tmp_path / "quarantine"
    keep(directory, "1", content=os.urandom(100_000), age_s=3 * YOUNG_S)
    keep(directory, "2", content=os.urandom(100_000), age_s=2 * YOUNG_S)
    keep(directory, "3", content=os.urandom(100_000))
    held = sum(folder.size_bytes for folder in folders(str(directory)))
    allowance = Allowance(str(directory), max_bytes=held + 70_000, max_age_s=100 * YOUNG_S)
    allowance.measure()
    allowance.take(60_000)
    assert allowance.removed == []
    allowance.take(60_000)
    assert allowance.removed == ["1"]
    with pytest.raises(OSError, match="is full") as caught:
        allowance.take(held)
    assert caught.value.errno == errno.ENOSPC
    assert allowance.full is not None
    assert [folder.name for folder in folders(str(directory))] == ["3"]


def test_a_folder_being_written_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "quarantine"
    source = tmp_path / "f"
    source.write_bytes(b"x" * 1000)
    quarantine = Quarantine(str(directory), "1")
    with source.open("rb") as stream:
        quarantine.keep_range("/data/f", stream.fileno(), 0, 1000)
    (folder,) = folders(str(directory))
    assert folder.busy
    with pytest.raises(QuarantineError, match="being written"):
        delete(str(directory), "1")
    quarantine.close()
    delete(str(directory), "1")
    assert folders(str(directory)) == []


def test_a_full_quarantine_keeps_nothing_more_and_takes_nothing_away(tmp_path: Path) -> None:
    directory = tmp_path / "quarantine"
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "big").write_bytes(os.urandom(200_000))
    quarantine = Quarantine(str(directory), "1", Allowance(str(directory), max_bytes=100_000, max_age_s=1e9))
    parent = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="mirrorctl mirror quarantine"):
            quarantine.keep_entry("/data/big", parent, b"big")
    finally:
        os.close(parent)
    quarantine.close()
    assert (tree / "big").stat().st_size == 200_000
