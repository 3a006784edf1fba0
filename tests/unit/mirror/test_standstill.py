"""How long work has stood still: it counts from when it was taken up, or from when anything moved."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mirror_agent.mirror import wire
from mirror_agent.mirror.standstill import Standstill, Work, completed_requests, device_of, device_token


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def test_work_that_gets_on_does_not_stand_still() -> None:
    clock = Clock()
    standstill = Standstill(clock)
    for count in range(200):
        clock.now_s += 0.5
        assert standstill.look([7], (count,)) == 0.0


def test_the_oldest_work_counts_and_new_work_beside_it_changes_nothing() -> None:
    clock = Clock()
    standstill = Standstill(clock)
    assert standstill.look([], ("t",)) is None
    assert standstill.look([3], ("t",)) == 0.0
    for frame in range(10, 20):
        clock.now_s += 0.5
        standing_s = standstill.look([3, frame], ("t",))
    assert standing_s == 5.0
    clock.now_s += 0.5
    assert standstill.look([19], ("t",)) == 0.5, "frame 3 was answered"
    assert standstill.look([], ("t",)) is None


def test_a_disk_that_rested_while_there_was_no_work_does_not_count() -> None:
    clock = Clock()
    standstill = Standstill(clock)
    standstill.look([], ("t",))
    clock.now_s += 100.0
    assert standstill.look([5], ("t",)) == 0.0
    clock.now_s += 2.0
    assert standstill.look([5], ("t",)) == 2.0
    assert standstill.look([5], ("moved",)) == 0.0


def test_without_counters_nothing_is_said() -> None:
    clock = Clock()
    standstill = Standstill(clock)
    for _ in range(10):
        clock.now_s += 1.0
        assert standstill.look([5], None) is None


def test_a_flush_stands_still_although_frames_are_applied_beside_it() -> None:
    clock = Clock()
    work = Work(clock)
    work.look(0, [3], ("t",), 0)
    for frame in range(1, 15):
        clock.now_s += 0.5
        # A heartbeat, say: the applying thread is at work at every look.
        standing_s = work.look(frame, [3], ("t",), frame * 1_000_000)
    assert standing_s == 7.0
    assert work.look(0, [3], ("moved",), 99_000_000) == 0.0


def test_a_frame_that_costs_processor_time_gets_on() -> None:
    clock = Clock()
    work = Work(clock)
    for count in range(20):
        clock.now_s += 0.5
        assert work.look(8, [], ("t",), count * 1_000_000) == 0.0
    clock.now_s += 5.0
    assert work.look(8, [], ("t",), 19_000_000) == 5.0
    assert work.look(8, [], None, 19_000_000) is None


def test_counters_of_block_devices() -> None:
    devices = os.listdir("/sys/block") if Path("/sys/block").is_dir() else []
    found = [
        completed_requests(os.makedev(*map(int, Path(f"/sys/block/{name}/dev").read_text().split(":"))))
        for name in devices
    ]
    if not found:
        pytest.skip("this machine shows no block device")
    assert all(counters is not None and len(counters) >= 2 for counters in found)


def test_a_file_system_in_memory_has_no_counters() -> None:
    memory = os.stat("/proc").st_dev
    assert completed_requests(memory) is None
    assert device_token([memory]) is None
    assert device_token([]) == ()


def test_the_device_of_a_path_that_is_not_there_yet(tmp_path: Path) -> None:
    assert device_of(str(tmp_path / "not" / "yet")) == tmp_path.stat().st_dev


@pytest.mark.parametrize("seconds", [None, 0.0, 0.5, 3600.0])
def test_the_pulse_carries_it(seconds: float | None) -> None:
    assert wire.standing_of(wire.standing_field(seconds)) == seconds
