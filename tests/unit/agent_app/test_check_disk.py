"""The disk test: room, a file system that refuses, and one that never answers."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest
from mirror_agent.app.check_disk import PROBE_BYTES, PROBE_FILE, DiskCheck, judge_room
from mirror_agent.contract import Checker, CheckerKind
from mirror_agent.platform import Room

from tests.agent_samples import PATIENCE_S, eventually
from tests.portable import NO_SUCH_FILE, needs_visible_links

GIB = 1024**3


def disk(directory: str = "/data", /, **more: object) -> Checker:
    return Checker.model_validate({"name": "disk", "kind": CheckerKind.DISK, "path": directory, **more})


@pytest.mark.parametrize(
    ("limits", "room", "healthy", "said"),
    [
        ({}, Room(100 * GIB, 50 * GIB, False), True, "50.0 % free (50.00 GiB)"),
        ({}, Room(100 * GIB, 5 * GIB, False), True, "5.0 % free"),
        ({}, Room(100 * GIB, 4 * GIB, False), False, "at least 5 % wanted"),
        ({"min_free_bytes": 8 * GIB}, Room(100 * GIB, 7 * GIB, False), False, "at least 8.00 GiB wanted"),
        ({"min_free_percent": 0}, Room(100 * GIB, 0, False), True, "0.0 % free"),
        ({"min_free_percent": 0}, Room(0, 0, False), True, "0.0 % free"),
        ({}, Room(100 * GIB, 50 * GIB, True), False, "read-only"),
    ],
)
def test_room(limits: dict[str, object], room: Room, healthy: bool, said: str) -> None:
    finding = judge_room(disk(**limits), room)
    assert (finding.healthy, said in finding.message, finding.broken) == (healthy, True, room.read_only)


@pytest.mark.parametrize(("number", "broken"), [(errno.EROFS, True), (errno.EIO, True), (errno.ENOSPC, False)])
async def test_a_disk_that_takes_nothing_more_is_broken(tmp_path: Path, number: int, broken: bool) -> None:
    def store(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    finding = await DiskCheck(disk(str(tmp_path), min_free_percent=0), store=store)()
    assert (finding.healthy, finding.broken) == (False, broken)


async def test_a_good_disk_keeps_one_small_file(tmp_path: Path) -> None:
    check = DiskCheck(disk(str(tmp_path), min_free_percent=0))
    for _ in range(3):
        assert (await check()).healthy
    assert os.listdir(tmp_path) == [PROBE_FILE]
    assert (tmp_path / PROBE_FILE).stat().st_size == PROBE_BYTES


async def test_a_disk_that_is_not_there(tmp_path: Path) -> None:
    finding = await DiskCheck(disk(str(tmp_path / "gone")))()
    assert not finding.healthy
    assert any(words in finding.message for words in NO_SUCH_FILE), finding.message


@needs_visible_links
async def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / PROBE_FILE).symlink_to(victim)
    assert not (await DiskCheck(disk(str(tmp_path), min_free_percent=0))()).healthy
    assert victim.read_text() == "precious"


async def test_a_stalled_disk_fails_in_time_and_again_at_once(tmp_path: Path) -> None:
    going_on = threading.Event()
    calls: list[Path] = []

    def hang(path: Path) -> None:
        calls.append(path)
        going_on.wait()

    check = DiskCheck(disk(str(tmp_path), min_free_percent=0, timeout_s=0.02), store=hang)
    try:
        finding = await check()
        assert (finding.healthy, "stalled" in finding.message) == (False, True)
        finding = await check()
        assert (finding.healthy, "still hangs" in finding.message) == (False, True)
        assert len(calls) == 1, "one hanging thread is enough"
    finally:
        going_on.set()
    await eventually(lambda: "checker-disk" not in {thread.name for thread in threading.enumerate()}, "it goes on")
    async with asyncio.timeout(PATIENCE_S):
        # Its time-out is for a disk that hangs: one that works may need longer on a busy machine.
        while not (await check()).healthy:
            pass


@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), OSError(28, "No space left on device")])
async def test_what_the_disk_says(tmp_path: Path, error: OSError) -> None:
    def refuse(_path: Path) -> None:
        raise error

    finding = await DiskCheck(disk(str(tmp_path), min_free_percent=0), store=refuse)()
    assert not finding.healthy
    assert error.strerror is not None
    assert error.strerror.lower() in finding.message.lower().replace(
        "the file system is read-only", "read-only file system"
    )
