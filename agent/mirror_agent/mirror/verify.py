"""The primary's side of a verify: compares the live replica with this tree while the application goes on.

One directory after the other: its names under its order lock, each entry's attributes under the directory's and the
inode's, then content by digests of 64 KiB blocks. The replica compares names and attributes at the same place of the
one stream, so both sides are looked at in the same state.

No false alarms: what the first look finds is a suspicion only. It is asked about again with every directory and the
inode locked (attributes; file times that are still owed to the replica are sent just before), or with the block read
and sent under the inode's lock (content). What differs then is a difference, because nothing can have happened in
between. A repair happens with that second question, never with the first.

Limits: an entry that moves while it is under suspicion is left to the next verify; entries that move while the walk is
under way may be looked at twice or not at all. Allocation (holes), access times and change times are not compared.
"""

from __future__ import annotations

import logging
import os
import queue
import stat
import threading
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from mirror_agent.mirror import files, limits, verify_wire, wire
from mirror_agent.mirror.front import Front
from mirror_agent.mirror.inodes import Call, Descriptors, Inode
from mirror_agent.mirror.outlet import Outlet
from mirror_agent.mirror.replica_resync import block_digest, digests_of
from mirror_agent.mirror.resync import runs, xattrs_of
from mirror_agent.mirror.resync_pace import Pace
from mirror_agent.mirror.stream import Stream
from mirror_agent.mirror.verify_record import LISTED_MAX, Difference
from mirror_agent.mirror.verify_wire import Finding, Kind
from mirror_agent.mirror.wire import Entry, Op, SetAttr, WireError

log: Final = logging.getLogger(__name__)

_PATH_FLAGS: Final = files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC
_ROOT_NAME: Final = b"root"
# Questions on their way: enough to hide the network, few enough not to hold up the application's frames behind them.
QUESTIONS_MAX: Final = 32
CHUNK_BYTES: Final = 16 * limits.BLOCK_BYTES
# What a look at one entry costs, in bytes of the rate.
ENTRY_COST_BYTES: Final = 4096
PASSES_MAX: Final = 3
_LOGGED_MAX: Final = 20
_POLL_S: Final = 0.002
_GONE: Final = frozenset({Kind.MISSING, Kind.TYPE, Kind.TARGET, Kind.IDENTITY, Kind.DEVICE, Kind.UNREADABLE})
assert CHUNK_BYTES <= limits.MAX_WRITE_BYTES
assert verify_wire.MAX_FINDINGS >= CHUNK_BYTES // limits.BLOCK_BYTES


class VerifyEnded(Exception):
    """A verify cannot go on; the message says why."""


@dataclass
class VerifyProgress:
    """What was looked at so far. The totals grow while the tree is being walked."""

    pass_number: int = 1
    entries: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    found: int = 0


@dataclass
class Findings:
    """The differences of one pass: all are counted, the first ones listed."""

    count: int = 0
    listed: list[Difference] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        last = self.listed[-1] if self.listed else None
        if last is not None and self._continues(last, difference):
            assert last.length_bytes is not None
            assert difference.length_bytes is not None
            self.listed[-1] = replace(last, length_bytes=last.length_bytes + difference.length_bytes)
            return
        self.count += 1
        if len(self.listed) < LISTED_MAX:
            self.listed.append(difference)

    @staticmethod
    def _continues(last: Difference, one: Difference) -> bool:
        if one.kind != Kind.CONTENT or (last.path, last.kind, last.repaired) != (one.path, one.kind, one.repaired):
            return False
        return last.offset_bytes is not None and last.offset_bytes + (last.length_bytes or 0) == one.offset_bytes


@dataclass(eq=False)
class _Place:
    """An inode in the walk, with one reference of the table for as long as anything here needs it."""

    front: Front
    inode: Inode
    path: bytes
    uses: int = 1
    # Made by this repair: its content is new, not different.
    new: bool = False


@dataclass(frozen=True)
class _Question:
    kind: Op
    place: _Place
    parent: _Place | None = None
    name: bytes = b""
    offset: int = 0
    length: int = 0
    sure: bool = False
    # The replica was told the file id by this question, and may have nothing to bind it to.
    told: bool = False


class Verify:
    """One verify on one live stream. `run` raises `VerifyEnded` when it cannot be finished, also OSError."""

    def __init__(
        self,
        stream: Stream,
        fronts: list[Front],
        outlet: Outlet,
        descriptors: Descriptors,
        *,
        repair: bool,
        rate_bytes_per_s: float,
    ) -> None:
        self.progress = VerifyProgress()
        self.passes: list[Findings] = []
        self._stream = stream
        self._fronts = fronts
        self._outlet = outlet
        self._descriptors = descriptors
        self._repair = repair
        self._stopped: str | None = None
        self._woken = threading.Event()
        self._pace = Pace(int(rate_bytes_per_s), lambda: outlet.operations, sleep=self._rest)
        self._call: Call = descriptors.new_call()
        self._directories: list[_Place] = []
        self._listing: tuple[_Place, deque[bytes]] | None = None
        self._files: deque[tuple[_Place, int]] = deque()
        self._suspects: deque[_Question] = deque()
        self._asked: dict[int, _Question] = {}
        # Cannot be answered any more; only their references are let go.
        self._stranded: list[_Question] = []
        # Several names: held to the end of the pass, so that each name meets the same file id.
        self._linked: dict[int, _Place] = {}

    def stop(self, reason: str) -> None:
        """From any thread; `run` raises soon."""
        self._stopped = reason
        self._woken.set()

    def _rest(self, seconds: float) -> None:
        self._woken.wait(seconds)

    def run(self) -> None:
        try:
            for number in range(1, PASSES_MAX + 1 if self._repair else 2):
                self.progress = VerifyProgress(pass_number=number)
                self.passes.append(Findings())
                self._walk()
                if not self.passes[-1].count:
                    return
        finally:
            self._let_all_go()
            self._descriptors.end_call(self._call)

    def _walk(self) -> None:
        for front in self._fronts:
            root = front.table.root_inode
            front.table.hold(root)
            self._check(_Place(front, root, os.fsencode(front.root.path)), None, _ROOT_NAME)
        while True:
            self._go_on()
            self._call.holding.clear()
            if len(self._asked) < QUESTIONS_MAX and (cost := self._next()) is not None:
                self._pace.spent(cost)
                self._take_answers(wait=False)
            elif self._asked:
                self._take_answers(wait=True)
            else:
                break
        for place in self._linked.values():
            self._leave(place)
        self._linked.clear()

    def _go_on(self) -> None:
        if self._stream.lost is not None:
            raise VerifyEnded(f"the link was lost: {self._stream.lost}")
        if self._stopped is not None:
            raise VerifyEnded(self._stopped)

    def _next(self) -> int | None:
        """Does one piece of work, deepest first so that little is held; its cost in bytes, None if there is none."""
        if self._suspects:
            return self._ask_again(self._suspects.popleft())
        if self._files:
            return self._compare(*self._files.popleft())
        if self._listing is not None:
            place, names = self._listing
            if names:
                self._look_up(place, names.popleft())
                return ENTRY_COST_BYTES
            self._listing = None
            self._leave(place)
            return 0
        if self._directories:
            return self._list(self._directories.pop())
        return None

    # -- references ------------------------------------------------------------------------------------------------

    def _use(self, place: _Place) -> _Place:
        place.uses += 1
        return place

    def _leave(self, place: _Place) -> None:
        place.uses -= 1
        if place.uses == 0:
            place.front.names.let_go(self._call, place.inode, 1)
            self._call.holding.clear()

    def _let_all_go(self) -> None:
        self._call.holding.clear()
        places = [*self._directories, *(place for place, _ in self._files), *self._linked.values()]
        if self._listing is not None:
            places.append(self._listing[0])
        for question in (*self._suspects, *self._asked.values(), *self._stranded):
            places.append(question.place)
            if question.parent is not None:
                places.append(question.parent)
        for place in places:
            self._leave(place)

    def _ask(self, question: _Question, *, seq: int) -> None:
        """Takes over the references of the question."""
        if seq:
            self._asked[seq] = question
        else:
            self._stranded.append(question)  # the stream is lost

    # -- names and attributes --------------------------------------------------------------------------------------

    def _list(self, place: _Place) -> int:
        """Sends the names of a directory; its entries follow one by one."""
        inode = place.inode
        with self._outlet.directory_lock(inode):
            if inode.orphan:
                names: list[bytes] = []
                seq = 0
            else:
                names = self._names(inode)
                seq = self._send_names(inode, names)
        if seq:
            self._ask(_Question(Op.NAMES, self._use(place)), seq=seq)
        self._listing = (place, deque(names))
        return max(ENTRY_COST_BYTES, 64 * len(names))

    def _names(self, inode: Inode) -> list[bytes]:
        fd = self._descriptors.path_fd(inode, self._call)
        reader = files.open(files.through(fd), files.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC)
        try:
            return [os.fsencode(name) for name in files.listdir(reader)]
        finally:
            files.close(reader)

    def _send_names(self, inode: Inode, names: list[bytes]) -> int:
        payloads = verify_wire.names_payloads(names)
        seq = 0
        for number, payload in enumerate(payloads, 1):
            flags = wire.FINAL if number == len(payloads) else 0
            flags |= wire.REPAIR if self._repair else 0
            seq = self._stream.append(Op.NAMES, fid=inode.fid, data=payload, flags=flags)
        return seq

    def _look_up(self, parent: _Place, name: bytes) -> None:
        """Asks about one entry, as it is now."""
        front = parent.front
        with self._outlet.directory_lock(parent.inode):
            if parent.inode.orphan:
                return
            directory = self._descriptors.path_fd(parent.inode, self._call)
            try:
                fd = files.open(name, _PATH_FLAGS, dir_fd=directory)
            except FileNotFoundError:
                return  # gone since the names were read
            st = files.fstat(fd)
            if st.st_dev != front.root.device:
                files.close(fd)
                return  # another file system: not replicated
            inode = front.table.remember(fd, st)
            place = _Place(front, inode, parent.path + b"/" + name)
            self._check(place, self._use(parent), name)
        self.progress.entries += 1

    def _check(
        self, place: _Place, parent: _Place | None, name: bytes, *, sure: bool = False, told: bool = False
    ) -> None:
        """The order lock of the directory is held (for a root there is none)."""
        with self._outlet.inode_lock(place.inode):
            told = told or place.inode.bound is not self._stream
            seq = self._send_check(place.inode, 0 if parent is None else parent.inode.fid, name, sure=sure)
        self._ask(_Question(Op.CHECK, place, parent, name, sure=sure, told=told), seq=seq)

    def _send_check(self, inode: Inode, parent_fid: int, name: bytes, *, sure: bool) -> int:
        stream = self._stream
        fd = self._descriptors.path_fd(inode, self._call)
        st = files.fstat(fd)
        if sure and inode.bound is stream and self._outlet.owes_times(inode):
            change = SetAttr(wire.SET_MTIME, 0, 0, 0, 0, 0, st.st_mtime_ns)
            stream.append(Op.SETATTR, fid=inode.fid, data=wire.setattr_payload(change))
        entry = Entry(
            st.st_mode, st.st_uid, st.st_gid, st.st_rdev,
            st.st_size if stat.S_ISREG(st.st_mode) else 0, st.st_mtime_ns,
            0 if stat.S_ISDIR(st.st_mode) else st.st_nlink, name,
            files.readlink(b"", dir_fd=fd) if stat.S_ISLNK(st.st_mode) else b"", xattrs_of(fd),
        )  # fmt: skip
        flags = (wire.SURE if sure else 0) | (wire.REPAIR if sure and self._repair else 0)
        seq = stream.append(Op.CHECK, fid=inode.fid, offset=parent_fid, data=wire.entry_payload(entry), flags=flags)
        if seq:
            inode.bound = stream
        return seq

    def _checked(self, question: _Question, findings: list[Finding]) -> None:
        place, parent = question.place, question.parent
        if findings and not question.sure:
            self._suspects.append(question)
            return
        for finding in findings:
            self._record(place.path, finding)
        kinds = {finding.kind for finding in findings if not finding.repaired}
        if parent is not None:
            self._leave(parent)
        if kinds & _GONE:
            if question.told:
                self._unbound(place.inode)
            self._leave(place)
            return
        place.new = any(finding.repaired and finding.kind in (*_GONE, Kind.LINKS) for finding in findings)
        self._descend(place)

    def _unbound(self, inode: Inode) -> None:
        """The replica has nothing to bind the file id to: a change to it must end the link, not get lost."""
        with self._outlet.inode_lock(inode):
            if inode.bound is self._stream:
                inode.bound = None

    def _descend(self, place: _Place) -> None:
        inode = place.inode
        if inode.is_dir:
            self._directories.append(place)
            return
        if not inode.is_file or inode.orphan:
            self._leave(place)
            return
        st = files.fstat(self._descriptors.path_fd(inode, self._call))
        if st.st_nlink > 1:
            if inode.fid in self._linked:
                self._leave(place)  # its content was compared under another name
                return
            self._linked[inode.fid] = self._use(place)
        self.progress.total_bytes += st.st_size
        self._files.append((place, 0))

    # -- content ---------------------------------------------------------------------------------------------------

    def _compare(self, place: _Place, offset: int) -> int:
        """Digests of the next piece of a file, read without a lock."""
        fd = self._descriptors.data_fd(place.inode, self._call)
        size = files.fstat(fd).st_size
        length = min(CHUNK_BYTES, size - offset)
        if length <= 0 or place.inode.orphan:
            self._leave(place)
            return 0
        payload = wire.sum_payload(size, [digest for digest, _ in digests_of(fd, offset, length)])
        seq = self._stream.append(Op.COMPARE, fid=place.inode.fid, offset=offset, data=payload)
        self._ask(_Question(Op.COMPARE, self._use(place), offset=offset, length=length), seq=seq)
        self._files.appendleft((place, offset + length))
        self.progress.done_bytes += length
        return length

    def _compared(self, question: _Question, findings: list[Finding]) -> None:
        place = question.place
        if question.sure or not findings:
            for finding in findings:
                if not place.new or not finding.repaired:
                    self._record(place.path, finding, question)
            self._leave(place)
            return
        unreadable = any(finding.kind is Kind.UNREADABLE for finding in findings)
        blocks = -(-question.length // limits.BLOCK_BYTES)
        suspected = list(range(blocks)) if unreadable else sorted(finding.block for finding in findings)
        for start, end in runs(suspected, blocks):
            again = replace(
                question,
                place=self._use(place),
                offset=question.offset + start * limits.BLOCK_BYTES,
                length=(end - start) * limits.BLOCK_BYTES,
                sure=True,
            )
            self._suspects.append(again)
        self._leave(place)

    def _ask_again(self, question: _Question) -> int:
        """The second question about a suspicion, with everything locked that could change the answer."""
        if question.kind is Op.COMPARE:
            return self._compare_again(question)
        place, parent, name = question.place, question.parent, question.name
        with ExitStack() as locks:
            for lock in self._outlet.every_directory_lock():
                locks.enter_context(lock)
            if parent is None or self._still_there(parent, name, place.inode):
                self._check(place, parent, name, sure=True, told=question.told)
                return ENTRY_COST_BYTES
        if parent is not None:
            self._leave(parent)
        self._leave(place)
        return ENTRY_COST_BYTES

    def _still_there(self, parent: _Place, name: bytes, inode: Inode) -> bool:
        if parent.inode.orphan or inode.orphan:
            return False
        directory = self._descriptors.path_fd(parent.inode, self._call)
        try:
            return files.stat(name, dir_fd=directory, follow_symlinks=False).st_ino == inode.ino
        except FileNotFoundError:
            return False

    def _compare_again(self, question: _Question) -> int:
        place, offset = question.place, question.offset
        inode = place.inode
        seq = 0
        with self._outlet.inode_lock(inode):
            data = b""
            if not inode.orphan:
                fd = self._descriptors.data_fd(inode, self._call)
                data = files.pread(fd, question.length, offset)
            if data and self._repair:
                seq = self._stream.append(Op.PATCH, fid=inode.fid, offset=offset, data=data)
            elif data:
                pieces = range(0, len(data), limits.BLOCK_BYTES)
                digests = [block_digest(data[at : at + limits.BLOCK_BYTES]) for at in pieces]
                payload = wire.sum_payload(0, digests)
                seq = self._stream.append(Op.COMPARE, fid=inode.fid, offset=offset, data=payload, flags=wire.SURE)
        if seq:
            self._ask(replace(question, length=len(data)), seq=seq)
        else:
            self._leave(place)
        return len(data)

    # -- answers ---------------------------------------------------------------------------------------------------

    def _take_answers(self, *, wait: bool) -> None:
        self._stream.flush()
        while self._asked:
            try:
                found = self._stream.found.get(timeout=_POLL_S) if wait else self._stream.found.get_nowait()
            except queue.Empty:
                if not wait:
                    return
                self._go_on()
                self._stream.collect()
                continue
            self._go_on()
            if found is None:
                continue
            wait = False
            self._answered(*found)

    def _answered(self, seq: int, payload: bytes) -> None:
        question = self._asked.pop(seq, None)
        if question is None:
            return  # of an earlier verify on this stream, which was given up
        try:
            findings = verify_wire.parse_found(payload)
        except WireError as error:
            self._stranded.append(question)
            self._stream.fail(f"the replica's answer is not valid: {error}")
            return
        match question.kind:
            case Op.CHECK:
                self._checked(question, findings)
            case Op.COMPARE:
                self._compared(question, findings)
            case _:
                for finding in findings:
                    path = question.place.path + b"/" + finding.name if finding.name else question.place.path
                    self._record(path, finding)
                self._leave(question.place)
        self._call.holding.clear()

    def _record(self, path: bytes, finding: Finding, question: _Question | None = None) -> None:
        offset = length = None
        if question is not None and finding.kind is Kind.CONTENT:
            offset = question.offset + finding.block * limits.BLOCK_BYTES
            length = min(limits.BLOCK_BYTES, question.offset + question.length - offset)
        difference = Difference(os.fsdecode(path), finding.kind.value, finding.detail, offset, length, finding.repaired)
        self.passes[-1].add(difference)
        if self.passes[-1].count <= _LOGGED_MAX:
            log.warning("verify: %s differs: %s %s", difference.path, difference.kind, difference.detail)
        self.progress.found = self.passes[-1].count
