"""The front through a FUSE library keeps the engine's promises. A few of its cases; `make front-library` runs all of
the mirror's suite on it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mirror import posix_data, posix_more, posix_names
from tests.lab.mirror.pair import Pair, differences, running_pair, tree
from tests.lab.mirror.test_roles import Writer, lines

pytestmark = pytest.mark.lab

CASES = (
    posix_names.rename_flags,
    posix_names.rename_same_inode,
    posix_names.hard_links,
    posix_names.unlinked_but_open,
    posix_names.access_lists,
    posix_names.explicit_times,
    posix_data.sparse_files,
    posix_data.truncates,
    posix_more.truncation_on_open,
)


def carried_out(root: Path) -> Iterator[str]:
    for case in CASES:
        directory = root / case.__name__
        directory.mkdir()
        case(directory)
        yield case.__name__


async def identical(pair: Pair) -> None:
    await pair.a.engine.require_peer(epoch=1)
    here = await asyncio.to_thread(tree, pair.a.root)
    assert not differences(here, await asyncio.to_thread(tree, pair.b.root))


async def test_cases_of_names_and_data_reach_the_replica_alike(tmp_path: Path) -> None:
    async with running_pair(tmp_path, relayed=False, front="library") as pair:
        await pair.make_pair()
        done = await asyncio.to_thread(lambda: list(carried_out(pair.a.root)))
        assert len(done) == len(CASES)
        await identical(pair)


async def test_nothing_is_acknowledged_between_the_loss_of_the_peer_and_the_release(tmp_path: Path) -> None:
    """Calls wait while paired and cut off, go on alone at the word of the supervisor, then the replica catches up."""
    async with running_pair(tmp_path, front="library") as pair:
        await pair.make_pair()
        writer = Writer(pair.a.root / "log")
        writer.start()
        await writer.until(5)
        await pair.relay.cut()
        await pair.a.until(lambda status: status.acknowledging == "parked")
        # Reads are answered meanwhile.
        size = (await asyncio.to_thread((pair.a.root / "log").stat)).st_size
        before = writer.acknowledged
        assert size // 9 - before in (0, 1)
        await pair.a.engine.release(epoch=2)
        await writer.until(before + 5)
        await writer.stop()
        await pair.relay.start()
        await pair.a.until(lambda status: status.link == "live")
        await pair.a.engine.require_peer(epoch=3)
        assert lines(pair.b.root / "log") == list(range(1, writer.acknowledged + 1))


async def test_an_abort_ends_the_calls_that_wait(tmp_path: Path) -> None:
    """Nobody hangs, and what was not acknowledged is an error."""
    async with running_pair(tmp_path, front="library") as pair:
        await pair.make_pair()
        writer = Writer(pair.a.root / "log")
        writer.start()
        await writer.until(3)
        await pair.relay.cut()
        await pair.a.until(lambda status: status.acknowledging == "parked")
        await pair.a.engine.abort()
        await asyncio.to_thread(writer.join, 30)
        assert not writer.is_alive()
        assert writer.error is not None
        assert writer.error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)


async def test_a_handover_needs_no_resync(tmp_path: Path) -> None:
    async with running_pair(tmp_path, relayed=False, front="library") as pair:
        await pair.make_pair()
        await asyncio.to_thread((pair.a.root / "x").write_text, "1")
        await pair.a.engine.drain()
        await pair.b.engine.seal(epoch=2)
        await pair.b.engine.become_primary(epoch=2, paired=True)
        await pair.a.engine.become_replica(epoch=2)
        await pair.b.until(lambda status: status.link == "live" and status.acknowledging == "paired")
        await asyncio.to_thread(os.rename, pair.b.root / "x", pair.b.root / "y")
        await pair.b.engine.require_peer(epoch=2)
        assert (pair.a.root / "y").read_text() == "1"
        assert pair.b.status.acknowledging == "paired"
