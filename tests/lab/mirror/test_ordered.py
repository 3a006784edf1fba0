"""What `ordered` answers before the replica has it, and what not."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.mirror.pair import DEADLINE_S, differences, running_pair, tree

pytestmark = pytest.mark.lab

OTHERS = 20


def flushed_by_fsync(path: Path) -> None:
    with path.open("wb") as stream:
        stream.write(b"what to do to undo it")
        stream.flush()
        os.fsync(stream.fileno())


def flushed_by_each_write(path: Path) -> None:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_DSYNC)
    os.write(fd, b"what to do to undo it")
    os.close(fd)


@pytest.mark.parametrize("make", [flushed_by_fsync, flushed_by_each_write])
async def test_a_file_that_was_flushed_is_gone_on_both_nodes_when_its_removal_returns(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """SQLite commits by such a removal, and goes on if it cannot open the directory to flush it."""
    async with running_pair(tmp_path, mode="ordered") as pair:
        await pair.make_pair()
        journal = pair.a.root / "journal"
        others = pair.a.root / "others"  # the kernel holds the directory of a name that is being removed
        begun = threading.Event()

        def prepare() -> None:
            make(journal)
            others.mkdir()
            for number in range(OTHERS):
                (others / str(number)).write_bytes(b"not flushed")

        def commit() -> None:
            begun.set()
            journal.unlink()

        def remove_others() -> None:
            assert begun.wait(DEADLINE_S)
            for number in range(OTHERS):
                (others / str(number)).unlink()

        await asyncio.to_thread(prepare)
        pair.relay.go_silent()
        removal = asyncio.create_task(asyncio.to_thread(commit))
        await asyncio.to_thread(remove_others)
        assert not removal.done()
        assert (pair.b.root / "journal").exists()
        pair.relay.go_on()
        await removal
        assert not (pair.b.root / "journal").exists()
        await pair.a.engine.require_peer(epoch=1)
        assert not differences(tree(pair.a.root), tree(pair.b.root))
