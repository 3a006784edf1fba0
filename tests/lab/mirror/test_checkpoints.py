"""After a separation only what changed is compared, whoever crashed how; and without proof everything is."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mirror_agent.mirror.control import MirrorLimits
from mirror_agent.mirror.resync_choice import CTIME_MARGIN_NS

from tests.lab.mirror.chaos import Chaos
from tests.lab.mirror.pair import Node, Pair, differences, eventually, running_pair, tree

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("proving_file_system")]

QUICK = MirrorLimits(checkpoint_s=0.1)


def plant(root: Path, *, folders: int = 10, files: int = 10) -> None:
    for folder in range(folders):
        (root / f"d{folder}").mkdir()
        for number in range(files):
            (root / f"d{folder}" / f"f{number}").write_bytes(os.urandom(3000))
    os.link(root / "d0" / "f0", root / "d1" / "also-f0")


async def checkpoint(node: Node) -> None:
    """Everything done so far is before a checkpoint: two more begin after this moment."""
    seen = node.status.checkpoints
    # Something must have changed, or none is made.
    await asyncio.to_thread((node.root / "tick").write_text, "1")
    await node.until(lambda status: status.checkpoints > seen)
    seen = node.status.checkpoints
    await asyncio.to_thread((node.root / "tick").write_text, "2")
    await node.until(lambda status: status.checkpoints > seen)


async def same(pair: Pair, primary: Node, epoch: int) -> None:
    await primary.until(lambda status: status.link == "live", within_s=60)
    await primary.engine.require_peer(epoch=epoch)
    here = await asyncio.to_thread(tree, pair.a.root)
    there = await asyncio.to_thread(tree, pair.b.root)
    assert not differences(here, there)


def kept(node: Node) -> list[Path]:
    return [path for path in Path(node.config.quarantine_dir).rglob("*") if path.is_file()]


async def separate(pair: Pair, epoch: int) -> None:
    """a goes on alone; b is cut off."""
    await pair.relay.cut()
    await pair.a.until(lambda status: status.acknowledging == "parked")
    await pair.a.engine.release(epoch=epoch)


def change(root: Path) -> None:
    """One of every kind, away from most of what is there."""
    (root / "d2" / "f2").write_bytes(b"overwritten")
    with (root / "d2" / "f3").open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"in the middle")
    (root / "d3" / "new").write_text("new")
    (root / "d3" / "f1").unlink()
    (root / "d4" / "f1").rename(root / "d5" / "moved")
    (root / "d6").rename(root / "d6-renamed")
    (root / "d7").rename(root / "swap")
    (root / "d8").rename(root / "d7")
    (root / "swap").rename(root / "d8")
    os.chmod(root / "d9" / "f1", 0o600)
    os.chown(root / "d9" / "f2", 7, 8)
    os.setxattr(root / "d9" / "f3", "user.x", b"y")
    os.utime(root / "d9" / "f4", ns=(1, 2))
    os.truncate(root / "d9" / "f5", 100)
    os.link(root / "d9" / "f6", root / "d0" / "linked")
    (root / "d1" / "also-f0").unlink()
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "f").write_text("deep")
    os.symlink("d0", root / "link")


async def test_only_what_changed_is_compared(tmp_path: Path) -> None:
    async with running_pair(tmp_path, limits=QUICK) as pair:
        plant(pair.a.root)
        await pair.make_pair()
        assert pair.a.status.resync_rule == "no-checkpoint-here"
        await checkpoint(pair.a)
        await separate(pair, 2)
        await asyncio.to_thread(change, pair.a.root)
        await pair.relay.start()
        await same(pair, pair.a, 3)
        assert pair.a.status.resync_rule == "ranges"
        assert pair.b.status.resync_rule == "ranges"
        # Three of ten directories were renamed: under their new names the replica has other contents, or none.
        assert pair.a.status.resync_sent_bytes < 120_000


async def test_a_configuration_that_wants_everything_compared_gets_it(tmp_path: Path) -> None:
    async with running_pair(tmp_path, limits=replace(QUICK, resync_everything=True)) as pair:
        plant(pair.a.root, folders=2, files=2)
        await pair.make_pair()
        await checkpoint(pair.a)
        await separate(pair, 2)
        await pair.relay.start()
        await same(pair, pair.a, 3)
        assert pair.a.status.resync_rule == "configured"


async def test_ranges_that_were_written_are_all_that_is_compared(tmp_path: Path) -> None:
    async with running_pair(tmp_path, limits=QUICK) as pair:
        blob = os.urandom(8 << 20)
        (pair.a.root / "big").write_bytes(blob)
        await pair.make_pair()
        await checkpoint(pair.a)
        await separate(pair, 2)

        def write() -> None:
            with (pair.a.root / "big").open("r+b") as stream:
                for offset in (100_000, 3_000_000, (8 << 20) - 10):
                    stream.seek(offset)
                    stream.write(b"twenty bytes of text")

        await asyncio.to_thread(write)
        await pair.relay.start()
        await same(pair, pair.a, 3)
        assert pair.a.status.resync_rule == "ranges"
        assert pair.a.status.resync_sent_bytes <= 5 * 65536


@pytest.mark.parametrize("killed", ["primary", "replica", "both"])
async def test_killed_engines_lose_no_change(tmp_path: Path, killed: str) -> None:
    async with running_pair(tmp_path, limits=QUICK) as pair:
        plant(pair.a.root)
        await pair.make_pair()
        await checkpoint(pair.a)
        worker = Chaos(pair.a.root, 5)
        worker.start()
        await eventually(lambda: worker.operations > 100, 60)
        if killed in ("replica", "both"):
            await pair.b.kill()
        if killed in ("primary", "both"):
            await pair.a.kill()
        worker.enough.set()
        if killed == "replica":
            await pair.a.until(lambda status: status.acknowledging == "parked")
            await pair.a.engine.release(epoch=2)
        await asyncio.to_thread(worker.join, 30)
        if killed in ("primary", "both"):
            await pair.a.close()
            await pair.a.launch()
            await pair.a.engine.become_primary(epoch=2, paired=False)
        await asyncio.to_thread(change, pair.a.root)
        if killed in ("replica", "both"):
            await pair.b.close()
            await pair.b.launch()
            await pair.b.engine.become_replica(epoch=2)
        await same(pair, pair.a, 3)
        # What the kill interrupted may look like a surprise to the replica; then everything was compared.
        assert pair.a.status.resync_rule in ("ranges", "shortcut-failed")


async def test_a_file_whose_making_a_kill_interrupted(tmp_path: Path) -> None:
    """The primary had made it when it was killed, but neither noted nor sent it: no log says that a replica's file, if
    there was one, is another. It is compared as a whole, and the shortcut holds."""
    async with running_pair(tmp_path, limits=QUICK) as pair:
        plant(pair.a.root, folders=2, files=2)
        await pair.make_pair()
        # So long before the checkpoint that the replica's directory counts as unchanged since.
        long_ago_ns = (pair.b.root / "d1").stat().st_ctime_ns + CTIME_MARGIN_NS + 100_000_000
        await eventually(lambda: time.time_ns() > long_ago_ns)
        await checkpoint(pair.a)
        await pair.a.kill()
        await pair.a.close()
        await asyncio.to_thread((pair.a.root / "d1" / "made").write_bytes, os.urandom(300_000))
        await pair.a.launch()
        await pair.a.engine.become_primary(epoch=2, paired=False)

        def overwrite() -> None:
            with (pair.a.root / "d1" / "made").open("r+b") as stream:
                stream.seek(200_000)
                stream.write(b"in the middle")

        await asyncio.to_thread(overwrite)
        await same(pair, pair.a, 3)
        assert pair.a.status.resync_rule == "ranges"


async def test_the_old_primary_comes_back_as_replica(tmp_path: Path) -> None:
    """Both changed something the other does not have; the old primary's part goes to quarantine."""
    async with running_pair(tmp_path, limits=QUICK) as pair:
        plant(pair.a.root)
        await pair.make_pair()
        await checkpoint(pair.a)
        await pair.relay.cut()
        await pair.a.engine.release(epoch=2)  # a split brain, made by hand: what a wrote alone must not win silently
        await asyncio.to_thread((pair.a.root / "d1" / "f1").write_bytes, b"a alone")
        await asyncio.to_thread((pair.a.root / "d2" / "only-a").write_bytes, b"only a")
        await asyncio.to_thread((pair.a.root / "d5").rename, pair.a.root / "d5-by-a")
        await pair.a.kill()
        await pair.a.close()
        await pair.b.engine.seal(epoch=3)
        await pair.b.engine.become_primary(epoch=3, paired=False)
        await asyncio.to_thread((pair.b.root / "d3" / "f3").write_bytes, b"b serves")
        await asyncio.to_thread((pair.b.root / "d6").rename, pair.b.root / "d6-by-b")
        await pair.a.launch()
        await pair.a.engine.become_replica(epoch=3)
        await same(pair, pair.b, 4)
        assert pair.b.status.resync_rule == "candidates"
        assert (pair.a.root / "d1" / "f1").read_bytes() != b"a alone"
        assert {b"a alone", b"only a"} <= {path.read_bytes()[:7].strip() for path in kept(pair.a)} | {
            path.read_bytes() for path in kept(pair.a)
        }


async def test_an_interrupted_resync_goes_on_from_the_same_checkpoint(tmp_path: Path) -> None:
    async with running_pair(tmp_path, limits=replace(QUICK, resync_max_bytes_s=4 << 20)) as pair:
        await pair.make_pair()
        await checkpoint(pair.a)
        await separate(pair, 2)
        blobs = [os.urandom(1 << 20) for _ in range(8)]
        for number, blob in enumerate(blobs):
            await asyncio.to_thread((pair.a.root / f"f{number}").write_bytes, blob)
        await pair.relay.start()
        # Applied there, not only sent: at least two whole pieces of a MiB.
        await pair.b.until(lambda status: status.link == "resync" and status.replicated_bytes >= 3 << 20)
        await pair.relay.cut()
        await pair.a.until(lambda status: status.link == "connecting")
        assert pair.b.status.inconsistent
        await pair.relay.start()
        await same(pair, pair.a, 3)
        assert pair.a.status.resync_rule == "ranges"
        assert pair.a.status.resync_sent_bytes <= 6 << 20


async def test_without_proof_everything_is_compared(tmp_path: Path) -> None:
    async with running_pair(tmp_path, limits=QUICK) as pair:
        plant(pair.a.root)
        await pair.make_pair()
        await checkpoint(pair.a)
        await separate(pair, 2)
        await pair.b.close()
        # The replica's disk is another one: a copy of it.
        copied = pair.b.root.with_name("copy")
        pair.b.root.rename(copied)
        pair.b.root.mkdir()
        await pair.b.launch()
        await pair.b.engine.become_replica(epoch=2)
        await pair.relay.start()
        await same(pair, pair.a, 3)
        assert pair.a.status.resync_rule == "disk-there"
        await checkpoint(pair.a)
        await separate(pair, 4)
        # The replica's state is lost.
        await pair.b.close()
        (pair.b.state_dir / "checkpoints.json").unlink()
        await pair.b.launch()
        await pair.b.engine.become_replica(epoch=4)
        await pair.relay.start()
        await same(pair, pair.a, 5)
        assert pair.a.status.resync_rule == "no-checkpoint-there"
