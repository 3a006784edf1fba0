"""The inodes of one root that the kernel remembers, and the file ids of one replica session: packed when idle.

Both hand out one `Inode` object per inode as long as anybody holds it, and forget the object (not the inode) then.

References: what the kernel was told is counted in the record, which outlives this process; what this process itself
holds (a resync) is counted in the object, which then must be held on to. A record nobody refers to is given back.

An inode number cannot be reused while it is in the index: its last link can only go through this mount, and then the
inode is taken out of the index and pinned by a descriptor until the kernel forgets it.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

from mirror_agent.mirror import files
from mirror_agent.mirror import slots as packed
from mirror_agent.mirror.fuse_abi import ROOT_NODEID
from mirror_agent.mirror.inodes import Descriptors, Inode, Root
from mirror_agent.mirror.slots import NOWHERE, Slots

_KIND_SHIFT: Final = 12
_KIND_MASK: Final = 0xF
_FLAGS_SHIFT: Final = 8
_ROOT_SHIFT: Final = 4
# Numbers of streams that a record can carry: eight bits for the life of the process, the rest count within it.
LIVES_MAX: Final = 0xFF
_SERIAL_BITS: Final = 24
_RECENT_STREAMS: Final = 4


class Marks:
    """Streams as numbers that fit into a record. The last few streams are known; an older one counts as none."""

    def __init__(self, life: int) -> None:
        self.life = life
        self._serial = 0
        self._lock = threading.Lock()
        self._recent: dict[int, object] = {}

    def number(self, stream: object) -> int:
        if stream is None:
            return 0
        with self._lock:
            for number, known in self._recent.items():
                if known is stream:
                    return number
            self._serial = self._serial % ((1 << _SERIAL_BITS) - 1) + 1
            number = self.life << _SERIAL_BITS | self._serial
            self._recent[number] = stream
            if len(self._recent) > _RECENT_STREAMS:
                del self._recent[next(iter(self._recent))]
            return number

    def stream(self, number: int) -> Any:
        return self._recent.get(number)


class Guard(Protocol):
    """Keeps inodes without a link for a successor of this process."""

    def guard(self, fid: int, fd: int) -> None: ...

    def release(self, fid: int) -> None: ...


class InodeTable:
    """By node id (= fid; the root is 1) and by inode number. `keep_handles`: the records are to outlive this process,
    so every inode gets its file handle at once; `slots`: the table of a process that died."""

    def __init__(
        self, root: Root, descriptors: Descriptors, *, marks: Marks, guard: Guard, slots: Slots | None = None
    ) -> None:
        self.root = root
        self.descriptors = descriptors
        self.lock = threading.Lock()
        self.slots = slots or Slots(root.index)
        self.keep_handles = slots is not None
        self._guard = guard
        self._marks = marks
        self._active: WeakValueDictionary[int, Inode] = WeakValueDictionary()
        # Inodes whose handle does not fit into a record stay objects.
        self._unpackable: dict[int, Inode] = {}
        self.root_inode = Inode(root, root.fid, files.fstat(root.fd).st_ino, stat.S_IFDIR, files.dup(root.fd))

    # -- finding ---------------------------------------------------------------------------------------------------

    def inode(self, nodeid: int) -> Inode:
        """The inode the kernel means. Raises OSError ESTALE for one it was never told about."""
        if nodeid == ROOT_NODEID:
            return self.root_inode
        inode = self._active.get(nodeid)
        if inode is None:
            with self.lock:
                slot = self.slots.slot_of(nodeid)
                if slot == NOWHERE:
                    raise OSError(errno.ESTALE, f"node {nodeid:#x} is not known")
                inode = self._awake(slot)
        return inode

    def by_ino(self, ino: int) -> Inode | None:
        with self.lock:
            slot = self.slots.find(ino)
            return None if slot == NOWHERE else self._awake(slot)

    def _awake(self, slot: int, fd: int = -1) -> Inode:
        """The lock is held. A new object takes over `fd` (or none); a known one ignores it."""
        slots = self.slots
        fid = slots.id(slot)
        inode = self._active.get(fid)
        if inode is None:
            shape = slots.shape(slot)
            bound, synced = slots.marks(slot)
            inode = Inode(self.root, fid, slots.key(slot), (shape & _KIND_MASK) << _KIND_SHIFT, fd)
            inode.awake(
                self,
                slot,
                handle=slots.handle(slot),
                orphan=bool(shape >> _FLAGS_SHIFT & packed.ORPHAN),
                flushed=slots.flushed(slot),
                bound=self._marks.stream(bound),
                synced=self._marks.stream(synced),
            )
            self._active[fid] = inode
        return inode

    # -- references ------------------------------------------------------------------------------------------------

    def remember(self, fd: int, st: os.stat_result) -> Inode:
        """The inode of a fresh O_PATH descriptor, held once more by this process until `forget`; takes over or closes
        the descriptor."""
        inode, taken = self._enter(fd, st, kernel=False)
        self._account(inode, fd, taken=taken)
        return inode

    def admit(self, fd: int, st: os.stat_result) -> Inode:
        """As `remember`, for the kernel: it is told about the inode once more."""
        inode, taken = self._enter(fd, st, kernel=True)
        self._account(inode, fd, taken=taken)
        return inode

    def _enter(self, fd: int, st: os.stat_result, *, kernel: bool) -> tuple[Inode, bool]:
        if st.st_ino == self.root_inode.ino:
            return self.root_inode, False
        with self.lock:
            slot = self.slots.find(st.st_ino)
            if slot == NOWHERE:
                slot = self.slots.add(st.st_ino, st.st_mode >> _KIND_SHIFT & _KIND_MASK)
            inode = self._awake(slot, fd)
            if kernel:
                self.slots.add_references(slot, 1)
            else:
                inode.holds += 1
            return inode, inode.fd == fd

    def _account(self, inode: Inode, fd: int, *, taken: bool) -> None:
        if not taken:
            files.close(fd)
            return
        if self.keep_handles and inode.handle is None:
            inode.handle = files.handle_of(fd)
        self.descriptors.adopt(inode)

    def hold(self, inode: Inode) -> None:
        with self.lock:
            inode.holds += 1

    def told(self, inode: Inode) -> None:
        """The kernel is told once more about an inode it knows."""
        with self.lock:
            if inode is not self.root_inode and not inode.dropped:
                self.slots.add_references(inode.slot, 1)

    def forget(self, inode: Inode, count: int) -> bool:
        """Takes holds of this process back; True if the inode is out of the table now."""
        with self.lock:
            inode.holds -= count
            return self._drop_if_free(inode)

    def forgotten_by_kernel(self, nodeid: int, count: int) -> Inode | None:
        """Takes references of the kernel back; the inode, if it is out of the table now."""
        with self.lock:
            slot = NOWHERE if nodeid == ROOT_NODEID else self.slots.slot_of(nodeid)
            if slot == NOWHERE or self.slots.add_references(slot, -count):
                return None
            inode = self._awake(slot)
            return inode if self._drop_if_free(inode) else None

    def _drop_if_free(self, inode: Inode) -> bool:
        if inode is self.root_inode or inode.dropped or inode.holds > 0 or self.slots.references(inode.slot):
            return False
        inode.dropped = True
        inode.home = None
        self._active.pop(inode.fid, None)
        self._unpackable.pop(inode.fid, None)
        self.slots.free(inode.slot)
        if inode.orphan:
            self._guard.release(inode.fid)
        return True

    def losing(self, inode: Inode, fd: int) -> None:
        """Its last link is about to go; `orphaned` or `kept` follows."""
        if self.keep_handles:
            self._guard.guard(inode.fid, fd)

    def kept(self, inode: Inode) -> None:
        """The link could not be removed after all."""
        if self.keep_handles:
            self._guard.release(inode.fid)

    def orphaned(self, inode: Inode, fd: int) -> None:
        """The last link is gone: the inode is pinned by a descriptor, and its number is free for another."""
        self.descriptors.pin(inode, fd)
        with self.lock:
            if not inode.dropped:
                self.slots.unlist(inode.slot)

    def inherit_orphan(self, fid: int, fd: int) -> bool:
        """After the death of the engine before: the descriptor of an inode that may have lost its last link. False
        if it is not needed (any more); the caller closes it then."""
        with self.lock:
            slot = self.slots.slot_of(fid)
            if slot == NOWHERE or files.fstat(fd).st_nlink:
                return False
            self.slots.unlist(slot)
            inode = self._awake(slot, fd)
        if inode.fd != fd:
            return False
        inode.orphan = True
        self.descriptors.adopt(inode)
        return True

    # -- the record of an inode ------------------------------------------------------------------------------------

    def note_handle(self, inode: Inode, handle: bytes) -> None:
        if not self.slots.set_handle(inode.slot, handle):
            self._unpackable[inode.fid] = inode

    def note_orphan(self, inode: Inode) -> None:
        self.slots.set_flags(inode.slot, packed.ORPHAN)

    def note_flushed(self, inode: Inode) -> None:
        self.slots.set_flushed(inode.slot)

    def note_bound(self, inode: Inode, stream: object) -> None:
        self.slots.set_bound(inode.slot, self._marks.number(stream))

    def note_synced(self, inode: Inode, stream: object) -> None:
        self.slots.set_synced(inode.slot, self._marks.number(stream))

    # -- the end ---------------------------------------------------------------------------------------------------

    def orphans(self) -> list[Inode]:
        return [inode for inode in self.awake_inodes() if inode.orphan and inode.fd >= 0]

    def awake_inodes(self) -> list[Inode]:
        with self.lock:
            return [self.root_inode, *self._active.values()]

    def close(self) -> None:
        """No call is running any more."""
        for inode in self.awake_inodes():
            inode.home = None
        self.slots.close()


class FidMap:
    """The file ids of one replica session; used by its one applying thread. A root's inode is never packed."""

    def __init__(self, roots: list[Root]) -> None:
        self._roots = roots
        self._slots = Slots(0)
        self._active: WeakValueDictionary[int, Inode] = WeakValueDictionary()
        self._kept: dict[int, Inode] = {}

    def get(self, fid: int) -> Inode | None:
        inode = self._active.get(fid)
        if inode is not None:
            return inode
        slots = self._slots
        slot = slots.find(fid)
        if slot == NOWHERE:
            return None
        shape = slots.shape(slot)
        flags = shape >> _FLAGS_SHIFT
        low, high = slots.marks(slot)
        root = self._roots[flags >> _ROOT_SHIFT]
        inode = Inode(root, fid, high << 32 | low, (shape & _KIND_MASK) << _KIND_SHIFT, -1)
        orphan = bool(flags & packed.ORPHAN)
        inode.awake(self, slot, handle=slots.handle(slot), orphan=orphan, flushed=False, bound=None, synced=None)
        self._active[fid] = inode
        return inode

    def __contains__(self, fid: int) -> bool:
        return fid in self._kept or self._slots.find(fid) != NOWHERE

    def __setitem__(self, fid: int, inode: Inode) -> None:
        if fid == inode.root.fid:
            self._kept[fid] = self._active[fid] = inode
            return
        flags = inode.root.index << _ROOT_SHIFT
        slot = self._slots.add(fid, flags << _FLAGS_SHIFT | inode.kind >> _KIND_SHIFT)
        # Nobody marks streams here: the two words hold the inode number.
        self._slots.set_bound(slot, inode.ino & 0xFFFF_FFFF)
        self._slots.set_synced(slot, inode.ino >> 32)
        inode.home, inode.slot = self, slot
        self._active[fid] = inode

    def __delitem__(self, fid: int) -> None:
        self._kept.pop(fid, None)
        inode = self._active.pop(fid, None)
        if inode is not None:
            inode.home = None
        slot = self._slots.find(fid)
        if slot != NOWHERE:
            self._slots.free(slot)

    def values(self) -> Iterator[Inode]:
        """Those that may have a descriptor."""
        return iter(list(self._active.values()))

    def fids_of(self, root: Root, numbers: set[int]) -> list[int]:
        """The file ids that stand for these inode numbers; looks through all of them."""
        slots = self._slots
        found = []
        for slot in slots.everything():
            low, high = slots.marks(slot)
            if high << 32 | low in numbers and slots.shape(slot) >> _FLAGS_SHIFT >> _ROOT_SHIFT == root.index:
                found.append(slots.key(slot))
        return found

    def clear(self) -> None:
        """At the end of the session."""
        for inode in self.values():
            inode.home = None
        self._active.clear()
        self._kept.clear()
        self._slots.close()

    def note_handle(self, inode: Inode, handle: bytes) -> None:
        if not self._slots.set_handle(inode.slot, handle):
            self._kept[inode.fid] = inode

    def note_orphan(self, inode: Inode) -> None:
        self._slots.set_flags(inode.slot, inode.root.index << _ROOT_SHIFT | packed.ORPHAN)

    def note_flushed(self, inode: Inode) -> None:
        raise AssertionError("a replica's inode is flushed for no caller")

    def note_bound(self, inode: Inode, stream: object) -> None:
        raise AssertionError("a replica's inode is bound to no stream")

    def note_synced(self, inode: Inode, stream: object) -> None:
        raise AssertionError("a replica's inode is bound to no stream")
