"""Edges: few descriptors, a full replica, interrupted callers, a data disk that is not there, several paths."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mirror_agent.mirror import mounts, syscalls
from mirror_agent.mirror.control import MirrorError, MirrorLimits

from tests.lab.mirror.chaos import Chaos
from tests.lab.mirror.pair import FRONT, Pair, differences, eventually, running_pair, tree

pytestmark = pytest.mark.lab


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


@contextlib.asynccontextmanager
async def small_disk(pair: Pair, size: str) -> AsyncIterator[None]:
    """The replica's directory is a file system of its own, of this size."""
    syscalls.mount("tmpfs", str(pair.b.root), "tmpfs", 0, f"size={size}")
    try:
        yield
    finally:
        await pair.b.close()
        syscalls.umount(str(pair.b.root), 0)


def open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def test_few_descriptors_are_enough(tmp_path: Path) -> None:
    """Inodes far beyond the limit, many of them unlinked while open: descriptors stay bounded, trees identical."""
    async with running_pair(tmp_path, limits=MirrorLimits(open_inodes_max=64)) as pair:
        await pair.make_pair()

        def populate() -> None:
            for number in range(130):
                directory = pair.a.root / f"d{number % 20}"
                directory.mkdir(exist_ok=True)
                (directory / f"f{number}").write_bytes(os.urandom(100))

        await asyncio.to_thread(populate)
        chaos = Chaos(pair.a.root, 5)
        chaos.start()
        await eventually(lambda: chaos.operations > 80)
        chaos.enough.set()
        await asyncio.to_thread(chaos.join, 30)
        await pair.a.engine.require_peer(epoch=1)
        here = await asyncio.to_thread(tree, pair.a.root)
        assert not differences(here, await asyncio.to_thread(tree, pair.b.root))
        for node in pair.nodes.values():
            process = node.engine._process
            assert process is not None
            assert open_descriptors(process.pid) < 2 * 64 + 120


async def test_file_system_without_handles(tmp_path: Path) -> None:
    """On overlayfs every inode keeps its descriptor; everything else is as usual."""

    def populate(root: Path) -> None:
        for number in range(130):
            (root / f"f{number}").write_bytes(b"x" * number)
        for number in range(0, 129, 3):
            os.rename(root / f"f{number}", root / f"g{number}")
            os.unlink(root / f"f{number + 1}")

    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    async with running_pair(tmp_path, limits=MirrorLimits(open_inodes_max=64)) as pair:
        syscalls.mount("overlay", str(pair.a.root), "overlay", 0, options)
        try:
            await pair.make_pair()
            await asyncio.to_thread(populate, pair.a.root)
            await pair.a.engine.require_peer(epoch=1)
            here = await asyncio.to_thread(tree, pair.a.root)
            assert not differences(here, await asyncio.to_thread(tree, pair.b.root))
        finally:
            await pair.a.close()
            syscalls.umount(str(pair.a.root), 0)


async def test_full_replica_parks_and_is_released(pair: Pair) -> None:
    """A NAK takes the replica out; what the application was told stays true."""
    async with small_disk(pair, "2m"):
        await pair.make_pair()
        await asyncio.to_thread(write, pair.a.root / "small", "fits")
        large = asyncio.create_task(asyncio.to_thread(write, pair.a.root / "large", "x" * 4_000_000))
        await pair.a.until(lambda status: status.acknowledging == "parked")
        assert "No space left" in str(pair.a.status.error)
        assert not large.done()
        await pair.a.engine.release(epoch=2)
        await large
        assert (await asyncio.to_thread((pair.a.root / "large").stat)).st_size == 4_000_000
        assert (pair.b.root / "small").read_text() == "fits"


async def test_free_space_is_the_smaller_of_both(pair: Pair) -> None:
    async with small_disk(pair, "8m"):
        await pair.make_pair()
        await eventually(lambda: os.statvfs(pair.a.root).f_bavail * os.statvfs(pair.a.root).f_frsize <= 8 << 20)


CALLER = """
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, *map(float, sys.argv[2:]))
print("calling", flush=True)
os.mkdir(sys.argv[1])
signal.setitimer(signal.ITIMER_REAL, 0)  # its handler does not last to the interpreter's end
"""


@contextlib.asynccontextmanager
async def parked_caller(pair: Pair, directory: Path, *timer_s: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that makes the directory, and is still at it after a while; timer_s: first and interval of a signal."""
    await pair.make_pair()
    await pair.relay.cut()
    await pair.a.until(lambda status: status.acknowledging == "parked")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CALLER, str(directory), *timer_s, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"calling\n"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(child.wait(), 0.3)
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        async with asyncio.timeout(5):
            await child.communicate()


@pytest.mark.skipif(FRONT == "library", reason="the FUSE library does not tell who was killed: released later")
@pytest.mark.parametrize("timer_s", [("0", "0"), ("0.02", "0"), ("0.02", "0.02")], ids=["plain", "signalled", "often"])
async def test_killed_caller_of_a_parked_call_goes_away(pair: Pair, timer_s: tuple[str, str]) -> None:
    async with parked_caller(pair, pair.a.root / "never", *timer_s) as child:
        child.kill()
        async with asyncio.timeout(5):
            assert await child.wait() == -signal.SIGKILL
    await pair.a.engine.release(epoch=2)
    assert not (await asyncio.to_thread((pair.a.root / "never").exists))


async def test_a_signal_does_not_end_a_parked_call(pair: Pair) -> None:
    """Timers, children that end, a stop and a continuation: programs do not expect EINTR from a file system."""
    async with parked_caller(pair, pair.a.root / "made", "0.02", "0.02") as child:
        child.send_signal(signal.SIGSTOP)
        child.send_signal(signal.SIGCONT)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(child.wait(), 0.3)
        await pair.a.engine.release(epoch=2)
        async with asyncio.timeout(5):
            assert await child.wait() == 0
    assert await asyncio.to_thread((pair.a.root / "made").is_dir)


async def test_missing_data_disk_is_not_taken_for_an_empty_one(pair: Pair) -> None:
    await pair.make_pair()
    await asyncio.to_thread(write, pair.a.root / "x", "precious")
    await pair.a.engine.drain()
    os.rename(pair.a.root, pair.a.root.with_name("elsewhere"))
    with pytest.raises(MirrorError, match="data disk"):
        await pair.a.engine.become_primary(epoch=2, paired=False)
    pair.a.root.mkdir()
    with pytest.raises(MirrorError, match="not the directory"):
        await pair.a.engine.become_primary(epoch=2, paired=False)
    assert not mounts.mounted(str(pair.a.root))
    pair.a.root.rmdir()
    os.rename(pair.a.root.with_name("elsewhere"), pair.a.root)
    await pair.a.engine.become_primary(epoch=2, paired=True)


async def test_replaced_disk_of_a_replica_is_filled_again(pair: Pair) -> None:
    await pair.make_pair()
    await asyncio.to_thread(write, pair.a.root / "x", "precious")
    await pair.a.engine.drain()
    await pair.b.engine.seal(epoch=2)
    shutil.rmtree(pair.b.root)
    await pair.b.engine.become_replica(epoch=2)
    await pair.a.engine.become_primary(epoch=2, paired=True)
    await pair.a.until(lambda status: "not identical" in str(status.error))
    await pair.a.engine.release(epoch=3)
    await pair.a.until(lambda status: status.link == "live")
    assert (pair.b.root / "x").read_text() == "precious"


async def test_several_paths_share_one_order(tmp_path: Path) -> None:
    async with running_pair(tmp_path, roots=3) as pair:
        await pair.make_pair()
        for number, root in enumerate(pair.a.roots):
            await asyncio.to_thread(write, root / "f", f"root {number}")
        held = os.open(pair.a.roots[2] / "f", os.O_RDONLY)
        try:
            with pytest.raises(MirrorError, match="in use"):
                await pair.a.engine.drain()
        finally:
            os.close(held)
        # The paths that were unmounted already serve again, with the same replica.
        await asyncio.to_thread(write, pair.a.roots[0] / "g", "again")
        assert pair.a.status.acknowledging == "paired"
        with pytest.raises(OSError):
            os.rename(pair.a.roots[0] / "g", pair.a.roots[1] / "g")
        await pair.a.engine.drain()
        for here, there in zip(pair.a.roots, pair.b.roots, strict=True):
            assert not differences(tree(here), tree(there))
