"""Directories that get another place, and files with names in several: what a shortcut must know of them."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from mirror_agent.mirror.checkpoints import CheckpointStore
from mirror_agent.mirror.control import MirrorLimits
from mirror_agent.mirror.resync_choice import CTIME_MARGIN_NS

from tests.lab.mirror.pair import CLUSTER, differences, eventually, running_pair, tree
from tests.lab.mirror.posix_names import EXCHANGE, renameat2
from tests.lab.mirror.test_separations import forge

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("proving_file_system")]

FOLDERS = tuple(f"day{number}" for number in range(6))


async def test_a_file_keeps_all_its_names_when_some_lie_in_renamed_directories(tmp_path: Path) -> None:
    """As a backup that rotates its directories by renaming them and links what did not change."""
    async with running_pair(tmp_path, limits=MirrorLimits(checkpoint_s=3600), relayed=False) as pair:
        for folder in FOLDERS:
            (pair.a.root / folder).mkdir()
            if folder == FOLDERS[0]:
                (pair.a.root / folder / "f").write_bytes(os.urandom(100_000))
            else:
                os.link(pair.a.root / FOLDERS[0] / "f", pair.a.root / folder / "f")
        await pair.make_pair()
        await pair.a.until(lambda status: status.checkpoints == 1)
        await pair.b.kill()
        await pair.a.until(lambda status: status.acknowledging == "parked")
        await pair.a.engine.release(epoch=2)

        def rotate() -> None:
            for folder in FOLDERS[1::2]:
                (pair.a.root / folder).rename(pair.a.root / f"{folder}-old")

        await asyncio.to_thread(rotate)
        await pair.a.close()
        await pair.b.close()
        clock_ns = time.time_ns() + CTIME_MARGIN_NS + 100_000_000
        for node in (pair.a, pair.b):
            forge(node, clock_ns=clock_ns, boot="0" * 36)
        await eventually(lambda: time.time_ns() > clock_ns)
        await pair.a.launch()
        await pair.b.launch()
        await pair.b.engine.become_replica(epoch=3)
        await pair.a.engine.become_primary(epoch=3, paired=False)
        await pair.a.until(lambda status: status.link == "live")
        assert pair.a.status.resync_rule == "candidates"
        await pair.a.engine.require_peer(epoch=3)

        def change() -> None:
            with (pair.a.root / FOLDERS[2] / "f").open("r+b") as stream:
                stream.write(b"through one of its names")

        await asyncio.to_thread(change)
        await pair.a.engine.require_peer(epoch=3)  # the time of the write follows now, not up to 2 s later
        assert len({path.stat().st_ino for path in pair.b.root.glob("*/f")}) == 1
        assert not differences(tree(pair.a.root), tree(pair.b.root))


async def test_the_replica_notes_the_directories_it_moves(tmp_path: Path) -> None:
    """The primary notes them as well, but may lose the moves themselves with its power."""
    async with running_pair(tmp_path, limits=MirrorLimits(checkpoint_s=3600), relayed=False) as pair:
        for name in ("one", "two", "three"):
            (pair.a.root / name).mkdir()
        (pair.a.root / "file").touch()
        await pair.make_pair()
        await pair.a.until(lambda status: status.checkpoints == 1)
        one, two, three = ((pair.b.root / name).stat().st_ino for name in ("one", "two", "three"))

        def move() -> None:
            (pair.a.root / "one").rename(pair.a.root / "moved")
            renameat2(pair.a.root / "two", pair.a.root / "three", EXCHANGE)
            (pair.a.root / "file").rename(pair.a.root / "renamed")

        await asyncio.to_thread(move)
        store = CheckpointStore(pair.b.config.state_dir, CLUSTER)
        assert store.changes_since(store.held[0].point).moved == {(0, one), (0, two), (0, three)}
        assert not store.held[0].served
