"""One simulated machine: a disk, a clock, and the production code that notes what changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import patch
from uuid import UUID

from mirror_agent.mirror.checkpoints import CheckpointStore
from mirror_agent.mirror.inodes import Inode
from mirror_agent.mirror.resync_choice import Clock, Held
from mirror_agent.mirror.tracking import Tracker

from tests.sim_resync.disk import Disk

START_NS: Final = 1_700_000_000_000_000_000
CLUSTER: Final = "simulated"


@dataclass
class Time:
    """What passes on both machines alike; each has its own idea of what time it is."""

    ns: int = START_NS


@dataclass
class Flushed:
    """Bytes of each file of the state directories that are on the disk, by inode number."""

    sizes: dict[int, int] = field(default_factory=dict)

    def note(self, fd: int) -> None:
        found = os.fstat(fd)
        self.sizes[found.st_ino] = found.st_size

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Instead of waiting for a disk, flushes are noted."""
        with (
            patch("mirror_agent.mirror.files.fsync", self.note),
            patch("mirror_agent.mirror.files.fdatasync", self.note),
        ):
            yield


class SimNode:
    """`store` is what the engine of this life of the process has loaded; `tracker` is there while it serves."""

    def __init__(self, name: str, directory: Path, time: Time, flushed: Flushed, random: Random) -> None:
        self.name = name
        self.directory = directory
        self._time = time
        self._flushed = flushed
        self._random = random
        self.offset_ns = random.randrange(-(10**12), 10**12)
        self._booted_ns = time.ns - random.randrange(10**12)
        self._boots = 0
        self._disks = 0
        self._snapshot: Disk | None = None
        self.marked_in: str | None = None
        self.tracker: Tracker | None = None
        self._inodes: dict[int, Inode] = {}
        self.new_disk()
        directory.mkdir()
        self.start()

    # -- what the machine says -------------------------------------------------------------------------------------

    def realtime_ns(self) -> int:
        return self._time.ns + self.offset_ns

    def clock(self) -> Clock:
        boot = str(UUID(int=(ord(self.name) << 32) + self._boots))
        return Clock(boot, self.realtime_ns(), self._time.ns - self._booted_ns)

    @property
    def roots(self) -> dict[str, str]:
        return {"/data": f"{self.name}-{self._disks}"}

    def prove(self) -> tuple[Held, ...]:
        now = self.clock()
        torn = self.marked_in not in (None, now.boot)
        return self.store.prove(self.roots, now, file_system_good=True, torn=torn)

    @property
    def inconsistent(self) -> bool:
        return self.marked_in is not None

    def inode(self, serial: int) -> Inode:
        """As the engine's table has it; of the attributes only those that the tracker looks at."""
        known = self._inodes.get(serial)
        if known is None:
            root = SimpleNamespace(index=0)
            made: Any = SimpleNamespace(root=root, ino=self.disk.meta[serial].ino, fresh=None)
            known = self._inodes[serial] = cast(Inode, made)
        return known

    # -- its life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The engine's process begins."""
        self._inodes = {}
        self.store = CheckpointStore(str(self.directory), CLUSTER, clock=self.clock, realtime_ns=self.realtime_ns)

    def serve(self) -> None:
        """The role of the primary begins."""
        self.tracker = Tracker(self.store)
        self.tracker.begin()

    def yield_role(self) -> None:
        if self.tracker is not None:
            self.tracker.close()
        self.tracker = None

    def crash(self) -> None:
        """kill -9 of the engine, and its next start."""
        self.yield_role()
        self.start()

    def lose_power(self) -> None:
        self.yield_role()
        for log in self.directory.glob("dirty-*.log"):
            self._lose_end(log)
        self.disk.power_cut()
        self._boots += 1
        self._booted_ns = self._time.ns
        self.start()

    def _lose_end(self, log: Path) -> None:
        """What was not flushed is there in part, or is damaged."""
        data = bytearray(log.read_bytes())
        flushed = self._flushed.sizes[log.stat().st_ino]
        kept = self._random.randint(flushed, len(data))
        if kept > flushed and self._random.random() < 0.5:
            damaged = self._random.randrange(flushed, kept)
            data[damaged:kept] = bytes(kept - damaged)
        log.write_bytes(data[:kept])
        self._flushed.sizes[log.stat().st_ino] = kept

    def new_disk(self) -> None:
        """Another data disk: an empty one, or one restored from the newest snapshot."""
        self.disk = Disk(self.realtime_ns, self._random)
        if self._snapshot is not None and self._random.random() < 0.5:
            self._snapshot.restored_as(self.disk)
        self._disks += 1

    def snapshot(self) -> None:
        """A copy of what is on the data disk now."""
        self._snapshot = Disk(self.realtime_ns, self._random)
        self.disk.restored_as(self._snapshot)

    def lose_state(self) -> None:
        """The state directory is gone (with the disk it was on)."""
        self.yield_role()
        shutil.rmtree(self.directory)
        self.directory.mkdir()
        self.start()
