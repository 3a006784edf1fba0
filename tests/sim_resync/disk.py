"""A simulated file system of one node, and what a power cut leaves of it.

Modelled on ext4 with ordered data: metadata (names, attributes, change times, sizes) goes through a journal, of which a
power cut keeps a prefix; blocks that existed before may reach the disk at any time, with or without the metadata of the
same write, so their new content can be there while the change time is the old one; a block that an operation allocated
is there if that operation's metadata is. Inode numbers are used again at once.

Limits: one root, no symbolic links, times exact to the kernel's tick of the clock that is handed in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from mirror_agent.mirror.dirty_log import ZONE_BYTES
from mirror_agent.mirror.tree_scan import Listing

TICK_NS: Final = 10_000_000
ROOT: Final = 1


@dataclass(frozen=True)
class Meta:
    """What the journal keeps of an inode. `names`: of a directory, name -> serial number; `zones`: of a file."""

    ino: int
    directory: bool
    mode: int
    mtime_ns: int
    ctime_ns: int
    birth_ns: int
    links: int = 1
    zones: int = 0
    names: tuple[tuple[bytes, int], ...] = ()

    def stat(self) -> os.stat_result:
        """As the kernel would tell it."""
        kind = stat.S_IFDIR if self.directory else stat.S_IFREG
        size = 0 if self.directory else self.zones * ZONE_BYTES
        exact = (self.mtime_ns, self.mtime_ns, self.ctime_ns)
        seconds = [at // 10**9 for at in exact]
        visible = (kind | self.mode, self.ino, 1, self.links, 0, 0, size, *seconds)
        return os.stat_result((*visible, *map(float, seconds), *exact))


Version = tuple[int, int | None]
"""Number of the transaction, content of the block (None: freed)."""


class Disk:
    """Inodes by serial number, which is never used again; `now_ns` is the node's clock."""

    def __init__(self, now_ns: Callable[[], int], random: Random) -> None:
        self._now_ns = now_ns
        self._random = random
        self._serial = ROOT
        self.meta: dict[int, Meta] = {}
        self.blocks: dict[tuple[int, int], int] = {}
        self._flushed_meta: dict[int, Meta] = {}
        self._flushed_blocks: dict[tuple[int, int], int] = {}
        self._journal: list[dict[int, Meta | None]] = []
        self._written: dict[tuple[int, int], list[Version]] = {}
        now = self._time()
        self._commit({ROOT: Meta(ROOT + 1, True, 0o755, now, now, now)})
        self.sync()

    def _time(self) -> int:
        """The kernel stamps with the time of its last tick."""
        return self._now_ns() - self._random.randrange(TICK_NS)

    def _commit(self, changes: dict[int, Meta | None]) -> None:
        self._journal.append(changes)
        for serial, meta in changes.items():
            if meta is None:
                del self.meta[serial]
            else:
                self.meta[serial] = meta

    def _free_ino(self) -> int:
        used = {meta.ino for meta in self.meta.values()}
        return next(ino for ino in range(2, len(used) + 3) if ino not in used)

    # -- looking ---------------------------------------------------------------------------------------------------

    def names(self, directory: int) -> dict[bytes, int]:
        return dict(self.meta[directory].names)

    def at(self, path: bytes) -> int | None:
        """The serial number of a path below the root; None if there is nothing."""
        serial: int | None = ROOT
        for name in path.split(b"/") if path else ():
            if serial is None or not self.meta[serial].directory:
                return None
            serial = self.names(serial).get(name)
        return serial

    def paths(self, directory: int = ROOT, path: bytes = b"") -> Iterator[tuple[bytes, int]]:
        """Everything below a directory, parents first."""
        for name, serial in self.names(directory).items():
            inner = path + b"/" + name if path else name
            yield inner, serial
            if self.meta[serial].directory:
                yield from self.paths(serial, inner)

    def listings(self, directory: int = ROOT, path: bytes = b"") -> Iterator[Listing]:
        names = self.names(directory)
        yield Listing(path, self.meta[directory].stat(), [(name, self.meta[at].stat()) for name, at in names.items()])
        for name, serial in names.items():
            if self.meta[serial].directory:
                yield from self.listings(serial, path + b"/" + name if path else name)

    def content(self, serial: int) -> list[int]:
        return [self.blocks.get((serial, zone), 0) for zone in range(self.meta[serial].zones)]

    # -- changing --------------------------------------------------------------------------------------------------

    def write(self, serial: int, zone: int, values: list[int], mtime_ns: int | None = None) -> None:
        """Whole zones; beyond the end the file grows. `mtime_ns` None: now."""
        meta, now = self.meta[serial], self._time()
        for at, value in enumerate(values, zone):
            self.blocks[serial, at] = value
            self._written.setdefault((serial, at), []).append((len(self._journal), value))
        zones = max(meta.zones, zone + len(values))
        self._commit({serial: replace(meta, zones=zones, ctime_ns=now, mtime_ns=now if mtime_ns is None else mtime_ns)})

    def truncate(self, serial: int, zones: int) -> None:
        meta, now = self.meta[serial], self._time()
        for zone in [zone for at, zone in self.blocks if at == serial and zone >= zones]:
            del self.blocks[serial, zone]
            self._written.setdefault((serial, zone), []).append((len(self._journal), None))
        self._commit({serial: replace(meta, zones=zones, ctime_ns=now, mtime_ns=now)})

    def set(self, serial: int, *, mode: int | None = None, mtime_ns: int | None = None) -> None:
        meta = self.meta[serial]
        mode, mtime_ns = meta.mode if mode is None else mode, meta.mtime_ns if mtime_ns is None else mtime_ns
        self._commit({serial: replace(meta, mode=mode, mtime_ns=mtime_ns, ctime_ns=self._time())})

    def make(self, directory: int, name: bytes, *, folder: bool, mode: int) -> int:
        self._serial += 1
        now = self._time()
        made = Meta(self._free_ino(), folder, mode, now, now, now)
        self._commit({self._serial: made, directory: self._named(directory, {name: self._serial}, now)})
        return self._serial

    def link(self, serial: int, directory: int, name: bytes) -> None:
        meta, now = self.meta[serial], self._time()
        linked = replace(meta, links=meta.links + 1, ctime_ns=now)
        self._commit({serial: linked, directory: self._named(directory, {name: serial}, now)})

    def remove(self, directory: int, name: bytes) -> None:
        serial, now = self.names(directory)[name], self._time()
        changes = self._unlinked(serial, now)
        self._commit({**changes, directory: self._named(directory, {name: None}, now)})

    def rename(self, old: int, old_name: bytes, new: int, new_name: bytes) -> None:
        """Replaces what has the new name."""
        serial, now = self.names(old)[old_name], self._time()
        victim = self.names(new).get(new_name)
        if victim == serial:
            return
        changes: dict[int, Meta | None] = {} if victim is None else self._unlinked(victim, now)
        changes[serial] = replace(self.meta[serial], ctime_ns=now)
        if old == new:
            changes[old] = self._named(old, {old_name: None, new_name: serial}, now)
        else:
            changes[old] = self._named(old, {old_name: None}, now)
            changes[new] = self._named(new, {new_name: serial}, now)
        self._commit(changes)

    def _unlinked(self, serial: int, now: int) -> dict[int, Meta | None]:
        meta = self.meta[serial]
        if meta.directory or meta.links == 1:
            return {serial: None}
        return {serial: replace(meta, links=meta.links - 1, ctime_ns=now)}

    def _named(self, directory: int, changes: dict[bytes, int | None], now: int) -> Meta:
        meta = self.meta[directory]
        names = {**dict(meta.names), **changes}
        kept = tuple((name, serial) for name, serial in names.items() if serial is not None)
        return replace(meta, names=kept, mtime_ns=now, ctime_ns=now)

    def restored_as(self, other: Disk) -> None:
        """What is flushed here is on `other` as well, change times included."""
        other.meta, other.blocks = dict(self._flushed_meta), dict(self._flushed_blocks)
        other._serial = self._serial
        other.sync()

    # -- the power -------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        self._flushed_meta, self._flushed_blocks = dict(self.meta), dict(self.blocks)
        self._journal, self._written = [], {}

    def power_cut(self) -> None:
        """What is found after the next boot."""
        kept = self._random.randint(0, len(self._journal))
        meta = dict(self._flushed_meta)
        for changes in self._journal[:kept]:
            for serial, after in changes.items():
                if after is None:
                    del meta[serial]
                else:
                    meta[serial] = after
        blocks = dict(self._flushed_blocks)
        for place, versions in self._written.items():
            found = self._survives(blocks.get(place), versions, kept)
            if found is None:
                blocks.pop(place, None)
            else:
                blocks[place] = found
        self.meta = meta
        self.blocks = {
            (serial, zone): value
            for (serial, zone), value in blocks.items()
            if serial in meta and zone < meta[serial].zones
        }
        self.sync()

    def _survives(self, before: int | None, versions: list[Version], kept: int) -> int | None:
        """One block: freed and allocated as the journal says; content of any time since its allocation."""
        base, first = before, 0
        for number, (transaction, value) in enumerate(versions):
            if transaction < kept and (value is None or base is None):
                base, first = value, number + 1
        if base is None:
            return None
        choice = [base]
        for _, value in versions[first:]:
            if value is None:
                break
            choice.append(value)
        return self._random.choice(choice)
