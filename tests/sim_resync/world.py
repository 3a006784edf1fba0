"""A pair over a random life: changes, checkpoints, crashes, power cuts, failovers, jumping clocks, resyncs.

What may happen follows the rules of the decision core as far as a resync depends on them: a node is promoted when its
copy was in sync, or by force when it is not marked inconsistent; whoever comes back is resynchronised. Between any two
steps of a change, of a checkpoint and of a resync a node may crash or lose its power.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Final

from mirror_agent.mirror.checkpoints import Checkpoint
from mirror_agent.mirror.dirty_log import ZONE_BYTES
from mirror_agent.mirror.tracking import Tracker

from tests.sim_resync.disk import ROOT, Disk
from tests.sim_resync.node import Flushed, SimNode, Time
from tests.sim_resync.walk import Attempt, Count, Refused, Surprise, differences

STEPS: Final = 120
_FILES_MAX: Final = 26
_FILES_AT_FIRST: Final = 20
_ZONES_MAX: Final = 6
_LARGE_ZONES: Final = 300
_SECOND_NS: Final = 10**9
# Flushes are only noted; a disk would be asked for renames all the same.
_MEMORY: Final = Path("/dev/shm")


class Violation(AssertionError):
    """The copies differ after a resync, or an entry was left out that had changed."""


class Interrupted(Exception):
    """A node died in the middle of a step; what it held is gone already."""


@dataclass
class Story:
    """What a schedule came to."""

    rules: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    count: Count = field(default_factory=Count)
    steps: list[str] = field(default_factory=list)


class World:
    """`live`: the replica takes every change. Then, and only then, both copies are the same."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.random = Random(f"resync-{seed}")
        self.time = Time()
        self.flushed = Flushed()
        self.story = Story()
        a, b = (SimNode(name, directory / name, self.time, self.flushed, self.random) for name in ("a", "b"))
        self.primary, self.replica = a, b
        self.live = False
        self.in_sync = False
        self._streams = 0
        self._points = 0
        self._next_value = 0
        self._shortcut_failed = False
        self._idle = False
        # How likely a node dies between two steps; some schedules are calm, some are not. A few replace files by
        # renaming others over them, and fail in their resyncs above all.
        self._replaces = self.random.random() < 0.2
        self._danger = self.random.choice((0.0, 0.002, 0.01, 0.04))
        a.serve()

    def run(self, steps: int = STEPS) -> Story:
        with self.flushed.watching():
            for _ in range(2 * _FILES_AT_FIRST):
                tracker = self.primary.tracker
                assert tracker is not None
                if (change := self._make(tracker, self._folders())) is not None:
                    change(self.primary.disk)
            for _ in range(steps):
                self._step()
            self._reconnect(safely=True)
        return self.story

    def _step(self) -> None:
        self.time.ns += self.random.choice((1, 10**6, 10**9, 5 * 10**9, 40 * 10**9))
        events: dict[Callable[[], None], int] = {
            self._change: 30,
            self._checkpoint: 14,
            self._link_lost: 5,
            self._reconnect: 14,
            self._crash_primary: 3,
            self._crash_replica: 3,
            self._failover: 4,
            self._swap: 3,
            self._force: 2,
            self._power_of_both: 2,
            self._jump: 2,
            self._lose_something: 1,
            self._snapshot: 1,
        }
        event = self.random.choices(list(events), weights=list(events.values()))[0]
        self._say(event.__name__.strip("_"))
        try:
            event()
        except Interrupted as died:
            self._say(f"interrupted: {died}")

    def _say(self, what: str) -> None:
        self.story.steps.append(what)
        self.story.events[what.partition(":")[0]] += 1

    # -- dying -----------------------------------------------------------------------------------------------------

    def _danger_of(self, *nodes: SimNode, what: str, danger: float | None = None) -> None:
        """Between two steps: somebody may die. The replica's death only ends the stream."""
        for node in nodes:
            if self.random.random() >= (self._danger if danger is None else danger):
                continue
            power = self.random.random() < 0.7
            self._kill(node, power=power)
            other = self.replica if node is self.primary else self.primary
            if power and self.random.random() < 0.5:  # one cause for both
                self._kill(other, power=True)
                self._begin_again()
            elif node is self.primary:
                self._begin_again()
            raise Interrupted(f"{node.name} during {what}")

    def _kill(self, node: SimNode, *, power: bool) -> None:
        self.live = False
        if power:
            node.lose_power()
        else:
            node.crash()

    def _begin_again(self) -> None:
        """The primary serves again in the same place, or its synchronised replica does."""
        self.live = False
        if self.in_sync and not self.replica.inconsistent and self.random.random() < 0.5:
            self.primary, self.replica = self.replica, self.primary
            self._say(f"promoted: {self.primary.name}")
        self.in_sync = False
        self.primary.serve()

    def _crash_primary(self) -> None:
        self._kill(self.primary, power=self.random.random() < 0.5)
        self._begin_again()

    def _crash_replica(self) -> None:
        self._kill(self.replica, power=self.random.random() < 0.5)
        self.in_sync = False

    def _power_of_both(self) -> None:
        self._kill(self.primary, power=True)
        self._kill(self.replica, power=True)
        self._begin_again()

    def _link_lost(self) -> None:
        """The primary is published alone."""
        self.live = self.in_sync = False

    def _failover(self) -> None:
        if self.in_sync and not self.replica.inconsistent:
            self._kill(self.primary, power=self.random.random() < 0.5)
            self.primary, self.replica = self.replica, self.primary
            self.in_sync = False
            self.primary.serve()

    def _swap(self) -> None:
        """A clean hand-over: nothing is compared."""
        if self.live:
            self.primary.yield_role()
            self.replica.disk.sync()
            self.primary, self.replica = self.replica, self.primary
            self.primary.serve()

    def _force(self) -> None:
        """An operator starts the node that is behind; both histories go on from their last common place."""
        if not self.live and not self.replica.inconsistent:
            self._kill(self.primary, power=self.random.random() < 0.5)
            self.primary, self.replica = self.replica, self.primary
            self.in_sync = False
            self.primary.serve()

    def _jump(self) -> None:
        node = self.random.choice((self.primary, self.replica))
        node.offset_ns += self.random.choice((-3600, -30, -3, -1, 1, 3, 30, 3600)) * _SECOND_NS

    def _lose_something(self) -> None:
        if not self.live and self.random.random() < 0.5:
            self.replica.new_disk()
        elif not self.live:
            self.replica.lose_state()
        self.in_sync = False
        self.live = False

    def _snapshot(self) -> None:
        for node in (self.primary, self.replica):
            node.snapshot()

    # -- changes ---------------------------------------------------------------------------------------------------

    def _change(self) -> None:
        """Noted, made here, made there; the primary's guard comes first, as in the engine."""
        tracker = self.primary.tracker
        assert tracker is not None
        for _ in range(self.random.choice((1, 1, 2, 4))):
            tracker.guard()
            change = self._some_change(tracker)
            if change is None:
                continue
            self._danger_of(self.primary, what="a change that was noted")
            paths = change(self.primary.disk)
            self._danger_of(self.primary, what="a change that was made here")
            if self.live:
                self._danger_of(self.replica, what="a change")
                self.replica.store.guard()
                change(self.replica.disk)
                self._times(paths)
            self.time.ns += self.random.choice((1, 1000, 10**6))

    def _times(self, paths: list[bytes]) -> None:
        """Modification times follow the change."""
        mine, theirs = self.primary.disk, self.replica.disk
        for path in paths:
            here, there = mine.at(path), theirs.at(path)
            if here is not None and there is not None:
                theirs.set(there, mtime_ns=mine.meta[here].mtime_ns)

    def _some_change(self, tracker: Tracker) -> Callable[[Disk], list[bytes]] | None:
        """What is done to each disk, by paths; what the engine notes before it is noted here. None: nothing to do."""
        disk, node = self.primary.disk, self.primary
        everything = list(disk.paths())
        files = [path for path, serial in everything if not disk.meta[serial].directory]
        folders = self._folders()[1:]
        kinds = ("make", "write", "write", "write", "truncate", "mode", "rename", "rename-folder", "remove", "link")
        kind = self.random.choice(kinds) if len(files) < _FILES_MAX else self.random.choice(("remove", "write"))
        if self._replaces and self.random.random() < 0.4:
            kind = "rename"
        if kind == "make" or not files:
            return self._make(tracker, [b"", *folders])
        path = self.random.choice(files)
        serial = disk.at(path)
        assert serial is not None
        inode, meta = node.inode(serial), disk.meta[serial]
        if kind == "write":
            zone = self.random.randint(0, min(meta.zones, _ZONES_MAX))
            values = [self._value() for _ in range(self.random.randint(1, 2))]
            tracker.overwriting(inode, zone * ZONE_BYTES, len(values) * ZONE_BYTES)
            return lambda disk: _write(disk, path, zone, values)
        if kind == "truncate":
            zones = self.random.choice((0, 1, meta.zones, self.random.randint(0, _ZONES_MAX), _LARGE_ZONES))
            tracker.truncating(inode, meta.zones * ZONE_BYTES, zones * ZONE_BYTES)
            return lambda disk: _truncate(disk, path, zones)
        if kind == "mode":
            mode = self.random.randrange(0o1000)
            return lambda disk: _mode(disk, path, mode)
        if kind == "remove":
            tracker.naming(inode)
            return lambda disk: _remove(disk, path)
        target = self.random.choice(files) if self._replaces else self._name([b"", *folders])
        if kind == "link":
            if disk.at(target) is not None:
                return None
            tracker.naming(inode)
            return lambda disk: _link(disk, path, target)
        source = self.random.choice(folders) if kind == "rename-folder" and folders else path
        return self._rename(tracker, source, target)

    def _folders(self) -> list[bytes]:
        disk = self.primary.disk
        return [b"", *(path for path, serial in disk.paths() if disk.meta[serial].directory)]

    def _make(self, tracker: Tracker, folders: list[bytes]) -> Callable[[Disk], list[bytes]] | None:
        target = self._name(folders)
        if self.primary.disk.at(target) is not None:
            return None
        folder, mode = self.random.random() < 0.25, self.random.randrange(0o1000)

        def make(disk: Disk) -> list[bytes]:
            parent, name = _parent(disk, target)
            made = disk.make(parent, name, folder=folder, mode=mode)
            if disk is self.primary.disk:
                tracker.made(self.primary.inode(made))
            return [target, _above(target)]

        return make

    def _rename(self, tracker: Tracker, source: bytes, target: bytes) -> Callable[[Disk], list[bytes]] | None:
        disk = self.primary.disk
        serial, victim = disk.at(source), disk.at(target)
        assert serial is not None
        if serial == victim or target.startswith(source + b"/"):
            return None
        if victim is not None and (disk.meta[victim].directory or disk.meta[serial].directory):
            return None
        for one in (serial, victim):
            if one is not None and disk.meta[one].directory:
                tracker.moving(self.primary.inode(one))
            elif one is not None:
                tracker.naming(self.primary.inode(one))

        def rename(disk: Disk) -> list[bytes]:
            (old, old_name), (new, new_name) = _parent(disk, source), _parent(disk, target)
            moved = disk.meta[disk.names(old)[old_name]]
            if disk is self.replica.disk and moved.directory:
                self.replica.store.moving((0, moved.ino))
            disk.rename(old, old_name, new, new_name)
            return [_above(source), _above(target)]

        return rename

    def _value(self) -> int:
        self._next_value += 1
        return self._next_value

    def _name(self, folders: list[bytes]) -> bytes:
        folder = self.random.choice(folders)
        name = self.random.choice((b"f", b"g", b"h", b"i", b"d", b"e"))
        return folder + b"/" + name if folder else name

    # -- checkpoints and resyncs -------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        """In the order of `Checkpointer`, with changes in between."""
        tracker = self.primary.tracker
        if not self.live or tracker is None:
            return
        primary, replica = self.primary, self.replica
        rotation = tracker.rotate()
        self._danger_of(primary, replica, what="the rotation of a checkpoint")
        self._some_changes()
        self._pass()
        self._points += 1
        replica.store.guard()
        rotated = replica.store.rotate()
        made = Checkpoint(str(self._streams), self._points, 1, replica.clock(), replica.roots)
        self._some_changes()
        self._pass()
        replica.disk.sync()
        self._danger_of(primary, replica, what="the flush of a checkpoint")
        replica.store.record_replica(made, rotated)
        self._danger_of(primary, replica, what="a checkpoint that the replica has recorded")
        self._some_changes()
        self._pass()
        primary.disk.sync()
        self._danger_of(primary, replica, what="a checkpoint that both have flushed")
        tracker.commit(rotation, stream=made.stream, seq=made.seq, epoch=1, roots=primary.roots)

    def _pass(self) -> None:
        """A flush takes its time."""
        self.time.ns += self.random.choice((0, 10**6, 3 * 10**9, 30 * 10**9))

    def _some_changes(self) -> None:
        if not self._idle and self.random.random() < 0.3:
            self._change()
            if not self.live:
                raise Interrupted("the stream during a checkpoint")

    def _reconnect(self, *, safely: bool = False) -> None:
        """The replica comes back and is filled."""
        if self.live:
            return
        attempt = Attempt(self.primary, self.replica, self.story.count, shortcut_failed=self._shortcut_failed)
        self.story.rules[attempt.choice.rule] += 1
        self._say(f"resync: {attempt.choice.rule} from {self.primary.name}")
        try:
            for _ in self._cut_off(attempt.run(), safely=safely):
                pass
        except Surprise as surprise:
            raise Violation(str(surprise)) from surprise
        except Refused as refused:
            self._say(f"refused: {refused}")
            self._shortcut_failed = True
            if safely:
                self._reconnect(safely=True)
            return
        self._shortcut_failed = False
        found = differences(self.primary, self.replica)
        if found:
            raise Violation("; ".join(found))
        self._streams += 1
        self.live = self.in_sync = True
        if not safely:
            self._checkpoint()

    def _cut_off(self, walk: Iterator[None], *, safely: bool) -> Iterator[None]:
        for _ in walk:
            if not safely:
                danger = 0.03 if self._replaces else None
                self._danger_of(self.primary, self.replica, what="a resync", danger=danger)
            self.time.ns += 1000
            yield

    def cut_off(self) -> None:
        """A file replaced by a rename while the replica was away, and both nodes without power in the resync of it: the
        primary may have lost the rename, the replica kept a part of what was written over its copy."""
        self._danger, self._replaces, self._idle = 0.0, False, True
        disk, names = self.primary.disk, (b"f", b"g")
        with self.flushed.watching():
            for name in names:
                made = disk.make(ROOT, name, folder=False, mode=0o644)
                disk.write(made, 0, [self._value(), self._value()])
            self.time.ns += 60 * _SECOND_NS
            self._reconnect()
            self.time.ns += 60 * _SECOND_NS
            self._link_lost()
            tracker = self.primary.tracker
            assert tracker is not None
            change = self._rename(tracker, *names)
            assert change is not None
            change(disk)
            attempt = Attempt(self.primary, self.replica, self.story.count)
            list(islice(attempt.run(), len(disk.names(ROOT))))
            self._power_of_both()
            self._reconnect(safely=True)


def _above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _parent(disk: Disk, path: bytes) -> tuple[int, bytes]:
    above, _, name = path.rpartition(b"/")
    parent = disk.at(above) if above else ROOT
    assert parent is not None, f"{path!r} has no directory"
    return parent, name


def _serial(disk: Disk, path: bytes) -> int:
    serial = disk.at(path)
    assert serial is not None, f"{path!r} is not there"
    return serial


def _write(disk: Disk, path: bytes, zone: int, values: list[int]) -> list[bytes]:
    disk.write(_serial(disk, path), zone, values)
    return [path]


def _truncate(disk: Disk, path: bytes, zones: int) -> list[bytes]:
    disk.truncate(_serial(disk, path), zones)
    return [path]


def _mode(disk: Disk, path: bytes, mode: int) -> list[bytes]:
    disk.set(_serial(disk, path), mode=mode)
    return []


def _remove(disk: Disk, path: bytes) -> list[bytes]:
    disk.remove(*_parent(disk, path))
    return [_above(path)]


def _link(disk: Disk, path: bytes, target: bytes) -> list[bytes]:
    parent, name = _parent(disk, target)
    disk.link(_serial(disk, path), parent, name)
    return [_above(target)]


def run_cut_off(seed: int) -> None:
    """`World.cut_off` with the chances of a seed. Raises `Violation`."""
    with tempfile.TemporaryDirectory(prefix="sim-resync-", dir=_MEMORY if _MEMORY.is_dir() else None) as directory:
        World(seed, Path(directory)).cut_off()


def run_seed(seed: int, steps: int = STEPS) -> Story:
    """One schedule. Raises `Violation` with the steps that led to it."""
    with tempfile.TemporaryDirectory(prefix="sim-resync-", dir=_MEMORY if _MEMORY.is_dir() else None) as directory:
        world = World(seed, Path(directory))
        try:
            return world.run(steps)
        except (Violation, AssertionError) as error:
            error.add_note(f"seed {seed}: " + ", ".join(world.story.steps[-40:]))
            raise
