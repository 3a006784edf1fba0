"""Both engines and the application in one control group with little memory: writing on must stay possible.

A user-space file system can deadlock when the kernel waits for it in order to free the memory it needs. Here the group
holds far less than what is written and mapped, so that its pages are reclaimed all the time; the run must end, and both
copies must be equal. `hits` counts how often the limit was met: a run that never met it proves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.mirror.pair import differences, running_pair, tree
from tests.lab.torture.judge import Difference

LIMIT_MIB = 256
WRITTEN_MIB = 1024
DEADLINE_S = 600.0
_V1 = Path("/sys/fs/cgroup/memory")
_WRITER = r"""
import hashlib, mmap, os, random, sys
root, mib, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
pick = random.Random(seed)
blocks = [os.urandom(1 << 20) for _ in range(4)]
files = [os.open(f"{root}/file{n}", os.O_RDWR | os.O_CREAT, 0o644) for n in range(4)]
size = mib // 2 // len(files)
for n, fd in enumerate(files):
    for at in range(size):
        os.pwrite(fd, blocks[at % 4], at << 20)
        if at % 16 == 15:
            os.fsync(fd)
for _ in range(mib // 4):
    os.pwrite(files[pick.randrange(4)], blocks[pick.randrange(4)], pick.randrange(size) << 20)
shared = os.open(f"{root}/mapped", os.O_RDWR | os.O_CREAT, 0o644)
os.ftruncate(shared, (mib // 4) << 20)
with mmap.mmap(shared, 0) as view:
    for at in range(0, len(view), 4096):
        view[at:at + 8] = at.to_bytes(8, "little")
    view.flush()
for fd in files:
    os.fsync(fd)
digest = hashlib.sha256()
with open(f"{root}/mapped", "rb") as stream:
    while piece := stream.read(1 << 20):
        digest.update(piece)
print(digest.hexdigest())
"""


@dataclass
class Outcome:
    limit_mib: int = 0
    written_mib: int = 0
    hits: int = 0
    peak_mib: float = 0.0


@contextlib.contextmanager
def limited(mib: int) -> Iterator[Path]:
    """This process, and whatever it starts, in a group of its own. RuntimeError where the controller is not there."""
    if not (_V1 / "memory.limit_in_bytes").exists():
        raise RuntimeError(f"no memory controller at {_V1}: this part needs cgroup version 1's")
    group = _V1 / f"mirrorplane-torture-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(mib << 20))
        (group / "cgroup.procs").write_text("0")
        yield group
    finally:
        leave()
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):  # it ended meanwhile
                (_V1 / "cgroup.procs").write_text(pid)
        group.rmdir()


def leave() -> None:
    (_V1 / "cgroup.procs").write_text(str(os.getpid()))


async def run(directory: Path, *, mode: str, seed: int) -> Outcome:
    outcome = Outcome(limit_mib=LIMIT_MIB, written_mib=WRITTEN_MIB)
    with limited(LIMIT_MIB) as group:
        async with running_pair(directory, mode=mode, relayed=False) as pair:
            await pair.make_pair()
            writer = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _WRITER,
                str(pair.a.root),
                str(WRITTEN_MIB),
                str(seed),
                stdout=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(DEADLINE_S):
                await writer.communicate()
            if writer.returncode != 0:
                raise Difference(f"the application ended with {writer.returncode}")
            if pair.a.status.link != "live" or pair.a.status.acknowledging != "paired":
                raise Difference(f"the pair did not stay one: {pair.a.status}")
            outcome.hits = int((group / "memory.failcnt").read_text())
            outcome.peak_mib = round(int((group / "memory.max_usage_in_bytes").read_text()) / (1 << 20), 1)
            leave()  # the comparison below needs memory of its own; the engines stay
            await pair.a.engine.drain()
            if found := differences(tree(pair.a.root), tree(pair.b.root)):
                raise Difference(f"the copies differ: {found[:3]}")
    if not outcome.hits:
        raise RuntimeError("the limit was never met: the run proves nothing")
    return outcome
