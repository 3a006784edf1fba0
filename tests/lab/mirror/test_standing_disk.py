"""The replica's disk does not answer: the primary waits for one that gets on, and goes on without one that does not.

The disk is an image of its own, frozen (fsfreeze): every write to it waits in the kernel until it is thawed.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from mirror_agent.mirror import syscalls
from mirror_agent.mirror.control import MirrorLimits
from mirror_agent.mirror.standstill import completed_requests

from tests.lab.mirror.pair import DEADLINE_S, Pair, differences, eventually, running_pair, tree

pytestmark = pytest.mark.lab

STALL_S = 1.5
LIMITS = MirrorLimits(stall_s=STALL_S, leave_out_s=0.2, checkpoint_s=3600.0)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def frozen(place: Path) -> Iterator[None]:
    run("fsfreeze", "--freeze", str(place))
    try:
        yield
    finally:
        run("fsfreeze", "--unfreeze", str(place))


@contextlib.contextmanager
def disk(image: Path, place: Path) -> Iterator[None]:
    """An ext4 of its own at `place`; skips the test where this machine cannot mount, freeze or count that."""
    with image.open("wb") as file:
        file.truncate(64 << 20)
    with contextlib.ExitStack() as mounted:
        try:
            run("mkfs.ext4", "-q", str(image))
            run("mount", "-o", "loop", str(image), str(place))
            mounted.callback(syscalls.umount, str(place), syscalls.MNT_DETACH)
            with frozen(place):
                pass
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no image can be mounted and frozen here: {getattr(error, 'stderr', error)}")
        if completed_requests(place.stat().st_dev) is None:
            pytest.skip("the loop device counts no requests here")
        (place / "lost+found").rmdir()
        yield


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """In sync; the replica has a disk of its own. (The images are umounted after the engines have ended.)"""
    with contextlib.ExitStack() as disks:
        async with running_pair(tmp_path, limits=LIMITS) as running:
            disks.enter_context(disk(tmp_path / "disk", running.b.root))
            await running.make_pair()
            yield running
            await running.close()


@contextlib.contextmanager
def reading(device: Path) -> Iterator[None]:
    """Requests to the device go on being completed, as they are while a disk full of dirty pages is written."""
    enough = threading.Event()

    def read() -> None:
        fd = os.open(device, os.O_RDONLY | os.O_DIRECT)
        try:
            with mmap.mmap(-1, 4096) as buffer:
                while not enough.wait(0.02):
                    os.preadv(fd, [buffer], 0)
        finally:
            os.close(fd)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        enough.set()
        reader.join()


async def test_a_disk_that_stands_still_is_not_waited_for(pair: Pair) -> None:
    """Nothing is acknowledged until the supervisor has the witness's word; the replica comes back by itself."""
    with frozen(pair.b.root):
        writing = asyncio.create_task(asyncio.to_thread((pair.a.root / "f").write_text, "written meanwhile"))
        await pair.a.until(lambda status: status.acknowledging == "parked")
        assert "stalled" in str(pair.a.status.error)
        assert not writing.done()
        await pair.a.engine.release(epoch=2)
        async with asyncio.timeout(DEADLINE_S):
            await writing
        assert pair.a.status.acknowledging == "solo"
        assert pair.a.status.replica_taken_out == 1
    await pair.a.until(lambda status: status.link == "live")
    await pair.a.engine.require_peer(epoch=3)
    assert pair.a.status.replica_rule == ""
    assert not differences(tree(pair.a.root), await asyncio.to_thread(tree, pair.b.root))


async def test_a_disk_that_gets_on_is_waited_for(pair: Pair) -> None:
    """A flush that takes longer than the limit, on a disk that completes requests all the time."""
    device = Path("/dev") / Path(run("findmnt", "-no", "SOURCE", str(pair.b.root))).name
    began_s = time.monotonic()
    with frozen(pair.b.root), reading(device):
        writing = asyncio.create_task(asyncio.to_thread((pair.a.root / "f").write_text, "written in the end"))
        await eventually(lambda: time.monotonic() - began_s > 2 * STALL_S + 1.0)
        assert pair.a.status.acknowledging == "paired"
        assert not writing.done()
    async with asyncio.timeout(DEADLINE_S):
        await writing
    assert (pair.a.status.acknowledging, pair.a.status.replica_taken_out) == ("paired", 0)
    await pair.a.engine.require_peer(epoch=1)
    assert not differences(tree(pair.a.root), await asyncio.to_thread(tree, pair.b.root))
