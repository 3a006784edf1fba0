"""A directory of many entries is resynchronised while its names change: no call waits for the end of the listing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
from pathlib import Path

import pytest

from tests.lab.mirror.pair import Pair, differences, tree

pytestmark = pytest.mark.lab

# Several turns of a listing. MIRROR_LARGE_DIRECTORY=100000 asks for more, and for names that change during the listing.
ENTRIES = int(os.environ.get("MIRROR_LARGE_DIRECTORY", "800"))
LARGE = 100_000


def plant(root: Path) -> None:
    """Both nodes have most of the names; mknod is the cheapest way to a file."""
    (root / "large").mkdir()
    directory = os.open(root / "large", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(ENTRIES):
            os.mknod(f"f{number}", 0o100644, dir_fd=directory)
    finally:
        os.close(directory)


class Namer(threading.Thread):
    """Makes, renames, links and removes names of the directory, old ones and its own, until it is told to stop."""

    def __init__(self, directory: Path) -> None:
        super().__init__(daemon=True)
        self._directory = directory
        self._random = random.Random(3)
        self.enough = threading.Event()
        self.done = 0

    def run(self) -> None:
        number = 0
        while not self.enough.is_set():
            number += 1
            old = self._directory / f"f{self._random.randrange(ENTRIES)}"
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                match number % 5:
                    case 0:
                        (self._directory / f"new{number}").write_text("new")
                    case 1:
                        old.rename(self._directory / f"renamed{number}")
                    case 2:
                        old.unlink()
                    case 3:
                        os.link(old, self._directory / f"linked{number}")
                    case 4:
                        old.rename(self._directory / f"f{self._random.randrange(ENTRIES)}")
                self.done += 1


async def during_the_listing(pair: Pair, namer: Namer) -> None:
    """Names change before the listing is over."""
    await pair.a.until(lambda status: status.link == "resync" and status.resync_done_entries > 1000, within_s=120)
    before = namer.done
    status = await pair.a.until(lambda status: status.link == "live" or namer.done >= before + 100, within_s=120)
    assert status.link == "resync", f"{namer.done - before} names changed during the whole listing"


async def test_names_change_while_a_large_directory_is_listed(pair: Pair) -> None:
    await asyncio.gather(*(asyncio.to_thread(plant, node.root) for node in (pair.a, pair.b)))
    await pair.a.engine.become_primary(epoch=1, paired=False)
    namer = Namer(pair.a.root / "large")
    namer.start()
    try:
        await pair.b.engine.become_replica(epoch=1)
        if ENTRIES >= LARGE:
            await during_the_listing(pair, namer)
        else:
            await pair.a.until(lambda status: status.link == "live", within_s=60)
    finally:
        namer.enough.set()
        await asyncio.to_thread(namer.join, 60)
    await pair.a.until(lambda status: status.link == "live", within_s=120)
    await pair.a.engine.require_peer(epoch=1)
    here = await asyncio.to_thread(tree, pair.a.root)
    there = await asyncio.to_thread(tree, pair.b.root)
    assert not differences(here, there)
