"""One directory with 100,000 entries on the mount: made, listed, partly removed, renamed and listed again, both nodes
identical at the end. Readers keep their place while entries go."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab.mirror.pair import differences, running_pair, tree
from tests.lab.torture.judge import Difference

ENTRIES = 100_000


@dataclass
class Outcome:
    """What a clean run left behind."""

    entries: int = 0
    seconds: float = 0.0


def name_of(number: int) -> str:
    return f"{number:06d}-{'n' * (number % 60)}"


def fill(directory: Path, entries: int) -> None:
    directory.mkdir()
    for number in range(entries):
        path = directory / name_of(number)
        match number % 10:
            case 0:
                path.mkdir()
            case 1:
                os.symlink("nowhere", path)
            case 2:
                os.link(directory / name_of(number - 1), path, follow_symlinks=False)  # a second name of the link
            case _:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def thin_out(directory: Path, entries: int) -> None:
    """Removes every third entry while the directory is being read: what stays is seen exactly once."""
    seen = set()
    with os.scandir(directory) as listing:
        for entry in listing:
            if entry.name in seen:
                raise Difference(f"{entry.name!r} was listed twice")
            seen.add(entry.name)
            if int(entry.name[:6]) % 3 == 0:
                if entry.is_dir(follow_symlinks=False):
                    os.rmdir(entry.path)
                else:
                    os.unlink(entry.path)
    missing = {name_of(number) for number in range(entries) if number % 3} - seen
    if missing:
        raise Difference(f"{len(missing)} entries were not listed, such as {sorted(missing)[:3]}")


def work(directory: Path, entries: int) -> None:
    fill(directory, entries)
    if (found := len(os.listdir(directory))) != entries:
        raise Difference(f"{found} entries listed, {entries} were made")
    thin_out(directory, entries)
    for number in range(1, entries, 30):
        os.rename(directory / name_of(number), directory / f"moved-{number}")
    wanted = sum(1 for number in range(entries) if number % 3)
    if (found := len(os.listdir(directory))) != wanted:
        raise Difference(f"{found} entries listed, {wanted} are left")


async def run(directory: Path, *, mode: str, entries: int = ENTRIES) -> Outcome:
    """Raises `Difference`."""
    began_s = time.monotonic()
    await asyncio.to_thread(work, directory / "ordinary", entries)
    async with running_pair(directory, mode=mode, relayed=False) as pair:
        await pair.make_pair()
        await asyncio.to_thread(work, pair.a.root / "many", entries)
        await pair.a.engine.drain()
        here = await asyncio.to_thread(tree, pair.a.root)
        wrong = differences(here, await asyncio.to_thread(tree, pair.b.root))
    if wrong:
        raise Difference(f"{len(wrong)} entries differ:\n  " + "\n  ".join(wrong[:12]))
    return Outcome(len(here), time.monotonic() - began_s)
