"""What a large tree costs in memory: every file of it looked up and its attributes read on the mount.

The files lie there before the mount; with `--replica` they are resynchronised first, so that the replica knows each of
them, too. Resident memory of both engines before and after; nothing is asserted about it.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab.mirror.pair import Node, running_pair

FILES = 1_000_000
PER_DIRECTORY = 1000
DEADLINE_S = 3600.0


@dataclass
class Outcome:
    files: int = 0
    primary_mib_before: float = 0.0
    primary_mib: float = 0.0
    replica_mib: float = 0.0
    descriptors: int = 0
    resync_s: float = 0.0
    looked_up_per_s: float = 0.0


def fill(root: Path, files: int) -> None:
    for number in range(0, files, PER_DIRECTORY):
        directory = root / f"d{number // PER_DIRECTORY:04d}"
        directory.mkdir()
        for entry in range(min(PER_DIRECTORY, files - number)):
            os.close(os.open(directory / f"file-{entry:04d}", os.O_CREAT | os.O_WRONLY, 0o644))


def look_at_all(root: Path) -> int:
    count = 0
    for directory in sorted(root.iterdir()):
        with os.scandir(directory) as listing:
            for entry in listing:
                entry.stat(follow_symlinks=False)
                count += 1
    return count


async def run(directory: Path, *, mode: str, files: int, replica: bool) -> Outcome:
    outcome = Outcome(files=files)
    async with running_pair(directory, mode=mode, relayed=False) as pair:
        await asyncio.to_thread(fill, pair.a.root, files)
        if replica:
            await pair.b.engine.become_replica(epoch=1)
        began_s = time.monotonic()
        await pair.a.engine.become_primary(epoch=1, paired=False)
        if replica:
            await pair.a.until(lambda status: status.link == "live", within_s=DEADLINE_S)
            outcome.resync_s = round(time.monotonic() - began_s, 1)
            outcome.replica_mib = _resident_mib(pair.b)
        outcome.primary_mib_before = _resident_mib(pair.a)
        began_s = time.monotonic()
        count = await asyncio.to_thread(look_at_all, pair.a.root)
        outcome.looked_up_per_s = round(count / (time.monotonic() - began_s))
        outcome.primary_mib = _resident_mib(pair.a)
        outcome.descriptors = len(os.listdir(f"/proc/{_pid(pair.a)}/fd"))
        assert count == files, f"{count} of {files} files were seen"
    return outcome


def _pid(node: Node) -> int:
    process = node.engine._process
    assert process is not None
    return process.pid


def _resident_mib(node: Node) -> float:
    pages = int(Path(f"/proc/{_pid(node)}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1)
