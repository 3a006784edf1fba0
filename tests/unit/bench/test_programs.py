"""The benchmark's own loads do what they are named after and leave their directory as they say."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from bench.mirror import programs, tree


@pytest.mark.parametrize("name", ["names", "replace", "stat", "sqlite-wal", "sqlite-rollback"])
def test_a_timed_load_counts_its_operations(tmp_path: Path, name: str) -> None:
    for count, elapsed_s in programs.PROGRAMS[name](tmp_path, 0.005).values():
        assert count >= 1
        assert elapsed_s > 0


def test_names_leaves_no_file(tmp_path: Path) -> None:
    phases = programs.names(tmp_path, 0.002)
    assert list(phases) == ["create", "rename", "unlink"]
    assert not list(tmp_path.iterdir())


def test_files_keeps_as_many_as_asked_for(tmp_path: Path) -> None:
    programs.files(tmp_path, 12)
    assert len(list(tmp_path.iterdir())) == 12


def test_the_tree_is_the_same_every_time(tmp_path: Path) -> None:
    tree.write_archive(tmp_path, 30)
    path = tree.archive_path(tmp_path, 30)
    once = path.read_bytes()
    tree.write_archive(tmp_path, 30)
    assert path.read_bytes() == once
    with tarfile.open(path) as archive:
        assert sum(member.isfile() for member in archive) == 30
