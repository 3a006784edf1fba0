"""Between the mounted directory and the stream: which change is sent, and when its caller may be answered.

Rule of order: apply locally, append to the stream, (wait), answer. The local change and the append happen inside the
order lock of what is changed (`directory` locks for names, `inode` locks for data and attributes; directories before
inodes, each class in ascending stripe order), so the stream extends every order an application can observe, and a
resync that takes the same lock sees either both or neither.

Acknowledging: *solo* answers without the peer; *paired* answers a call only after the replica's answer to its frames
(strict: each; ordered: each barrier, and the removal of a file that was flushed); a paired call that cannot get it is
*parked*: its answer, or the whole request if it was not begun, is kept until `release` (the supervisor has the
witness's word) or `discard`. Nothing in here ever goes from paired to solo by itself (I3).

Inodes without a link left are not replicated: they vanish at a failover.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from mirror_agent.mirror import files, limits, wire
from mirror_agent.mirror.inodes import Call, Inode
from mirror_agent.mirror.stream import Stream
from mirror_agent.mirror.tracking import Tracker
from mirror_agent.mirror.wire import Buffer, Entry, Op, Rename, SetAttr

_STRIPES: Final = 256

Answer = Callable[[], None]


class Ticket(NamedTuple):
    """What an operation must wait for. `stream` None: it could not be sent at all."""

    stream: Stream | None
    seq: int
    flushed: bool
    generation: int


def _commits(victim: Inode | None, *, directory: bool) -> bool:
    """The removal of a file that was flushed may be a commit: of SQLite's rollback journal, whose directory SQLite
    flushes afterwards, and takes for flushed if it cannot be opened (unixDelete in os_unix.c), as after this engine's
    death. Of a file that nobody here knows it may as well."""
    return not directory and (victim is None or victim.flushed)


class Arrivals(Protocol):
    """The resync's part: names that enter or leave the part of the tree the replica already has."""

    def arrive(self, parent: Inode, name: bytes, inode: Inode) -> int: ...

    def depart(self, parent: Inode, name: bytes, inode: Inode) -> int: ...

    def found(self, parent: Inode, name: bytes, inode: Inode) -> None: ...

    def covers(self, directory: Inode, name: bytes) -> bool: ...


class Outlet:
    """One per primary. `stream` is the current replica's, or None; `arrivals` is set while a resync is running.
    `handed_over`: the first stream needs no resync."""

    def __init__(self, *, paired: bool, tracker: Tracker, handed_over: bool = True) -> None:
        self.tracker = tracker
        self.stream: Stream | None = None
        self.arrivals: Arrivals | None = None
        self.paired = paired
        self.parked = paired
        self.operations = 0
        # Whoever takes modification times to send them holds this until they are in the stream.
        self.times_order = threading.RLock()
        self.times: dict[int, Inode] = {}
        self._earlier_times: dict[int, Inode] = {}
        self._taken_times: dict[int, Inode] = {}
        self._generation = 0
        # Reentrant: a stream may be found lost, and parked, while its own `connect` is running.
        self._gate = threading.RLock()
        # By (root, request number), in order of arrival; with the thread that made the call, 0 if unknown.
        self._requests: dict[tuple[int, int], tuple[Answer, int]] = {}
        self._answers: deque[Answer] = deque()
        self._closed = False
        self._inode_locks = [threading.Lock() for _ in range(_STRIPES)]
        self._directory_locks = [threading.Lock() for _ in range(_STRIPES)]
        # Hand-over only: look-ups answered before the first stream exists, in order, to be bound when it does.
        self._early: list[tuple[Inode, Inode, bytes]] | None = [] if paired and handed_over else None

    # -- order -----------------------------------------------------------------------------------------------------

    def inode_lock(self, inode: Inode) -> threading.Lock:
        return self._inode_locks[inode.fid % _STRIPES]

    def directory_lock(self, inode: Inode) -> threading.Lock:
        return self._directory_locks[inode.fid % _STRIPES]

    def pass_all_locks(self) -> None:
        """Returns when every change that had begun before this call is in the stream."""
        for lock in (*self._directory_locks, *self._inode_locks):
            with lock:
                continue

    def every_directory_lock(self) -> list[threading.Lock]:
        """Taken in this order they keep every name of every path as it is."""
        return list(self._directory_locks)

    @contextmanager
    def directory_locks(self, one: Inode, other: Inode) -> Iterator[None]:
        first, second = sorted((one.fid % _STRIPES, other.fid % _STRIPES))
        with self._directory_locks[first]:
            if first == second:
                yield
            else:
                with self._directory_locks[second]:
                    yield

    # -- sending ---------------------------------------------------------------------------------------------------

    def emit(
        self,
        call: Call,
        inode: Inode,
        op: int,
        *,
        offset: int = 0,
        data: Buffer = b"",
        sync: bool = False,
        last: bool = True,
        flags: int = 0,
    ) -> None:
        """Sends a change of data or attributes of one inode; its order lock is held. `last`: False if more frames of
        the same call follow, which then are waited for."""
        if sync:
            inode.flush_asked()
        if inode.orphan:
            return
        hinted = self.paired
        stream = self.stream
        seq = 0
        if stream is not None and inode.bound is stream:
            if hinted:
                flags |= wire.WAITED if (inode.root.strict and last) or sync else 0
                flags |= wire.SYNC if sync else 0
            if hinted or op != Op.FSYNC:
                seq = stream.append(op, fid=inode.fid, offset=offset, data=data, flags=flags)
            elif not self.paired:
                return  # the replica flushes at the barrier that makes it a member
            if sync and not hinted and self.paired:  # paired in between: the flush is still owed
                seq = stream.append(Op.FSYNC, fid=inode.fid, flags=wire.WAITED | wire.SYNC)
        self._owe(call, stream, inode, seq, sync=sync)

    def _owe(
        self, call: Call, stream: Stream | None, inode: Inode, seq: int, *, sync: bool, commits: bool = False
    ) -> None:
        """Decides what the caller waits for. Read of `paired` comes after the append: a barrier that makes the pair
        is appended after `paired` is set, so whoever still saw it unset is covered by the barrier."""
        self.operations += 1
        generation = self._generation  # before `paired`: `release` changes them in the other order
        if seq == 0 and stream is not None and stream.complete and stream.lost is None:
            stream.fail(f"a change of {inode!r} could not be sent: the replica does not know it")
        if not self.paired:
            return
        if seq == 0:
            call.ticket = Ticket(None, 0, False, generation)
        elif sync or commits or inode.root.strict:
            call.ticket = Ticket(stream, seq, sync, generation)

    def _hint(self, inode: Inode) -> int:
        return wire.WAITED if self.paired and inode.root.strict else 0

    def _has(self, stream: Stream, directory: Inode, name: bytes) -> bool:
        if directory.synced is stream or (stream.complete and directory.bound is stream):
            return True
        arrivals = self.arrivals
        return arrivals is not None and arrivals.covers(directory, name)

    def looked_up(self, parent: Inode, name: bytes, inode: Inode) -> None:
        """Makes the inode known to the replica, if the replica has its directory."""
        stream = self.stream
        if stream is None:
            if self._early is None:
                return
            with self._gate:
                if self.stream is None and self._early is not None:
                    self._early.append((inode, parent, name))
                    return
            stream = self.stream
        if stream is None or inode.bound is stream or inode.orphan or not self._has(stream, parent, name):
            return
        if (arrivals := self.arrivals) is not None:
            arrivals.found(parent, name, inode)
            return
        with self.inode_lock(inode):
            self._bind(stream, inode, parent, name)

    def _bind(self, stream: Stream, inode: Inode, parent: Inode, name: bytes) -> None:
        if inode.bound is stream or inode.dropped:
            return
        if stream.append(Op.BIND, fid=inode.fid, offset=parent.fid, data=name):
            inode.bound = stream

    def made(self, call: Call, parent: Inode, inode: Inode, entry: Entry) -> None:
        """A new name with a new inode in `parent`."""
        self.times[parent.fid] = parent
        stream = self.stream
        seq = 0
        if stream is not None and self._has(stream, parent, entry.name):
            seq = stream.append(
                Op.MAKE, fid=inode.fid, offset=parent.fid, data=wire.entry_payload(entry), flags=self._hint(parent)
            )
            if seq:
                inode.bound = stream
                inode.synced = stream  # nothing is in it yet
        self._owe(call, stream, parent, seq, sync=False)

    def linked(self, call: Call, parent: Inode, name: bytes, inode: Inode) -> None:
        self.times[parent.fid] = parent
        stream = self.stream
        seq = 0
        if stream is not None and self._has(stream, parent, name):
            with self.inode_lock(inode):
                bound = inode.bound is stream
                if bound:
                    seq = stream.append(Op.LINK, fid=inode.fid, offset=parent.fid, data=name, flags=self._hint(parent))
            if not bound and self.arrivals is not None:
                seq = self.arrivals.arrive(parent, name, inode)
        self._owe(call, stream, parent, seq, sync=False)

    def removed(
        self, call: Call, parent: Inode, name: bytes, victim: Inode | None, *, directory: bool, last: bool
    ) -> None:
        self.times[parent.fid] = parent
        stream = self.stream
        seq = 0
        if stream is not None and self._has(stream, parent, name):
            seq = self._remove(stream, parent, name, victim, directory=directory, last=last)
        self._owe(call, stream, parent, seq, sync=False, commits=_commits(victim, directory=directory))

    def _remove(
        self, stream: Stream, parent: Inode, name: bytes, victim: Inode | None, *, directory: bool, last: bool
    ) -> int:
        waited = self.paired and (parent.root.strict or _commits(victim, directory=directory))
        flags = wire.WAITED if waited else 0
        flags |= (wire.DIRECTORY if directory else 0) | (wire.LAST_LINK if last else 0)
        fid = victim.fid if victim is not None and victim.bound is stream else 0
        return stream.append(Op.REMOVE, fid=fid, offset=parent.fid, data=name, flags=flags)

    def renamed(
        self,
        call: Call,
        parents: tuple[Inode, Inode],
        names: tuple[bytes, bytes],
        flags: int,
        inode: Inode,
        victim: Inode | None,
        *,
        exchanged: bool,
        last: bool,
    ) -> None:
        """`inode` moved from the first place to the second; `victim` was there (and is now at the first if
        `exchanged`). Places the replica does not have yet are left to the resync."""
        old, new = parents
        self.times[old.fid] = old
        self.times[new.fid] = new
        stream = self.stream
        seq = 0
        if stream is not None:
            had, has = self._has(stream, old, names[0]), self._has(stream, new, names[1])
            if had and has:
                move = Rename(
                    new.fid,
                    flags,
                    victim.fid if victim is not None and victim.bound is stream else 0,
                    wire.LAST_LINK if last else 0,
                    *names,
                )
                fid = inode.fid if inode.bound is stream else 0
                seq = stream.append(
                    Op.RENAME, fid=fid, offset=old.fid, data=wire.rename_payload(move), flags=self._hint(new)
                )
            elif self.arrivals is not None and had:
                seq = self.arrivals.depart(old, names[0], inode)
                if exchanged and victim is not None:
                    seq = self.arrivals.arrive(old, names[0], victim)
            elif self.arrivals is not None and has:
                if exchanged and victim is not None:
                    self.arrivals.depart(new, names[1], victim)
                elif victim is not None:
                    self._remove(stream, new, names[1], victim, directory=victim.is_dir, last=last)
                seq = self.arrivals.arrive(new, names[1], inode)
        self._owe(call, stream, new, seq, sync=False)

    def replayed(self, call: Call, directory: Inode) -> None:
        """An engine that died had made this change already: the resync that follows its death carries it, unless it
        has begun with the directory before the change was completed here."""
        stream = self.stream
        if stream is not None and directory.bound is stream:
            stream.fail("a call that the engine before had begun was completed after its directory was compared")
        self._owe(call, stream, directory, 0, sync=False)

    def barrier(self, call: Call, inode: Inode) -> None:
        """syncfs: everything of all paths is flushed on both nodes."""
        stream = self.stream
        if not self.paired:
            return
        seq = stream.append(Op.BARRIER, flags=wire.WAITED | wire.SYNC) if stream is not None else 0
        self._owe(call, stream, inode, seq, sync=True)

    def forgotten(self, inode: Inode) -> None:
        """Nobody refers to the inode any more (it is out of the table)."""
        stream = self.stream
        with self.inode_lock(inode):
            if stream is not None and inode.bound is stream:
                stream.append(Op.UNBIND, fid=inode.fid)
            inode.bound = None  # whoever still wants to send its times comes too late

    def send_times(self, inode: Inode, fd: int) -> None:
        """Sends the modification time that earlier operations left on the inode."""
        stream = self.stream
        with self.inode_lock(inode):
            self._taken_times.pop(inode.fid, None)
            if stream is None or inode.orphan or inode.bound is not stream:
                return
            change = SetAttr(wire.SET_MTIME, 0, 0, 0, 0, 0, files.fstat(fd).st_mtime_ns)
            stream.append(Op.SETATTR, fid=inode.fid, data=wire.setattr_payload(change))

    def distrust(self, reason: str) -> None:
        """An operation may have changed this node only: the replica is not identical any more."""
        if (stream := self.stream) is not None:
            stream.fail(reason)

    def take_times(self) -> list[Inode]:
        """Inodes whose times changed before the previous call: by now no operation is still entering one there."""
        # First, so that `owes_times` finds each inode somewhere at any moment.
        self._taken_times.update(self._earlier_times)
        taken, self._earlier_times, self.times = self._earlier_times, self.times, {}
        return list(taken.values())

    def owes_times(self, inode: Inode) -> bool:
        """True if the inode's times changed and were not sent yet."""
        return any(inode.fid in owed for owed in (self.times, self._earlier_times, self._taken_times))

    def forget_times(self, inode: Inode) -> bool:
        """Nobody refers to the inode any more; as `owes_times`, for the last time."""
        owed = [times.pop(inode.fid, None) for times in (self.times, self._earlier_times, self._taken_times)]
        return any(one is not None for one in owed)

    # -- waiting, parking ------------------------------------------------------------------------------------------

    @property
    def crowded(self) -> bool:
        """True if the next change has to wait for the replica to take earlier ones."""
        stream = self.stream
        return stream is not None and stream.full

    def settle(self, ticket: Ticket, answer: Answer, *, reading: bool) -> None:
        """Answers as soon as the ticket is good: now, when the replica's answer comes, or (parked) when the pair is
        released. `reading`: this thread reads the replica's answers meanwhile if nobody else does."""
        if ticket.stream is None:
            self._keep(ticket, answer)
        else:
            ticket.stream.when(
                ticket.seq,
                flushed=ticket.flushed,
                then=lambda good: answer() if good else self._keep(ticket, answer),
                reading=reading,
            )

    def _keep(self, ticket: Ticket, answer: Answer) -> None:
        """The pair could not confirm it: answered when the pair is released, or never."""
        with self._gate:
            if self._closed:
                return
            if self._generation == ticket.generation:
                self._answers.append(answer)
                return
        answer()  # released in the meantime

    def hold_back(self, key: tuple[int, int], request: Answer, caller: int = 0) -> bool:
        """Keeps a request that was not begun; False if calls are not parked (any more) or too many are kept."""
        with self._gate:
            if self._closed:
                return True  # the mount is being aborted; nobody is answered
            if not self.parked or len(self._requests) >= limits.PARKED_REQUESTS_MAX:
                return False
            self._requests[key] = (request, caller)
            return True

    def caller(self, key: tuple[int, int]) -> int | None:
        """The thread whose request is held back, 0 if unknown; None if it is not held back (any more)."""
        kept = self._requests.get(key)
        return None if kept is None else kept[1]

    def give_up(self, key: tuple[int, int]) -> bool:
        """The caller is dying: True if its request was held back, which then never begins."""
        with self._gate:
            return self._requests.pop(key, None) is not None

    @property
    def held_back(self) -> int:
        return len(self._requests) + len(self._answers)

    def connect(self, stream: Stream) -> None:
        """Hand-over: the replica is identical. Binds what was looked up so far; mutating calls go on."""
        with self._gate:
            early, self._early = self._early or [], None
            for inode, parent, name in early:
                if parent.bound is stream:
                    self._bind(stream, inode, parent, name)
            self.stream = stream

    def unpark(self) -> None:
        """The link is live again or for the first time: held-back requests go on, still paired."""
        with self._gate:
            self.parked = False
            requests = self._drain_requests()
        for request in requests:
            request()

    def park(self) -> None:
        """Paired and the stream is gone: from now on mutating calls are held back."""
        with self._gate:
            self.parked = self.paired

    def pair(self) -> None:
        self.paired = True

    def release(self) -> None:
        """Solo from now on: answers every parked call. Only on the supervisor's word."""
        with self._gate:
            self.paired = False
            self.parked = False
            self._early = None
            self._generation += 1
            answers = list(self._answers)
            self._answers.clear()
            requests = self._drain_requests()
        for waiting in (*answers, *requests):
            waiting()

    def discard(self) -> None:
        """The mounts are aborted: whatever waits is forgotten."""
        with self._gate:
            self._closed = True
            self._answers.clear()
            self._requests.clear()

    def _drain_requests(self) -> list[Answer]:
        taken = [request for request, _ in self._requests.values()]
        self._requests.clear()
        return taken
