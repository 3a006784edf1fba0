"""A verify finds whatever was done to the replica behind the engine's back, repairs it, and raises no false alarm."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from mirror_agent.mirror.quarantine_store import entries, restore
from mirror_agent.mirror.verify_record import VerifyRecord

from tests.lab.mirror.pair import Pair, differences, eventually, last_record, run_verify, tree, verify

pytestmark = pytest.mark.lab

BLOCK = 64 * 1024


def fill(root: Path) -> None:
    """A small tree with one of everything."""
    (root / "plain.bin").write_bytes(random.Random(1).randbytes(5 * BLOCK + 17))
    (root / "small.txt").write_text("as it should be\n")
    (root / "deep").mkdir()
    (root / "deep" / "inner").mkdir(mode=0o750)
    (root / "deep" / "inner" / "leaf").write_bytes(b"leaf")
    (root / "one").write_bytes(b"two names\n")
    os.link(root / "one", root / "deep" / "two")
    (root / "alone").write_bytes(b"one name\n")
    (root / "neighbour").write_bytes(b"one name\n")
    os.symlink("small.txt", root / "link")
    os.mkfifo(root / "fifo", 0o600)
    os.setxattr(root / "small.txt", "user.kind", b"text")
    os.truncate(root / "plain.bin", 9 * BLOCK)  # a hole at the end
    (root / "empty").touch()


async def in_sync(pair: Pair) -> None:
    """The tree is on both nodes; its modification times as well, which otherwise follow up to 2 s later."""
    await pair.make_pair()
    await asyncio.to_thread(fill, pair.a.root)
    await pair.a.engine.require_peer(epoch=1)


def one_byte(root: Path) -> None:
    with open(root / "plain.bin", "r+b") as stream:
        stream.seek(3 * BLOCK + 5)
        byte = stream.read(1)
        stream.seek(3 * BLOCK + 5)
        stream.write(bytes((byte[0] ^ 1,)))


def keep_times(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """A corruption that leaves no trace in the modification times."""

    def changed(root: Path) -> None:
        before = {path: os.lstat(path) for path in [root, *root.rglob("*")]}
        change(root)
        for path, st in before.items():
            if os.path.lexists(path):
                os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=False)

    return changed


def write(path: Path, text: str) -> None:
    path.write_text(text)


def retarget(root: Path) -> None:
    (root / "link").unlink()
    os.symlink("plain.bin", root / "link")


def break_link(root: Path) -> None:
    (root / "deep" / "two").unlink()
    shutil.copy2(root / "one", root / "deep" / "two")


def join_strangers(root: Path) -> None:
    (root / "neighbour").unlink()
    os.link(root / "alone", root / "neighbour")


def retype(root: Path) -> None:
    (root / "empty").unlink()
    (root / "empty").mkdir()
    (root / "empty" / "inside").write_text("kept in quarantine")


CORRUPTIONS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "one byte": (one_byte, "plain.bin", "content"),
    "hole filled": (lambda root: os.truncate(root / "plain.bin", 9 * BLOCK + 1), "plain.bin", "size"),
    "cut short": (lambda root: os.truncate(root / "plain.bin", BLOCK), "plain.bin", "size"),
    "mode": (lambda root: os.chmod(root / "deep" / "inner", 0o700), "deep/inner", "mode"),
    "owner": (lambda root: os.chown(root / "link", 12, 34, follow_symlinks=False), "link", "owner"),
    "xattr value": (lambda root: os.setxattr(root / "small.txt", "user.kind", b"TEXT"), "small.txt", "xattr"),
    "xattr too much": (lambda root: os.setxattr(root / "alone", "user.more", b""), "alone", "xattr"),
    "time": (lambda root: os.utime(root / "alone", ns=(1, 10**18 + 1)), "alone", "time"),
    "missing file": (lambda root: (root / "small.txt").unlink(), "small.txt", "missing"),
    "missing directory": (lambda root: shutil.rmtree(root / "deep"), "deep", "missing"),
    "extra name": (lambda root: (root / "stranger").write_text("not from here"), "stranger", "extra"),
    "broken hard link": (break_link, "deep/two", "links"),
    "joined files": (join_strangers, "alone", "links"),
    "type": (retype, "empty", "type"),
    "link target": (retarget, "link", "target"),
}  # fmt: skip


def found(record: VerifyRecord, root: Path) -> set[tuple[str, str]]:
    return {(os.path.relpath(one.path, root), one.kind) for one in record.listed}


async def test_identical_copies_are_called_identical(pair: Pair) -> None:
    await in_sync(pair)
    await verify(pair)
    record = last_record(pair.a)
    assert record is not None
    assert (record.outcome, record.found, record.entries) == ("identical", 0, 12)
    assert record.content_bytes > 9 * BLOCK
    await pair.b.until(lambda status: status.verify.outcome == "identical")


async def test_each_corruption_is_found_reported_and_repaired(pair: Pair) -> None:
    """One after the other on one pair: found without repair, still there; repaired; clean afterwards."""
    await in_sync(pair)
    replica = pair.b.root
    for name, (corrupt, path, kind) in CORRUPTIONS.items():
        await asyncio.to_thread(keep_times(corrupt) if kind != "time" else corrupt, replica)
        record = await run_verify(pair.a)
        assert record.outcome == "different", name
        assert (path, kind) in found(record, pair.a.root), (name, record)
        status = await pair.b.until(lambda status: status.verify.differences > 0)
        assert status.verify.differences == pair.a.status.verify.differences == record.differences, name

        repaired = await run_verify(pair.a, repair=True)
        assert (repaired.outcome, repaired.differences, repaired.reason) == ("identical", 0, ""), (name, repaired)
        assert repaired.found == repaired.repaired >= 1, (name, repaired)
        assert all(one.repaired for one in repaired.listed), (name, repaired)
        await pair.b.until(lambda status: status.verify.outcome == "identical")
        left, right = await asyncio.to_thread(lambda: (tree(pair.a.root), tree(pair.b.root)))
        assert not differences(left, right), (name, differences(left, right))
        assert pair.a.status.link == "live", name


async def test_ranges_are_told_and_what_is_replaced_is_kept(pair: Pair, tmp_path: Path) -> None:
    await in_sync(pair)
    plain = pair.b.root / "plain.bin"
    await asyncio.to_thread(keep_times(one_byte), pair.b.root)
    stranger = pair.b.root / "deep" / "stranger"
    await asyncio.to_thread(keep_times(lambda _root: write(stranger, "not from here")), pair.b.root)
    corrupted = plain.read_bytes()
    record = await run_verify(pair.a, repair=True)
    content, extra = sorted(record.listed, key=lambda one: one.kind)
    assert (content.kind, content.offset_bytes, content.length_bytes) == ("content", 3 * BLOCK, BLOCK)
    assert (extra.kind, extra.path) == ("extra", str(pair.a.root / "deep" / "stranger"))
    assert content.repaired
    assert extra.repaired
    kept = entries(pair.b.config.quarantine_dir)
    assert {(one.kind, os.path.basename(one.path)) for one in kept} == {("range", "plain.bin"), ("entry", "stranger")}
    for one in kept:
        await asyncio.to_thread(restore, pair.b.config.quarantine_dir, one.id, str(tmp_path / one.kind))
    assert (tmp_path / "range").read_bytes() == corrupted[3 * BLOCK : 4 * BLOCK]
    assert (tmp_path / "entry").read_bytes() == b"not from here"


async def test_no_false_alarm_while_the_application_writes(pair: Pair) -> None:
    """Writers, renames, links and attribute changes go on during several verifies; none of them finds anything."""
    await in_sync(pair)
    root = pair.a.root

    def prepare() -> None:
        (root / "busy").mkdir()
        (root / "busy" / "big").write_bytes(bytes(16 * BLOCK))

    await asyncio.to_thread(prepare)
    stop = threading.Event()
    failures: list[BaseException] = []
    turns = [0, 0, 0]

    def guarded(index: int, turn: Callable[[random.Random], None]) -> None:
        chance = random.Random(index)
        try:
            while not stop.is_set():
                turn(chance)
                turns[index] += 1
        except BaseException as error:
            failures.append(error)
            raise

    def write(chance: random.Random) -> None:
        with open(root / "busy" / "big", "r+b") as stream:
            stream.seek(chance.randrange(16 * BLOCK))
            stream.write(chance.randbytes(chance.randrange(1, 5000)))

    def names(chance: random.Random) -> None:
        name = root / "busy" / f"f{chance.randrange(20)}"
        name.write_bytes(chance.randbytes(100))
        other = root / "busy" / f"g{chance.randrange(20)}"
        match chance.randrange(4):
            case 0:
                os.replace(name, other)
            case 1:
                other.unlink(missing_ok=True)
                os.link(name, other)
            case 2:
                name.unlink()
            case 3:
                os.replace(name, root / "deep" / name.name)

    def attributes(chance: random.Random) -> None:
        target = root / chance.choice(["small.txt", "alone", "deep"])
        os.chmod(target, chance.choice([0o600, 0o640, 0o755]))
        os.setxattr(root / "small.txt", "user.turn", str(chance.random()).encode())
        os.truncate(root / "plain.bin", chance.randrange(9 * BLOCK))

    def moved_on(enough: int) -> bool:
        return sum(turns) >= enough or bool(failures)

    workers = [
        threading.Thread(target=guarded, args=(index, turn)) for index, turn in enumerate((write, names, attributes))
    ]
    for worker in workers:
        worker.start()
    try:
        for _ in range(2):
            before = sum(turns)
            record = await run_verify(pair.a)
            assert (record.outcome, record.listed, record.reason) == ("identical", (), "")
            await eventually(partial(moved_on, before + 20))
    finally:
        stop.set()
        for worker in workers:
            await asyncio.to_thread(worker.join)
    assert not failures
    assert pair.a.status.link == "live"
    await verify(pair)


async def test_differences_stand_over_a_restart_and_end_with_a_full_resync(pair: Pair) -> None:
    await in_sync(pair)
    await asyncio.to_thread(keep_times(one_byte), pair.b.root)
    await run_verify(pair.a)
    await pair.b.until(lambda status: status.verify.differences == 1)
    await pair.b.close()
    await pair.b.launch()
    assert (await pair.b.until(lambda status: status.verify.differences == 1)).verify.outcome == "different"
    await pair.b.engine.become_replica(epoch=1)
    await pair.a.engine.release(epoch=2)
    await pair.a.until(lambda status: status.link == "live" and status.verify.differences == 0)
    await pair.b.until(lambda status: status.link == "live" and status.verify.differences == 0)
    await verify(pair)


async def test_a_resync_on_request_goes_through_the_supervisor(pair: Pair) -> None:
    """The pair parks, is released (as after the witness's word), and the replica is compared as a whole."""
    await in_sync(pair)
    await pair.a.engine.resync()
    await pair.a.until(lambda status: status.acknowledging == "parked")
    with pytest.raises(Exception, match="no live replica"):
        await pair.a.engine.resync()
    await pair.a.engine.release(epoch=2)
    await pair.a.until(lambda status: status.link == "live")
    assert pair.a.status.resync_rule == "asked-for"
    await pair.a.engine.require_peer(epoch=2)


async def test_a_hand_over_ends_a_verify(pair: Pair) -> None:
    await in_sync(pair)
    await pair.a.engine.verify(repair=False, rate_bytes_per_s=1000)
    await pair.a.engine.drain()
    record = last_record(pair.a)
    assert record is not None
    assert (record.outcome, record.reason) == ("incomplete", "this node hands over")


async def test_a_verify_is_refused_and_ended_with_the_reason(pair: Pair) -> None:
    with pytest.raises(Exception, match="this needs primary"):
        await pair.a.engine.verify(repair=False)
    await pair.a.engine.become_primary(epoch=1, paired=False)
    with pytest.raises(Exception, match="no identical replica"):
        await pair.a.engine.verify(repair=False)
    await pair.b.engine.become_replica(epoch=1)
    await pair.a.until(lambda status: status.link == "live")
    await asyncio.to_thread(fill, pair.a.root)
    # So slow that it cannot end by itself.
    await pair.a.engine.verify(repair=False, rate_bytes_per_s=1000)
    with pytest.raises(Exception, match="one is under way"):
        await pair.a.engine.verify(repair=False)
    await pair.a.engine.verify_stop()
    record = last_record(pair.a)
    assert record is not None
    assert (record.outcome, record.reason) == ("incomplete", "an operator stopped it")
    await verify(pair)
