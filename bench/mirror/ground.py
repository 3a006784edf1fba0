"""The two disks: one ext4 each for node a and node b, on loop devices over memory (or over files, BACKING=disk).

Memory is the harder ground: fsync costs next to nothing there, so what the mirror adds shows undiluted, and the disk of
the machine, which others use, adds no noise. All candidates stand on the same two file systems.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.mirror.commands import BenchError, run

MEMORY: Final = "memory"
DISK: Final = "disk"
BACKINGS: Final = (MEMORY, DISK)
IMAGE_BYTES: Final = 4 << 30
# Beside the two images: processes, page cache, PostgreSQL.
_SPARE_BYTES: Final = 3 << 30


@dataclass(frozen=True)
class Ground:
    """`base` is in memory: configurations, sockets, logs. `disk[node]` is the node's ext4."""

    base: Path
    disk: dict[str, Path]

    def settle(self) -> None:
        """Writes back what earlier work left dirty, so that the next measurement does not pay for it."""
        for mounted in self.disk.values():
            run(["sync", "--file-system", str(mounted)])


def prepare(base: Path, backing: str) -> Ground:
    """Mounts everything; the mount namespace is the benchmark's own, so nobody else sees it."""
    if backing == MEMORY:
        _need_memory()
    run(["mount", "-t", "tmpfs", "-o", "mode=0755,size=90%", "bench", str(base)])
    # Sockets and state of glusterd and `ip netns` live below these; the machine's own stay as they are.
    for place in ("/run", "/var/lib/glusterd", "/var/log/glusterfs"):
        run(["mount", "-t", "tmpfs", "-o", "mode=0755", "bench", place])
    Path("/run/netns").mkdir()
    disk = {}
    for node in ("a", "b"):
        mounted = base / node
        mounted.mkdir()
        _mount_image(mounted, None if backing == DISK else base)
        disk[node] = mounted
    return Ground(base, disk)


def _need_memory() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    needed = 2 * IMAGE_BYTES + _SPARE_BYTES
    if available < needed:
        raise BenchError(
            f"{available >> 20} MiB of memory are free, two disks in memory need {needed >> 20}: use --backing disk"
        )


def _mount_image(mounted: Path, directory: Path | None) -> None:
    """The image loses its name at once: the loop device holds it, and with the device it is gone."""
    fd, path = tempfile.mkstemp(prefix="mirrorplane-bench-image-", dir=directory)
    try:
        # In full, and never given back: no measurement pays for the allocation of its ground.
        os.posix_fallocate(fd, 0, IMAGE_BYTES)
        run(["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", path])
        run(["mount", "-t", "ext4", "-o", "loop,noatime", path, str(mounted)])
    finally:
        os.close(fd)
        os.unlink(path)
    device = run(["findmnt", "--noheadings", "--output", "SOURCE", str(mounted)]).strip()
    try:
        # Without a second copy of every page in the page cache.
        run(["losetup", "--direct-io=on", device])
    except BenchError as error:
        print(f"bench: {device} goes through the page cache: {error}")
