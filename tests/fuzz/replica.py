"""A replica's files under frames that nobody would send: whatever comes, nothing outside its directory changes, and an
apply ends with a value, `ApplyError`, `WireError` or `OSError`.

Frames are put together from small sets of names and file ids, so that they often refer to each other; a quarter of the
payloads are any bytes at all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from mirror_agent.mirror import wire
from mirror_agent.mirror.dirty_log import LogContent
from mirror_agent.mirror.inodes import Descriptors, Root
from mirror_agent.mirror.quarantine import Quarantine
from mirror_agent.mirror.replica_files import ApplyError, ReplicaFiles
from mirror_agent.mirror.replica_resync import ResyncTarget
from mirror_agent.mirror.resync_report import Known
from mirror_agent.mirror.tree_copy import remove_entry
from mirror_agent.mirror.wire import Entry, Frame, Op, Rename, SetAttr, Unchanged, WireError

NAMES: Final = (b"a", b"b", b"c", b"link", b".mirrorplane-stash-01234567", b"x" * 255)
# What must never get through as a name.
BAD_NAMES: Final = (b"..", b".", b"", b"a/b", b"/", b"../outside", b"a\0b", b"x" * 256)
ODD_FIDS: Final = (0, 1, 2, 16, 1 << 63)
MODES: Final = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, 0)
SIZE_MAX: Final = 1 << 20


class Dice(Protocol):
    """Where the choices come from: a fuzzer's bytes, or a seeded generator."""

    def pick(self, count: int) -> int:
        """A number in [0, count)."""

    def some_bytes(self, most: int) -> bytes: ...


@dataclass(frozen=True)
class Chosen:
    op: int
    fid: int
    offset: int
    flags: int
    payload: bytes


class Composer:
    """Makes the next frame."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._given = 16

    def frame(self) -> Chosen:
        dice = self._dice
        op = _OPS[dice.pick(len(_OPS))]
        flags = (0, wire.DIRECTORY, wire.LAST_LINK, wire.FINAL, wire.WRITTEN_ONLY, 0xFFFF)[dice.pick(6)]
        payload = dice.some_bytes(300) if dice.pick(4) == 0 else self._payload(op)
        offset = self._parent() if op in _PLACED else self._number()
        return Chosen(op, self._subject(op), offset, flags, payload)

    def _subject(self, op: int) -> int:
        if op in _NAMING:
            return self._new_fid()
        if op in _LISTING:
            return self._parent()
        return 0 if op in _BY_NAME and self._dice.pick(2) else self._fid()

    def _new_fid(self) -> int:
        if self._dice.pick(8) == 0:
            return self._fid()
        self._given += 1
        return self._given

    def _fid(self) -> int:
        """One that was given, or one that nobody may use."""
        if self._dice.pick(8) == 0:
            return ODD_FIDS[self._dice.pick(len(ODD_FIDS))]
        return 17 + self._dice.pick(max(1, self._given - 16))

    def _parent(self) -> int:
        return 1 if self._dice.pick(3) else self._fid()

    def _number(self) -> int:
        return (0, 1, 4096, SIZE_MAX - 1, 1 << 40, wire.POSITION_MAX)[self._dice.pick(6)]

    def _name(self) -> bytes:
        names = BAD_NAMES if self._dice.pick(8) == 0 else NAMES
        return names[self._dice.pick(len(names))]

    def _payload(self, op: int) -> bytes:
        match op:
            case Op.MAKE | Op.ENSURE:
                return wire.entry_payload(self._entry())
            case Op.RENAME:
                victim = self._fid() if self._dice.pick(4) == 0 else 0
                move = Rename(self._parent(), self._dice.pick(4), victim, 0, self._name(), self._name())
                return wire.rename_payload(move)
            case Op.WRITE | Op.FILL:
                return self._dice.some_bytes(200)
            case Op.SETATTR:
                return wire.setattr_payload(SetAttr(self._dice.pick(256), 0o644, 0, 0, self._dice.pick(SIZE_MAX), 0, 0))
            case Op.FALLOCATE:
                return wire.fallocate_payload(self._number(), self._dice.pick(8))
            case Op.SUM:
                return wire.sum_payload(self._dice.pick(SIZE_MAX), [bytes(16)] * self._dice.pick(4))
            case Op.SETTLED | Op.DIR_END:
                return wire.settled_payload(0, self._dice.pick(1 << 30))
            case Op.KEEP:
                return wire.keep_payload([Unchanged(self._name(), stat.S_IFREG | 0o644, 0, 0)])
            case _:
                return self._name()

    def _entry(self) -> Entry:
        mode = MODES[self._dice.pick(len(MODES))] | 0o644
        target = (b"", b"a", b"../../outside", b"/etc/passwd")[self._dice.pick(4)]
        return Entry(mode, 0, 0, 0, self._dice.pick(SIZE_MAX), 0, 1 + self._dice.pick(2), self._name(), target, ())


class Replica:
    """One session on a fresh directory `home/data`, with the rest of `home` as what must not change."""

    def __init__(self, home: Path) -> None:
        self._home = home
        (home / "data").mkdir()
        self._fd = os.open(home / "data", os.O_RDONLY | os.O_DIRECTORY)
        root = Root(0, str(home / "data"), True, self._fd, os.fstat(self._fd).st_dev)
        self.files = ReplicaFiles([root], Descriptors(64))
        quarantine = Quarantine(str(home / "quarantine"), "fuzz")
        self.target = ResyncTarget(self.files, [root], quarantine, "0123456789abcdef", Known(1 << 62, LogContent()))
        self.files.preserving = self.target
        self._handlers: dict[int, Callable[[Frame], object]] = {
            Op.BIND: self._bind, Op.UNBIND: self.files.unbind, Op.MAKE: self.files.make, Op.LINK: self.files.link,
            Op.REMOVE: self.files.remove, Op.RENAME: self.files.rename, Op.WRITE: self.files.write,
            Op.SETATTR: self.files.setattr, Op.FALLOCATE: self.files.fallocate, Op.SETXATTR: self.files.setxattr,
            Op.REMOVEXATTR: self.files.removexattr, Op.DIR_BEGIN: self.target.dir_begin, Op.ENSURE: self.target.ensure,
            Op.DIR_END: self.target.dir_end, Op.STASH: self.target.stash, Op.SUM: self.target.compare,
            Op.FILL: self.target.fill, Op.SETTLED: self.target.settled, Op.KEEP: self.target.keep,
        }  # fmt: skip

    def _bind(self, frame: Frame) -> None:
        self.files.bind(frame)
        self.target.bound(frame)

    def apply(self, chosen: Chosen) -> bool:
        """False if the frame was refused, which ends a session."""
        payload = memoryview(chosen.payload)
        frame = Frame(chosen.op, chosen.flags, 1, 1, chosen.fid, chosen.offset, payload, len(payload))
        try:
            self._handlers[chosen.op](frame)
        except (ApplyError, WireError, OSError):
            return False
        finally:
            self.files.call.holding.clear()
        return True

    def close(self) -> None:
        self.target.abandon()
        self.files.close()
        os.close(self._fd)
        home = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in (b"data", b"quarantine"):
                if os.path.lexists(self._home / os.fsdecode(name)):
                    remove_entry(home, name)
        finally:
            os.close(home)


_OPS: Final = (
    Op.BIND, Op.UNBIND, Op.MAKE, Op.MAKE, Op.LINK, Op.REMOVE, Op.RENAME, Op.WRITE, Op.SETATTR, Op.FALLOCATE,
    Op.SETXATTR, Op.REMOVEXATTR, Op.DIR_BEGIN, Op.ENSURE, Op.ENSURE, Op.DIR_END, Op.STASH, Op.SUM, Op.FILL,
    Op.SETTLED, Op.KEEP,
)  # fmt: skip
_NAMING: Final = frozenset({Op.BIND, Op.MAKE, Op.ENSURE})
_LISTING: Final = frozenset({Op.DIR_BEGIN, Op.DIR_END, Op.KEEP})
_BY_NAME: Final = frozenset({Op.REMOVE, Op.RENAME})
_PLACED: Final = frozenset({Op.BIND, Op.MAKE, Op.LINK, Op.REMOVE, Op.RENAME, Op.ENSURE, Op.STASH})
