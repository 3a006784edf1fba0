"""What makes a primary survive its engine: the belongings of the role, handed down and taken up.

The engine that serves puts into its estate: per path the FUSE connection, the directory below the mount and the inode
table; and, before the last link of an inode goes, a descriptor of it, because the application may have it open. Its
successor takes all of it, asks the kernel to send again what was taken but not answered (Linux 6.9 or later), and goes
on as after a lost link: paired calls stay parked until the supervisor has the witness's word, and the replica, whose
stream ended with the engine, is resynchronised.

Whether calls were paired is noted in the table of the first path: before they are, and after they are not any more, so
that a successor never acknowledges alone what its predecessor could not have.

Where it cannot be (older kernel, file system without short file handles, estate full) nothing is left behind: then the
kernel ends the mount with the engine, and the automaton restarts the application.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirror_agent.mirror import files
from mirror_agent.mirror.config import STRICT, MirrorConfig
from mirror_agent.mirror.estate import Estate, Heirloom, Kind
from mirror_agent.mirror.inode_table import LIVES_MAX
from mirror_agent.mirror.inodes import Root
from mirror_agent.mirror.slots import HANDLE_BYTES_MAX, Slots
from mirror_agent.mirror.status import MirrorError

if TYPE_CHECKING:
    from mirror_agent.mirror.front import Front

log: Final = logging.getLogger(__name__)

_PAIRED: Final = 1
_LIFE_SHIFT: Final = 8
_HANDLE_HEAD_BYTES: Final = 8


@dataclass(frozen=True)
class Inheritance:
    """Everything a successor needs; the descriptors are its own. Lists are by path, in the order of the configuration.
    `life` is 0 for the first engine of a mount and grows with each successor."""

    roots: list[Root]
    connections: list[int]
    tables: list[Slots]
    orphans: list[Heirloom]
    paired: bool
    life: int


def inherit(estate: Estate, config: MirrorConfig) -> Inheritance:
    """Takes up what the engine before left. Raises `MirrorError` if it is not enough to go on."""
    left = estate.inherit()
    found = {(heirloom.kind, heirloom.key): heirloom.fd for heirloom in left}
    count = len(config.paths)
    kinds = (Kind.CONNECTION, Kind.DIRECTORY, Kind.TABLE)
    missing = [kind.name for kind in kinds for index in range(count) if (kind, index) not in found]
    if missing:
        for heirloom in left:
            files.close(heirloom.fd)
        raise MirrorError(f"the engine before left no {', '.join(missing)}; the mounts cannot be taken over")
    roots = []
    for index, entry in enumerate(config.paths):
        fd = found[(Kind.DIRECTORY, index)]
        roots.append(Root(index, entry.path, entry.mode == STRICT, fd, files.fstat(fd).st_dev))
    tables = [Slots(index, found[(Kind.TABLE, index)]) for index in range(count)]
    note = tables[0].note
    life = (note >> _LIFE_SHIFT) + 1
    if life > LIVES_MAX:
        raise MirrorError(f"this mount has been taken over {life} times; mount it anew")
    return Inheritance(
        roots,
        [found[(Kind.CONNECTION, index)] for index in range(count)],
        tables,
        [heirloom for heirloom in left if heirloom.kind == Kind.ORPHAN],
        bool(note & _PAIRED),
        life,
    )


def can_be_kept(root: Root) -> bool:
    """True if inodes of this file system are reached by handles short enough for the table."""
    try:
        handle = files.handle_of(root.fd)
        files.close(files.open_handle(root.fd, handle, files.O_PATH))
    except OSError:
        return False
    return len(handle) <= _HANDLE_HEAD_BYTES + HANDLE_BYTES_MAX


class Succession:
    """One per primary. `guarded`: a successor could take over now."""

    def __init__(self, estate: Estate | None, *, life: int = 0) -> None:
        self.guarded = False
        self.life = life
        self._estate = estate
        self._note: Slots | None = None

    @property
    def wanted(self) -> bool:
        return self._estate is not None

    def hand_down(self, fronts: Sequence[Front], *, paired: bool) -> None:
        """All fronts are mounted. Everything of an earlier mount is taken back first."""
        estate = self._estate
        if estate is None:
            return
        self.guarded = False
        if not all(front.table.keep_handles for front in fronts):
            log.warning("the mounts end with this engine: this kernel or file system cannot hand them to another")
            estate.clear()
            return
        estate.clear()
        self._note = fronts[0].table.slots
        self.note_paired(paired=paired)
        for front in fronts:
            index = front.root.index
            kept = (
                estate.put(Kind.DIRECTORY, index, front.root.fd)
                and estate.put(Kind.TABLE, index, front.table.slots.descriptor)
                and estate.put(Kind.CONNECTION, index, front.connection)
                and all(estate.put(Kind.ORPHAN, inode.fid, inode.fd) for inode in front.table.orphans())
            )
            if not kept:
                self.give_up("the estate is full")
                return
        self.guarded = True

    def take_up(self, fronts: Sequence[Front], *, paired: bool) -> None:
        """The fronts are inherited, and so is the estate."""
        self._note = fronts[0].table.slots
        self.note_paired(paired=paired)
        self.guarded = True

    def note_paired(self, *, paired: bool) -> None:
        if self._note is not None:
            self._note.note = self.life << _LIFE_SHIFT | (_PAIRED if paired else 0)

    def guard(self, fid: int, fd: int) -> None:
        """The last link of this inode is about to go."""
        if self.guarded and self._estate is not None and not self._estate.put(Kind.ORPHAN, fid, fd):
            self.give_up("too many unlinked files are open")

    def release(self, fid: int) -> None:
        """The inode of an earlier `guard` is gone, or did not lose its last link."""
        if self.guarded and self._estate is not None:
            self._estate.drop(Kind.ORPHAN, fid)

    def give_up(self, reason: str) -> None:
        log.warning("the mounts end with this engine from now on: %s", reason)
        self.end()

    def end(self) -> None:
        """The role ends, or cannot be handed down any more."""
        self.guarded = False
        self._note = None
        if self._estate is not None:
            self._estate.clear()
