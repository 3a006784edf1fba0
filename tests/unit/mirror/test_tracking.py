"""What a serving node notes is found again after a kill or a power cut; what cannot be noted ends the proof first."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mirror_agent.mirror import tracking
from mirror_agent.mirror.checkpoints import Checkpoint, CheckpointStore, read_clock
from mirror_agent.mirror.dirty_log import ZONE_BYTES, DirtyLog, Note, read_log
from mirror_agent.mirror.inodes import Inode
from mirror_agent.mirror.resync_choice import Clock, Gap
from mirror_agent.mirror.resync_plan import Progress, spans
from mirror_agent.mirror.tracking import Tracker

BOOT = read_clock().boot
OTHER = "0" * 36
ROOTS = {"/data": "1-2"}


def inode(ino: int) -> Inode:
    return cast(Inode, SimpleNamespace(root=SimpleNamespace(index=0), ino=ino, fresh=None))


def held(directory: Path, **changes: Any) -> CheckpointStore:
    """A store with one checkpoint taken just now."""
    store = CheckpointStore(str(directory), "c")
    store.record(replace(Checkpoint("s", 1, 1, read_clock(), ROOTS), **changes))
    return store


def begun(store: CheckpointStore) -> Tracker:
    tracker = Tracker(store)
    tracker.begin()
    return tracker


def test_without_a_checkpoint_nothing_is_noted(tmp_path: Path) -> None:
    tracker = begun(CheckpointStore(str(tmp_path), "c"))
    tracker.overwriting(inode(5), 0, 10)
    tracker.moving(inode(6))
    assert not tracker.active
    assert list(tmp_path.iterdir()) == []


def test_everything_noted_is_read_again(tmp_path: Path) -> None:
    store = held(tmp_path)
    tracker = begun(store)
    made = inode(9)
    tracker.made(made)
    tracker.overwriting(made, 0, 10)
    tracker.overwriting(inode(5), 3 * ZONE_BYTES - 1, 2)
    tracker.overwriting(inode(5), 0, 1)
    tracker.truncating(inode(6), 1000 * ZONE_BYTES, 10 * ZONE_BYTES)
    tracker.moving(inode(7))
    tracker.naming(inode(8))
    # As after kill -9: another process reads what this one wrote.
    content = CheckpointStore(str(tmp_path), "c").changes_since(("s", 1))
    assert content.overwritten == {(0, 5), (0, 6)}
    assert content.zones[(0, 5)] == {0, 2, 3}
    assert content.tails == {(0, 6): 10}
    assert content.moved == {(0, 7)}
    assert content.named == {(0, 8), (0, 9)}
    assert content.exact(BOOT)
    assert not content.exact(OTHER)
    assert tracker.written((0, 5), content) == ({0, 2, 3}, None)
    assert tracker.written((0, 9), content) is None


def test_the_proof_of_a_replica_that_never_served(tmp_path: Path) -> None:
    (one,) = held(tmp_path).prove(ROOTS, read_clock(), file_system_good=True)
    assert (one.gap, one.served) == (Gap.NONE, False)


def test_missing_proofs(tmp_path: Path) -> None:
    store = held(tmp_path)
    begun(store).close()
    now = read_clock()
    assert store.prove(ROOTS, now, file_system_good=True)[0].served
    assert store.prove({"/data": "1-3"}, now, file_system_good=True)[0].gap is Gap.DISK
    assert store.prove(ROOTS, now, file_system_good=False)[0].gap is Gap.FILE_SYSTEM
    behind = Clock(BOOT, store.held[0].clock.realtime_ns - 1, now.boottime_ns)
    assert store.prove(ROOTS, behind, file_system_good=True)[0].gap is Gap.CLOCK
    assert not store.prove(ROOTS, replace(now, boot=OTHER), file_system_good=True)[0].exact
    (tmp_path / store.held[0].logs[0]).unlink()
    assert store.prove(ROOTS, now, file_system_good=True)[0].gap is Gap.LOG


def test_a_replica_notes_its_moves_from_the_checkpoint_on_that_they_follow(tmp_path: Path) -> None:
    store = held(tmp_path)
    store.moving((0, 5))
    rotated = store.rotate()
    store.moving((0, 6))
    store.record_replica(Checkpoint("s", 2, 1, read_clock(), ROOTS), rotated)
    store.moving((0, 7))
    again = CheckpointStore(str(tmp_path), "c")
    assert again.changes_since(("s", 2)).moved == {(0, 6), (0, 7)}
    assert again.changes_since(("s", 1)).moved == {(0, 5), (0, 6), (0, 7)}
    assert not any(one.served for one in again.held)
    begun(again)
    assert all(one.served for one in again.held)


def test_without_a_checkpoint_a_replica_notes_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path), "c")
    store.moving((0, 5))
    assert list(tmp_path.iterdir()) == []


def test_a_move_that_cannot_be_noted_ends_the_proof(tmp_path: Path) -> None:
    store = held(tmp_path)
    store.moving((0, 5))
    assert store._moves is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, store._moves._fd)
    os.close(full)
    store.moving((0, 6))
    assert CheckpointStore(str(tmp_path), "c").held == ()


def test_a_torn_copy_has_a_gap_of_its_own(tmp_path: Path) -> None:
    (one,) = held(tmp_path).prove(ROOTS, read_clock(), file_system_good=True, torn=True)
    assert one.gap is Gap.TORN


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    held(tmp_path)
    path = tmp_path / "checkpoints.json"
    text = path.read_text()
    for damaged in (text.replace('"s"', '"t"'), text[:30], "[]", ""):
        path.write_text(damaged)
        assert CheckpointStore(str(tmp_path), "c").held == ()
    path.write_text(text)
    assert CheckpointStore(str(tmp_path), "other").held == ()


def test_a_clock_set_back_ends_the_proof_before_the_next_change(tmp_path: Path) -> None:
    ahead = replace(read_clock(), realtime_ns=time.time_ns() + 3_600_000_000_000)
    store = held(tmp_path, clock=ahead)
    tracker = Tracker(store)
    tracker.begin()
    assert not tracker.active
    assert CheckpointStore(str(tmp_path), "c").held == ()
    store = held(tmp_path, clock=ahead)
    store.guard()
    assert CheckpointStore(str(tmp_path), "c").held == ()


def test_a_log_that_cannot_be_written_ends_the_proof(tmp_path: Path) -> None:
    store = held(tmp_path)
    tracker = begun(store)
    assert tracker._log is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, tracker._log._fd)
    os.close(full)
    tracker.overwriting(inode(5), 0, 10)
    assert not tracker.active
    assert CheckpointStore(str(tmp_path), "c").held == ()


def test_a_rotation_carries_what_is_in_use_and_an_abandoned_one_loses_nothing(tmp_path: Path) -> None:
    store = held(tmp_path)
    tracker = begun(store)
    tracker.overwriting(inode(5), 0, 10)
    tracker.moving(inode(7))
    rotation = tracker.rotate()
    tracker.overwriting(inode(6), 0, 10)
    # Not committed: the old checkpoint counts, with both logs.
    content = CheckpointStore(str(tmp_path), "c").changes_since(("s", 1))
    assert content.overwritten == {(0, 5), (0, 6)}
    assert content.moved == {(0, 7)}
    tracker.commit(rotation, stream="s", seq=9, epoch=1, roots=ROOTS)
    again = CheckpointStore(str(tmp_path), "c")
    assert [one.point for one in again.held] == [("s", 9), ("s", 1)]
    content = again.changes_since(("s", 9))
    assert content.overwritten == {(0, 5), (0, 6)}
    assert content.moved == set()


def test_ranges_that_are_too_many_make_the_log_inexact_but_not_useless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "NOTED_MAX", 4)
    store = held(tmp_path)
    tracker = begun(store)
    for ino in range(20, 30):
        tracker.overwriting(inode(ino), 0, 10)
    content = store.changes_since(("s", 1))
    assert content.overwritten == {(0, ino) for ino in range(20, 30)}
    assert not content.exact(BOOT)
    assert tracker.written((0, 20), content) is None


def records(path: Path, boot: str) -> bytes:
    dirty = DirtyLog.create(str(path), boot)
    dirty.add([(Note.ZONE, (0, 1), 1)], durable=False)
    dirty.add([(Note.MOVED, (0, 2), 0)], durable=True)
    dirty.add([(Note.ZONE, (0, 3), 1)], durable=False)
    dirty.close()
    return path.read_bytes()


def test_every_torn_end_of_a_log_keeps_what_was_durable(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = records(path, OTHER)
    durable = len(whole) - 24
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        content = read_log(str(path), BOOT)
        assert bool(content.broken) == (length < len(whole) - 72)
        assert ((0, 2) in content.moved) == (length >= durable)


def test_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = records(path, OTHER)
    for position in range(len(whole) - 24):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        content = read_log(str(path), BOOT)
        # Before the durable record: broken. In it: it is gone, which nobody but the disk could do; nothing after it
        # was relied on, so this is the one damage that a power cut can look like.
        assert content.broken or position >= len(whole) - 48
    own = tmp_path / "own"
    data = bytearray(records(own, BOOT))
    data[-20] ^= 1
    own.write_bytes(bytes(data))
    assert read_log(str(own), BOOT).broken


def test_spans() -> None:
    zone = ZONE_BYTES
    assert spans(set(), None, 10 * zone) == []
    assert spans({0, 1, 5}, None, 10 * zone) == [(0, 2 * zone), (5 * zone, zone)]
    assert spans({0, 9, 12}, None, 9 * zone + 7) == [(0, zone), (9 * zone, 7)]
    assert spans({3}, 4, 6 * zone + 1) == [(3 * zone, 3 * zone + 1)]
    assert spans({3}, 0, 100) == [(0, 100)]
    assert spans({3}, 2, 0) == []


def test_progress_estimates_the_rest() -> None:
    now_s = 0.0
    progress = Progress("candidates", clock=lambda: now_s)
    progress.expect(0, 1000)
    assert progress.remaining_s is None
    now_s = 10.0
    progress.compared(250)
    assert progress.remaining_s == pytest.approx(30.0)
    progress.found(2000)
    assert progress.remaining_s == pytest.approx(70.0)
    progress.end()
    assert progress.remaining_s == 0.0
    assert progress.duration_s == 10.0


def test_what_is_dirty_is_counted_for_the_status(tmp_path: Path) -> None:
    assert begun(CheckpointStore(str(tmp_path / "new"), "c")).dirty() is None
    tracker = begun(held(tmp_path))
    assert tracker.dirty() == (0, 0)
    tracker.overwriting(inode(5), 3 * ZONE_BYTES - 1, 2)
    tracker.overwriting(inode(5), 3 * ZONE_BYTES, 1)
    tracker.made(inode(9))
    assert tracker.dirty() == (2, 2 * ZONE_BYTES)
    tracker.close()
    assert tracker.dirty() is None


def test_the_status_does_not_wait_for_a_log_that_is_being_flushed(tmp_path: Path) -> None:
    """The lock is held as long as a slow disk takes; an engine without a status counts as one that hangs."""
    tracker = begun(held(tmp_path))
    tracker.made(inode(9))
    with ThreadPoolExecutor(1) as other, tracker._lock:
        assert other.submit(tracker.dirty).result(30.0) == (1, 0)
