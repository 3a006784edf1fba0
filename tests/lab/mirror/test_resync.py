"""Resync: whatever the replica had, and whatever the application does meanwhile, both trees end up identical, and
nothing the replica held alone is lost without a trace."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest
from mirror_agent.mirror.control import MirrorLimits
from mirror_agent.mirror.limits import RESYNC_WINDOW_BYTES

from tests.lab.mirror.chaos import Chaos
from tests.lab.mirror.pair import DEADLINE_S, Node, Pair, differences, eventually, running_pair, tree

pytestmark = pytest.mark.lab


async def compare(pair: Pair, epoch: int) -> None:
    """Everything the application did is on both sides."""
    await pair.a.engine.require_peer(epoch=epoch)
    here = await asyncio.to_thread(tree, pair.a.root)
    there = await asyncio.to_thread(tree, pair.b.root)
    assert not differences(here, there)


def manifest(node: Node) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for path in sorted(Path(node.config.quarantine_dir).rglob("manifest.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def stored(node: Node, pattern: str) -> bytes:
    return b"".join(path.read_bytes() for path in Path(node.config.quarantine_dir).rglob(pattern) if path.is_file())


def plant(root: Path, *, blob: bytes) -> None:
    (root / "same").write_bytes(blob)
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "e" / "f").write_bytes(blob[:1000])
    os.symlink("same", root / "s")
    os.link(root / "same", root / "d" / "same-too")


def sent_bytes(node: Node) -> int:
    return max(status.replicated_bytes for status in node.seen)


async def test_identical_trees_send_no_content(pair: Pair) -> None:
    blob = os.urandom(3 << 20)
    plant(pair.a.root, blob=blob)
    shutil.copytree(pair.a.root, pair.b.root, dirs_exist_ok=True, symlinks=True)
    await pair.make_pair()
    await compare(pair, 1)
    assert sent_bytes(pair.a) < 200_000
    assert [line["kind"] for line in manifest(pair.b)] == ["entry"]  # the copy had no hard link


async def test_only_differing_ranges_travel_and_are_kept(pair: Pair) -> None:
    blob = os.urandom(8 << 20)
    (pair.a.root / "f").write_bytes(blob)
    changed = bytearray(blob)
    changed[1_000_000:1_000_010] = b"differing!"
    changed[5_000_000:5_000_010] = b"and again!"
    (pair.b.root / "f").write_bytes(bytes(changed) + b"longer by this tail")
    await pair.make_pair()
    await compare(pair, 1)
    assert sent_bytes(pair.a) < 400_000
    lines = manifest(pair.b)
    assert {line["kind"] for line in lines} == {"range"}
    ranges = stored(pair.b, "ranges.bin")
    for line in lines:
        start, length, offset = line["stored_offset"], line["length"], line["offset"]
        assert isinstance(start, int)
        assert isinstance(length, int)
        assert isinstance(offset, int)
        expected = (bytes(changed) + b"longer by this tail")[offset : offset + length]
        assert ranges[start : start + length] == expected
    assert b"differing!" in ranges
    assert b"longer by this tail" in ranges


async def test_every_kind_of_difference(pair: Pair) -> None:
    a, b = pair.a.root, pair.b.root
    blob = os.urandom(200_000)
    plant(a, blob=blob)
    plant(b, blob=blob)
    (a / "kind").mkdir()
    (b / "kind").write_text("a file here, a directory there")
    (a / "kind2").write_text("a file there, a directory here")
    (b / "kind2" / "deep" / "deeper").mkdir(parents=True)
    (b / "kind2" / "deep" / "deeper" / "precious").write_text("precious")
    (b / "only-here").mkdir()
    os.mkfifo(b / "only-here" / "fifo")
    os.symlink("elsewhere", b / "only-here" / "link")
    os.symlink("x", a / "link")
    os.symlink("y", b / "link")
    # Two names of one inode here, two files there; and the other way round.
    (b / "p").write_text("one inode, two names")
    os.link(b / "p", b / "q")
    (a / "p").write_text("file p")
    (a / "q").write_text("file q")
    (a / "r").write_text("linked")
    os.link(a / "r", a / "t")
    (b / "r").write_text("file r")
    (b / "t").write_text("file t")
    # The same with symbolic links and a fifo, which have no content to be compared.
    os.symlink("target", a / "l1")
    os.link(a / "l1", a / "l2", follow_symlinks=False)
    os.symlink("target", b / "l1")
    os.symlink("target", b / "l2")
    os.symlink("target", a / "m1")
    os.symlink("target", a / "m2")
    os.symlink("target", b / "m1")
    os.link(b / "m1", b / "m2", follow_symlinks=False)
    os.mkfifo(a / "p1")
    os.link(a / "p1", a / "p2")
    (a / "modes").touch(0o640)
    (b / "modes").touch(0o600)
    os.chown(b / "modes", 77, 78)
    os.setxattr(b / "modes", "user.extra", b"x")
    os.setxattr(a / "modes", "user.wanted", b"y")
    (a / "empty").touch()
    (b / "empty").write_text("not empty")
    os.mknod(a / "device", 0o20644, os.makedev(1, 3))
    os.mknod(b / "device", 0o20644, os.makedev(1, 5))
    (a / "sparse").touch()
    os.truncate(a / "sparse", 5_000_000)
    os.utime(a / "d", ns=(0, 123_456_789))
    await pair.make_pair()
    await compare(pair, 1)
    kept = {str(line["path"]).rsplit("/", 1)[-1] for line in manifest(pair.b)}
    assert {"kind", "kind2", "only-here", "link", "empty", "device"} <= kept
    kept_bytes = stored(pair.b, "*")
    # "file r" became the linked file in place (kept as a range), "file t" gave way to its second name (an entry).
    for lost in (b"precious", b"one inode, two names", b"file r", b"file t", b"not empty"):
        assert lost in kept_bytes, lost


class Crowd:
    """Several seeded applications on one directory."""

    def __init__(self, root: Path, seed: int, size: int) -> None:
        self.workers = [Chaos(root, seed * 10 + number) for number in range(size)]
        for worker in self.workers:
            worker.start()

    async def go_on(self, operations: int = 40) -> None:
        """Until each has done so many more."""
        floors = [worker.operations + operations for worker in self.workers]
        await eventually(lambda: all(w.operations >= floor for w, floor in zip(self.workers, floors, strict=True)), 60)

    async def stop(self) -> None:
        for worker in self.workers:
            worker.enough.set()
        for worker in self.workers:
            await asyncio.to_thread(worker.join, 30)
            assert not worker.is_alive()


async def test_directory_used_for_the_first_time_after_it_was_listed(tmp_path: Path) -> None:
    """The resync listed and forgot it before the application came upon it; what happens in it then is sent all the
    same, although the resync goes on for long."""
    async with running_pair(tmp_path, limits=MirrorLimits(peer_silence_s=DEADLINE_S)) as pair:
        root = pair.a.root
        for name in ("one", "two", "three"):
            (root / "deep" / name).mkdir(parents=True)
        (root / "deep" / "two" / "goes").touch()
        (root / "big").write_bytes(os.urandom(8 << 20))
        await pair.b.engine.become_replica(epoch=1)
        pair.relay.go_silent(after_bytes=2 << 20)  # content of the file: by then every name was sent
        await pair.a.engine.become_primary(epoch=1, paired=False)
        await eventually(lambda: pair.relay.silent)

        def use() -> None:
            (root / "deep" / "one" / "new").write_text("new")
            (root / "deep" / "two" / "goes").unlink()
            (root / "deep" / "three" / "below").mkdir()
            os.rename(root / "deep" / "one" / "new", root / "deep" / "three" / "below" / "moved")

        await asyncio.to_thread(use)
        await pair.a.until(lambda status: status.link == "resync")
        pair.relay.go_on()
        await pair.a.until(lambda status: status.link == "live")
        await compare(pair, 1)
        assert (pair.b.root / "deep" / "three" / "below" / "moved").read_text() == "new"


async def test_file_that_lives_on_under_a_name_still_to_be_listed(tmp_path: Path) -> None:
    """A name is taken over, during the resync, by a file from a directory the replica does not have yet, and its former
    file lives on in another such directory: they stay two files on the replica."""
    async with running_pair(tmp_path, limits=MirrorLimits(peer_silence_s=DEADLINE_S)) as pair:
        root = pair.a.root
        (root / "from").mkdir()
        (root / "to").mkdir()
        (root / "taken").write_bytes(b"former" * 20_000)
        (root / "from" / "mover").write_bytes(b"mover!" * 20_000)
        (root / "empty").mkdir()
        (root / "from" / "directory").mkdir()
        shutil.copytree(root, pair.b.root, dirs_exist_ok=True)
        for node in (pair.a, pair.b):
            # More than the window: nothing below the root is listed before answers.
            (node.root / "sparse").touch()
            os.truncate(node.root / "sparse", RESYNC_WINDOW_BYTES + (32 << 20))
        os.link(root / "taken", root / "to" / "former")
        await pair.b.engine.become_replica(epoch=1)
        pair.relay.go_silent(after_bytes=20_000)  # the root's names and the first questions about the sparse file
        await pair.a.engine.become_primary(epoch=1, paired=False)
        await eventually(lambda: pair.relay.silent)
        await asyncio.to_thread(os.rename, root / "from" / "mover", root / "taken")
        await asyncio.to_thread(os.rename, root / "from" / "directory", root / "empty")
        await pair.a.until(lambda status: status.link == "resync")
        pair.relay.go_on()
        await pair.a.until(lambda status: status.link == "live")
        await compare(pair, 1)
        assert (pair.b.root / "to" / "former").read_bytes() == b"former" * 20_000
        assert (pair.b.root / "taken").read_bytes() == b"mover!" * 20_000


async def test_application_runs_while_the_replica_comes_and_goes(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        await pair.b.engine.become_replica(epoch=1)
        await pair.a.engine.become_primary(epoch=1, paired=False)
        crowd = Crowd(pair.a.root, 1, 2)
        for _ in range(3):
            await pair.a.until(lambda status: status.link == "live", within_s=60)
            await crowd.go_on()
            await pair.relay.cut()
            await pair.a.until(lambda status: status.link == "connecting")
            await crowd.go_on()
            await pair.relay.start()
        await pair.a.until(lambda status: status.link == "live", within_s=60)
        await pair.a.engine.require_peer(epoch=2)
        await crowd.go_on()
        await crowd.stop()
        await compare(pair, 2)
        assert not [status for status in pair.a.seen if "could not apply" in str(status.error)]
