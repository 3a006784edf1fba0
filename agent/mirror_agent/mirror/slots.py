"""Inodes as packed records of 64 bytes in a memory file, found by slot number or by key.

Problem: a Python object per inode the kernel has cached costs about 700 bytes (700 MB for a million files) and dies
with the process. Here an idle inode costs 64 bytes, and the records outlive the engine: the memory file can be mapped
again by the engine's successor.

A record has an id that is never given twice (slot, root and a generation that grows with each use), a key (the inode
number on a primary, the wire's id on a replica), what is known about the inode, and its file handle if it has at most
24 bytes (ext4 8, xfs 12, btrfs 20). The index is a hash table of chains with a fixed number of heads.

Guarantee: killing the process between any two stores leaves a table that can be used: a record may be leaked
(unreachable by its key and not reused), never given twice or found under a wrong key. Every store that matters is one
machine word. Ids differ between the tables of one process as well, because a stream may outlive a mount.

Limits: not synchronised, the owner locks; `SLOTS_MAX` inodes a table (a sparse map of 4 GiB of addresses, memory only
for what was used).
"""

from __future__ import annotations

import itertools
import mmap
import os
import sys
from typing import Final

RECORD_BYTES: Final = 64
HANDLE_BYTES_MAX: Final = 24
# Windows has no memory that is promised and not reserved: there the whole table counts, 256 MiB.
SLOTS_MAX: Final = 1 << 26 if sys.platform != "win32" else 1 << 22
FIRST_SLOT: Final = 16
ROOT_SHIFT: Final = 28
GENERATION_SHIFT: Final = 32
GENERATIONS: Final = 1 << 30
NOWHERE: Final = 0

_HEADS: Final = 1 << 20
_HEADS_BYTES: Final = 4 * _HEADS
_SIZE: Final = SLOTS_MAX * RECORD_BYTES + _HEADS_BYTES
# From include/uapi/asm-generic/mman-common.h; the mmap module has it since Python 3.13 only.
_MAP_NORESERVE: Final = 0x4000
# A freed slot is used again only after so many others were freed: nothing still refers to it then.
_REST: Final = 1024
_VERSION: Final = 0x4D50_0001
# Generations of a table begin here times its number in this process.
_GENERATIONS_PER_TABLE: Final = 1 << 22
_next_table: Final = itertools.count().__next__

# A record in 64-bit words: id, key, ...; in 32-bit words from word 4: references, next, marks, ...
_ID, _KEY = 0, 1
_REFERENCES, _NEXT, _BOUND, _SYNCED, _SHAPE, _HANDLE_TYPE = 4, 5, 6, 7, 8, 9
# The word of the shape, by bytes: the kind, flags, the size of the handle, whether it was flushed.
_SHAPE_AT, _FLUSHED_AT, _HANDLE_AT = 32, 35, 40
_WORDS, _HALVES = RECORD_BYTES // 8, RECORD_BYTES // 4
# Notes of what is being done (request, inode number), in 64-bit words after the header: the last ones, used in turn.
_INTENTIONS_FROM: Final = 8
_INTENTIONS: Final = (FIRST_SLOT - 1) * RECORD_BYTES // 16
# The first records are the header; in 32-bit words: version, first never used slot, freed slots (first, last, number),
# what the owner notes, first generation.
_TOP, _FREE_FIRST, _FREE_LAST, _FREE_COUNT, _NOTE, _GENERATION = 1, 2, 3, 4, 5, 6

ORPHAN: Final = 1

assert SLOTS_MAX <= 1 << ROOT_SHIFT, "a slot number must fit below the root's number"
assert FIRST_SLOT * RECORD_BYTES >= 4 * (_GENERATION + 1), "the header must fit into the reserved records"
assert HANDLE_BYTES_MAX + _HANDLE_AT == RECORD_BYTES


def _memory(descriptor: int) -> tuple[int, mmap.mmap]:
    """A fresh table for -1. Where nothing can be handed to another process, it has no descriptor."""
    if sys.platform == "win32":
        return -1, mmap.mmap(-1, _SIZE)
    if descriptor < 0:
        descriptor = os.memfd_create("mirror-inodes", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _SIZE)
    return descriptor, mmap.mmap(descriptor, _SIZE, flags=mmap.MAP_SHARED | _MAP_NORESERVE)


class Slots:
    """One table. `descriptor` is the memory file; give it to map the table of a process that died."""

    def __init__(self, root_index: int, descriptor: int = -1) -> None:
        fresh = descriptor < 0
        self.descriptor, self._map = _memory(descriptor)
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("Q")
        self._halves = self._bytes.cast("I")
        self._heads_at = SLOTS_MAX * _HALVES
        self._root_bits = root_index << ROOT_SHIFT
        self._next_intention = itertools.count().__next__
        if fresh:
            self._halves[_TOP] = FIRST_SLOT
            self._halves[_GENERATION] = _next_table() * _GENERATIONS_PER_TABLE % GENERATIONS
            self._halves[0] = _VERSION
        elif self._halves[0] != _VERSION:
            raise ValueError(f"the inode table has version {self._halves[0]:#x}, this engine needs {_VERSION:#x}")

    def close(self) -> None:
        self._halves.release()
        self._words.release()
        self._bytes.release()
        self._map.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)

    # -- the table -------------------------------------------------------------------------------------------------

    @property
    def used(self) -> int:
        """Records in use (and leaked ones)."""
        return self._halves[_TOP] - FIRST_SLOT - self._halves[_FREE_COUNT]

    @property
    def note(self) -> int:
        """A word that the owner of the table may keep in it."""
        return self._halves[_NOTE]

    @note.setter
    def note(self, value: int) -> None:
        self._halves[_NOTE] = value

    def intend(self, request: int, ino: int) -> None:
        """Notes that this request is about to move this inode. The last 60 notes are kept."""
        at = _INTENTIONS_FROM + 2 * (self._next_intention() % _INTENTIONS)
        self._words[at] = 0
        self._words[at + 1] = ino
        self._words[at] = request

    def intended(self, request: int) -> int:
        """The inode number noted for a request, 0 if there is none."""
        for at in range(_INTENTIONS_FROM, _INTENTIONS_FROM + 2 * _INTENTIONS, 2):
            if self._words[at] == request:
                return self._words[at + 1]
        return 0

    def add(self, key: int, shape: int) -> int:
        """A new record (no reference, no handle), to be found under `key`; its slot."""
        halves = self._halves
        if halves[_FREE_COUNT] > _REST:
            slot = halves[_FREE_FIRST]
            halves[_FREE_COUNT] -= 1
            halves[_FREE_FIRST] = halves[slot * _HALVES + _NEXT]
        else:
            slot = halves[_TOP]
            if slot >= SLOTS_MAX:
                raise MemoryError(f"more than {SLOTS_MAX} inodes are in use at once")
            halves[_TOP] = slot + 1
        at = slot * _HALVES
        for half in (_REFERENCES, _BOUND, _SYNCED, _HANDLE_TYPE):
            halves[at + half] = 0
        halves[at + _SHAPE] = shape
        last = self._words[slot * _WORDS + _ID] >> GENERATION_SHIFT or halves[_GENERATION]
        generation = last % GENERATIONS + 1
        self._words[slot * _WORDS + _KEY] = key
        self._words[slot * _WORDS + _ID] = generation << GENERATION_SHIFT | self._root_bits | slot
        head = self._heads_at + key % _HEADS
        halves[at + _NEXT] = halves[head]
        halves[head] = slot
        return slot

    def find(self, key: int) -> int:
        """The slot that is listed under `key`, or `NOWHERE`."""
        slot = self._halves[self._heads_at + key % _HEADS]
        while slot and self._words[slot * _WORDS + _KEY] != key:
            slot = self._halves[slot * _HALVES + _NEXT]
        return slot

    def unlist(self, slot: int) -> None:
        """Takes the record out of the index; it is reached by its slot only from now on. Idempotent."""
        halves = self._halves
        at = self._heads_at + self._words[slot * _WORDS + _KEY] % _HEADS
        while halves[at] and halves[at] != slot:
            at = halves[at] * _HALVES + _NEXT
        if halves[at] == slot:
            halves[at] = halves[slot * _HALVES + _NEXT]

    def free(self, slot: int) -> None:
        """Gives the record back. Its id is void from now on."""
        self.unlist(slot)
        halves = self._halves
        # The generation stays for the next user; the lower half zero says that nobody uses it.
        self._words[slot * _WORDS + _ID] = self._words[slot * _WORDS + _ID] >> GENERATION_SHIFT << GENERATION_SHIFT
        halves[slot * _HALVES + _NEXT] = 0
        if halves[_FREE_COUNT]:
            halves[halves[_FREE_LAST] * _HALVES + _NEXT] = slot
        else:
            halves[_FREE_FIRST] = slot
        halves[_FREE_LAST] = slot
        halves[_FREE_COUNT] += 1

    # -- one record ------------------------------------------------------------------------------------------------

    def slot_of(self, identity: int) -> int:
        """The slot of an id, `NOWHERE` if no record has it (any more)."""
        slot = identity & (1 << ROOT_SHIFT) - 1
        if FIRST_SLOT <= slot < self._halves[_TOP] and self._words[slot * _WORDS + _ID] == identity:
            return slot
        return NOWHERE

    def id(self, slot: int) -> int:
        return self._words[slot * _WORDS + _ID]

    def key(self, slot: int) -> int:
        return self._words[slot * _WORDS + _KEY]

    def shape(self, slot: int) -> int:
        """The file type (as in st_mode, shifted by 12) in the low byte, flags in the next."""
        return self._halves[slot * _HALVES + _SHAPE] & 0xFFFF

    def set_flags(self, slot: int, flags: int) -> None:
        self._bytes[slot * RECORD_BYTES + _SHAPE_AT + 1] = flags

    def flushed(self, slot: int) -> bool:
        return self._bytes[slot * RECORD_BYTES + _FLUSHED_AT] != 0

    def set_flushed(self, slot: int) -> None:
        self._bytes[slot * RECORD_BYTES + _FLUSHED_AT] = 1

    def references(self, slot: int) -> int:
        return self._halves[slot * _HALVES + _REFERENCES]

    def add_references(self, slot: int, count: int) -> int:
        """The new number; it never goes below zero."""
        at = slot * _HALVES + _REFERENCES
        self._halves[at] = left = max(0, self._halves[at] + count)
        return left

    def marks(self, slot: int) -> tuple[int, int]:
        """(bound, synced)"""
        at = slot * _HALVES
        return self._halves[at + _BOUND], self._halves[at + _SYNCED]

    def set_bound(self, slot: int, mark: int) -> None:
        self._halves[slot * _HALVES + _BOUND] = mark

    def set_synced(self, slot: int, mark: int) -> None:
        self._halves[slot * _HALVES + _SYNCED] = mark

    def handle(self, slot: int) -> bytes | None:
        """As `syscalls.handle_of` gave it."""
        at = slot * RECORD_BYTES
        size = self._bytes[at + _SHAPE_AT + 2]
        if size == 0:
            return None
        kind = bytes(self._bytes[at + 4 * _HANDLE_TYPE : at + _HANDLE_AT])
        return size.to_bytes(4, "little") + kind + bytes(self._bytes[at + _HANDLE_AT : at + _HANDLE_AT + size])

    def set_handle(self, slot: int, handle: bytes) -> bool:
        """False if it is too long to be kept."""
        size = len(handle) - 8
        if size > HANDLE_BYTES_MAX:
            return False
        at = slot * RECORD_BYTES
        self._bytes[at + 4 * _HANDLE_TYPE : at + _HANDLE_AT] = handle[4:8]
        self._bytes[at + _HANDLE_AT : at + _HANDLE_AT + size] = handle[8:]
        self._bytes[at + _SHAPE_AT + 2] = size
        return True

    def everything(self) -> list[int]:
        """The slots in use."""
        low = (1 << GENERATION_SHIFT) - 1
        top = self._halves[_TOP]
        return [slot for slot in range(FIRST_SLOT, top) if self._words[slot * _WORDS + _ID] & low]
