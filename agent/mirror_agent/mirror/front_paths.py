"""Paths as the library front is told them, turned into the node ids that the operations speak of.

Problem: the operations know inodes by what a look-up returned, because that is how the kernel talks to them; the FUSE
library and WinFsp give a path with every call. So somebody has to look names up, remember them, and let them go.
Guarantee: a node id handed out by `hold` stays known until `release`. What is remembered is what the directories hold:
every change of a name goes through `changed` while the same lock is held as for look-ups, which the order on the wire
needs (`fuse_abi.FOREVER_S`), and nobody else changes the directories.
Shape: one entry a name, (directory's node id, name) → node id, each with one reference in the inode table. A directory
may be let go before the names in it: ids are not used twice, so those entries are never found again and fall out in
their turn.
Limits: NAMES_MAX names, each look-up of another one costs a system call; the walk of a path holds the one lock.
"""

from __future__ import annotations

import errno
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from mirror_agent.mirror.fuse_abi import ROOT_NODEID

NAMES_MAX: Final = 4096

Name = tuple[int, bytes]


class References(Protocol):
    """The inode table's side."""

    def look_up(self, directory: int, name: bytes) -> int:
        """The node id of a name, with one more reference; 0 if there is none. Raises OSError."""
        ...

    def refer(self, nodeid: int) -> None:
        """One more reference."""
        ...

    def spelling(self, directory: int, name: bytes) -> bytes:
        """As the directory spells a name, where several spellings mean one."""
        ...

    def forget(self, nodeid: int, count: int) -> None: ...


class Change(NamedTuple):
    """What an operation did to names. `made`: a name, and the node id that now has one reference more for it."""

    gone: tuple[Name, ...] = ()
    made: tuple[tuple[Name, int], ...] = ()
    moved: tuple[tuple[Name, Name], ...] = ()


class Paths:
    """One mounted root."""

    def __init__(
        self, references: References, names_max: int = NAMES_MAX, alike: Callable[[bytes], bytes] | None = None
    ) -> None:
        """`alike`: the same for all spellings of a name; None where each is a name of its own."""
        self._references = references
        self._alike = alike
        self._spellings: dict[Name, set[Name]] = {}
        self._names_max = names_max
        self._names: OrderedDict[Name, int] = OrderedDict()
        # Reentrant: an operation on names looks names up itself.
        self.lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._names)

    def hold(self, path: bytes) -> int:
        """The node id of a path, until `release`. Raises OSError: ENOENT, or what a look-up said."""
        with self.lock:
            nodeid = self._walk(path)
            self._references.refer(nodeid)
            return nodeid

    def hold_directory(self, path: bytes) -> tuple[int, bytes]:
        """The directory of a path (held until `release`) and the last name in it."""
        directory, _, name = path.rpartition(b"/")
        nodeid = self.hold(directory or b"/")
        if self._alike is not None:
            with self.lock:
                name = self._references.spelling(nodeid, name)
        return nodeid, name

    def again(self, nodeid: int) -> None:
        """Holds once more what the caller holds already."""
        with self.lock:
            self._references.refer(nodeid)

    def release(self, nodeid: int) -> None:
        with self.lock:
            self._references.forget(nodeid, 1)

    def changed(self, change: Change) -> None:
        """Remembers what an operation did; the caller has held `lock` since before it did so."""
        for name in change.gone:
            self._drop_all_spellings(name)
        for old, new in change.moved:
            nodeid = self._take(old)
            self._drop_all_spellings(old)
            self._drop_all_spellings(new)
            if nodeid:
                self._put(new, nodeid)
        for name, nodeid in change.made:
            self._keep(name, nodeid)
        self._make_room()

    def exchanged(self, one: Name, other: Name) -> None:
        """Two names have changed places."""
        first, second = self._names.pop(one, 0), self._names.pop(other, 0)
        if first:
            self._names[other] = first
        if second:
            self._names[one] = second

    def close(self) -> None:
        """At the end of the mount: every reference is given back."""
        with self.lock:
            while self._names:
                _, nodeid = self._names.popitem(last=False)
                self._references.forget(nodeid, 1)

    def _walk(self, path: bytes) -> int:
        nodeid = ROOT_NODEID
        way: list[Name] = []
        for part in path.split(b"/"):
            if not part:
                continue
            name = (nodeid, part)
            way.append(name)
            nodeid = self._names.get(name, 0)
            if not nodeid:
                nodeid = self._look_up(*name)
                if not nodeid:
                    self._touch(way[:-1])
                    raise FileNotFoundError(errno.ENOENT, "no such name", path)
                self._keep(name, nodeid)
        self._touch(way)
        self._make_room()
        return nodeid

    def _touch(self, way: list[Name]) -> None:
        for name in reversed(way):
            self._names.move_to_end(name)

    def _keep(self, name: Name, nodeid: int) -> None:
        """Takes over one reference."""
        self._drop(name)
        self._put(name, nodeid)

    def _put(self, name: Name, nodeid: int) -> None:
        self._names[name] = nodeid
        if self._alike is not None:
            self._spellings.setdefault((name[0], self._alike(name[1])), set()).add(name)

    def _take(self, name: Name) -> int:
        """Its node id, with the reference; 0 if it is not remembered."""
        nodeid = self._names.pop(name, 0)
        if nodeid and self._alike is not None:
            key = (name[0], self._alike(name[1]))
            self._spellings[key].discard(name)
            if not self._spellings[key]:
                del self._spellings[key]
        return nodeid

    def _drop(self, name: Name) -> None:
        nodeid = self._take(name)
        if nodeid:
            self._references.forget(nodeid, 1)

    def _drop_all_spellings(self, name: Name) -> None:
        if self._alike is not None:
            for other in tuple(self._spellings.get((name[0], self._alike(name[1])), ())):
                self._drop(other)
        self._drop(name)

    def _look_up(self, directory: int, name: bytes) -> int:
        nodeid = self._references.look_up(directory, name)
        if nodeid or self._alike is None:
            return nodeid
        spelled = self._references.spelling(directory, name)
        return self._references.look_up(directory, spelled) if spelled != name else 0

    def _make_room(self) -> None:
        while len(self._names) > self._names_max:
            self._drop(next(iter(self._names)))
