"""What is taken from a node is found again: content, place and attributes, each with a line in the manifest."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from mirror_agent.mirror.quarantine import MANIFEST, RANGES, Quarantine, copy_entry


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / MANIFEST).read_text(encoding="utf-8").splitlines()]


def test_nothing_kept_leaves_nothing(tmp_path: Path) -> None:
    Quarantine(str(tmp_path), "session").close()
    assert list(tmp_path.iterdir()) == []


def test_ranges_are_kept_with_their_place(tmp_path: Path) -> None:
    source = tmp_path / "f"
    source.write_bytes(bytes(range(256)) * 1000)
    quarantine = Quarantine(str(tmp_path), "session")
    with source.open("rb") as stream:
        quarantine.keep_range("/data/f", stream.fileno(), 1000, 500)
        quarantine.keep_range("/data/f", stream.fileno(), 255_900, 500)
        quarantine.keep_range("/data/f", stream.fileno(), 300_000, 500)
    quarantine.close()
    first, second = lines(tmp_path / "session")
    ranges = (tmp_path / "session" / RANGES).read_bytes()
    content = source.read_bytes()
    assert (first["offset"], first["length"], first["stored_offset"]) == (1000, 500, 0)
    assert (second["offset"], second["length"], second["stored_offset"]) == (255_900, 100, 500)
    assert ranges == content[1000:1500] + content[255_900:]
    assert first["sha256"] == hashlib.sha256(content[1000:1500]).hexdigest()
    assert (quarantine.kept_items, quarantine.kept_bytes) == (2, 600)


def test_manifest_is_written_before_the_original_may_change(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)
    quarantine = Quarantine(str(tmp_path), "session")
    with (tmp_path / "f").open("rb") as stream:
        quarantine.keep_range("/data/f", stream.fileno(), 0, 100)
    assert len(lines(tmp_path / "session")) == 1
    assert (tmp_path / "session" / RANGES).read_bytes() == b"x" * 100
    quarantine.close()


def test_entries_are_moved_out_with_everything(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "d" / "e").mkdir(parents=True)
    (tree / "d" / "e" / "f").write_text("deep")
    os.link(tree / "d" / "e" / "f", tree / "deep-name")
    (tree / "shared").write_text("two names")
    os.link(tree / "shared", tree / "other-name")
    quarantine = Quarantine(str(tmp_path), "session")
    parent = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        quarantine.keep_entry("/data/d", parent, b"d")
        quarantine.keep_entry("/data/shared", parent, b"shared")
    finally:
        os.close(parent)
    quarantine.close()
    assert sorted(os.listdir(tree)) == ["deep-name", "other-name"]
    moved, copied = lines(tmp_path / "session")
    folder = tmp_path / "session"
    assert (folder / str(moved["stored"]) / "e" / "f").read_text() == "deep"
    # The other names are still written to; what is kept must not change with them.
    (tree / "other-name").write_text("changed")
    (tree / "deep-name").write_text("changed")
    assert (folder / str(moved["stored"]) / "e" / "f").read_text() == "deep"
    assert (tree / "deep-name").stat().st_nlink == 1
    assert (folder / str(copied["stored"])).read_text() == "two names"


def test_copies_keep_types_modes_times_and_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "f").write_bytes(b"content")
    os.chmod(source / "f", 0o640)
    os.setxattr(source / "f", "user.kept", b"yes")
    os.symlink("nowhere", source / "link")
    os.mkfifo(source / "fifo")
    os.utime(source / "f", ns=(1, 2))
    os.utime(source / "sub", ns=(3, 4))
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert copy_entry(directory, b"source", directory, b"copy") == 7
    finally:
        os.close(directory)
    copy = tmp_path / "copy"
    assert (copy / "f").read_bytes() == b"content"
    assert ((copy / "f").stat().st_mode & 0o7777, (copy / "f").stat().st_mtime_ns) == (0o640, 2)
    assert os.getxattr(copy / "f", "user.kept") == b"yes"
    assert os.readlink(copy / "link") == "nowhere"
    assert (copy / "fifo").is_fifo()
    assert (copy / "sub").stat().st_mtime_ns == 4
