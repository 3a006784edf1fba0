"""What fails around the engine, and what the application sees of it: full disks, slow and flapping links."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from mirror_agent.mirror import syscalls
from mirror_agent.mirror.control import MirrorLimits

from tests.lab.mirror.pair import Node, Pair, differences, eventually, running_pair, tree
from tests.lab.mirror.test_roles import Writer, lines

pytestmark = pytest.mark.lab


async def test_a_full_disk_of_the_primary_is_the_applications_error(pair: Pair) -> None:
    syscalls.mount("tmpfs", str(pair.a.root), "tmpfs", 0, "size=2m")
    try:
        await pair.make_pair()

        def fill(path: Path) -> int:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT)
            written = 0
            try:
                while written < 4 << 20:
                    written += os.write(fd, b"x" * 300_000)
            finally:
                os.close(fd)
            return written

        with pytest.raises(OSError) as raised:
            await asyncio.to_thread(fill, pair.a.root / "large")
        assert raised.value.errno == errno.ENOSPC
        written = (await asyncio.to_thread((pair.a.root / "large").stat)).st_size
        await asyncio.to_thread(os.truncate, pair.a.root / "large", 1000)
        await asyncio.to_thread((pair.a.root / "small").write_text, "fits again")
        assert written > 1_000_000
        assert pair.a.status.acknowledging == "paired"
        await pair.a.engine.require_peer(epoch=1)
        here = await asyncio.to_thread(tree, pair.a.root)
        assert not differences(here, await asyncio.to_thread(tree, pair.b.root))
    finally:
        await pair.a.close()
        syscalls.umount(str(pair.a.root), 0)


async def test_a_slow_link_only_takes_time(tmp_path: Path) -> None:
    """40 ms more each way: an acknowledgement takes longer than without, and nothing else happens."""
    async with running_pair(tmp_path) as pair:
        pair.relay.delay_s = 0.04
        await pair.make_pair()
        writer = Writer(pair.a.root / "log")
        writer.start()
        await writer.until(10)
        assert pair.a.status.acknowledging == "paired"
        await eventually(lambda: (pair.a.status.ack_latency_ms_p50 or 0) > 40)
        await writer.stop()
        assert lines(pair.b.root / "log") == list(range(1, writer.acknowledged + 1))


async def test_a_slow_replica_is_told_and_left_out_where_that_was_chosen(tmp_path: Path) -> None:
    """Calls of 0.3 s, where slow begins at 0.2 s: told; the same pair with the other choice parks and goes on alone."""
    bounds = MirrorLimits(slow_call_s=0.2, slow_for_s=1.5, leave_out_s=60.0)
    for limits in (bounds, replace(bounds, leave_out_slow=True)):
        home = tmp_path / str(limits.leave_out_slow)
        async with running_pair(home, limits=limits) as pair:
            await pair.make_pair()
            assert pair.a.status.replica_rule == ""
            pair.relay.delay_s = 0.15
            # Several, because a few calls tell nothing.
            writers = [Writer(pair.a.root / f"log{number}") for number in range(4)]
            for writer in writers:
                writer.start()
            await pair.a.until(lambda status: status.replica_rule == "slow")
            if limits.leave_out_slow:
                await pair.a.until(lambda status: status.acknowledging == "parked")
                await pair.a.engine.release(epoch=2)
                await writers[0].until(writers[0].acknowledged + 20)
                assert pair.a.status.acknowledging == "solo"
                assert pair.a.status.replica_left_out_s > 0
            else:
                assert pair.a.status.acknowledging == "paired"
                pair.relay.delay_s = 0.0
                await pair.a.until(lambda status: status.replica_rule == "")
                assert pair.a.status.replica_taken_out == 0
            for writer in writers:
                await writer.stop()


async def test_a_flapping_link_ends_in_identical_copies(pair: Pair) -> None:
    await pair.b.engine.become_replica(epoch=1)
    await pair.a.engine.become_primary(epoch=1, paired=False)
    writer = Writer(pair.a.root / "log")
    writer.start()
    for _ in range(6):
        before = writer.acknowledged
        await pair.a.until(lambda status: status.link in ("resync", "live"))
        await pair.relay.cut()
        await writer.until(before + 20)
        status = await pair.a.until(lambda status: status.link not in ("resync", "live"))
        assert status.acknowledging == "solo"
        await pair.relay.start()
    await pair.a.until(lambda status: status.link == "live")
    await pair.a.engine.require_peer(epoch=1)
    await writer.stop()
    await pair.a.engine.drain()
    assert not differences(tree(pair.a.root), tree(pair.b.root))


def forbid_large_files(node: Node, size_bytes: int) -> None:
    """From now on the engine's own writes beyond this size fail (EFBIG), as those to a broken part of a disk do."""
    process = node.engine._process
    assert process is not None
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


async def test_a_replica_that_cannot_write_is_taken_out(pair: Pair) -> None:
    await pair.make_pair()
    await asyncio.to_thread((pair.a.root / "f").write_bytes, b"x" * 1000)
    forbid_large_files(pair.b, 4096)
    writing = asyncio.create_task(asyncio.to_thread((pair.a.root / "g").write_bytes, b"y" * 10_000))
    await pair.a.until(lambda status: status.acknowledging == "parked" and status.link == "lost")
    assert "could not apply" in str(pair.a.status.error)
    await pair.a.engine.release(epoch=2)
    await writing
    assert (await asyncio.to_thread((pair.a.root / "g").read_bytes)) == b"y" * 10_000
    assert (pair.b.root / "f").read_bytes() == b"x" * 1000


async def test_a_write_error_of_the_primary_is_the_applications_error(pair: Pair) -> None:
    await pair.make_pair()
    forbid_large_files(pair.a, 4096)
    with pytest.raises(OSError) as raised:
        await asyncio.to_thread((pair.a.root / "g").write_bytes, b"y" * 100_000)
    assert raised.value.errno == errno.EFBIG
    assert pair.a.status.acknowledging == "paired"
    await asyncio.to_thread((pair.a.root / "h").write_bytes, b"z" * 1000)
    await pair.a.engine.require_peer(epoch=1)
    here = await asyncio.to_thread(tree, pair.a.root)
    assert not differences(here, await asyncio.to_thread(tree, pair.b.root))
