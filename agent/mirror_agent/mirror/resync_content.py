"""Comparing contents in a resync: digests of blocks go over, differing blocks are read and sent again.

A match is always right although the replica compares later than this side read: every frame in between sets bytes to
what they are here, so if the result equals the old content, the frames changed nothing. A differing block is read and
appended under the file's order lock.

Of a file that kept its identity since the base only the blocks written since are asked for (SUM with WRITTEN_ONLY),
where both nodes' logs prove that nothing else was written.

Limits: `RESYNC_WINDOW_BYTES` compared but not yet answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mirror_agent.mirror import files, limits, wire
from mirror_agent.mirror.front import Front
from mirror_agent.mirror.inodes import Call, Descriptors, Inode
from mirror_agent.mirror.outlet import Outlet
from mirror_agent.mirror.replica_resync import digests_of
from mirror_agent.mirror.resync_plan import Plan
from mirror_agent.mirror.stream import Stream
from mirror_agent.mirror.wire import Op


@dataclass
class _State:
    different: bool = False


@dataclass
class _Asked:
    front: Front
    inode: Inode
    offset: int
    length: int
    final: bool
    state: _State


class Contents:
    """The comparisons of one resync. `done` is called once for every file given to `compare`, unless the stream is
    lost: what is left then is returned by `abandon`."""

    def __init__(
        self,
        stream: Stream,
        outlet: Outlet,
        descriptors: Descriptors,
        call: Call,
        plan: Plan,
        done: Callable[[Front, Inode], None],
    ) -> None:
        self._stream = stream
        self._outlet = outlet
        self._descriptors = descriptors
        self._call = call
        self._plan = plan
        self._done = done
        self._asked: deque[_Asked] = deque()
        self._asked_bytes = 0
        self._given_up: list[Inode] = []

    def compare(self, front: Front, inode: Inode, *, whole: bool) -> None:
        """Asks for the comparison of one file, as far as the window allows without waiting for answers."""
        if inode.synced is self._stream or inode.orphan:
            self._done(front, inode)
            return
        inode.synced = self._stream  # asked for once, however many links lead here
        fd = self._descriptors.data_fd(inode, self._call)
        st = files.fstat(fd)
        if st.st_size == 0:
            self._done(front, inode)  # ENSURE said so already
            return
        whole = whole or self._plan.made_since(files.birth_ns(fd))
        written = None if whole else self._plan.written(inode.root.index, st)
        flags = 0 if written is None else wire.WRITTEN_ONLY
        spans = [(0, st.st_size)] if written is None else written
        pieces = [piece for span in spans for piece in _pieces(*span)] or [(0, 0)]
        self._plan.progress.found(sum(length for _, length in pieces))
        state = _State()
        for number, (offset, length) in enumerate(pieces):
            digests = [digest for digest, _ in digests_of(fd, offset, length)]
            final = number == len(pieces) - 1
            payload = wire.sum_payload(st.st_size, digests)
            if not self._stream.append(
                Op.SUM, fid=inode.fid, offset=offset, data=payload, flags=flags | (wire.FINAL if final else 0)
            ):
                self._given_up.append(inode)
                return
            self._asked.append(_Asked(front, inode, offset, length, final, state))
            self._asked_bytes += length
            while self._asked_bytes > limits.RESYNC_WINDOW_BYTES and self._stream.lost is None:
                self._take_answer(wait=True)
            self._plan.pace.spent(length)
        while self._asked and not self._stream.answers.empty() and self._stream.lost is None:
            self._take_answer(wait=False)

    def finish_one(self) -> bool:
        """Waits for one answer; False when nothing was asked any more."""
        if not self._asked:
            return False
        self._take_answer(wait=True)
        return True

    def abandon(self) -> list[Inode]:
        """The stream is lost: the inodes still held for a comparison."""
        left = [*self._given_up, *(asked.inode for asked in self._asked if asked.final)]
        self._asked.clear()
        self._given_up.clear()
        return left

    def _take_answer(self, *, wait: bool) -> None:
        """One answer to the oldest question: differing blocks are read and sent under the file's order lock."""
        self._stream.flush()
        answer = self._stream.answers.get(block=wait)
        if answer is None:
            return  # the stream is lost
        fid, offset, different = answer
        asked = self._asked.popleft()
        if (fid, offset) != (asked.inode.fid, asked.offset):
            self._stream.fail(f"answer for file id {fid} at {offset}, expected {asked.inode.fid} at {asked.offset}")
            self._given_up.append(asked.inode)
            return
        call = self._descriptors.new_call()
        try:
            for start, end in runs(different, limits.MAX_WRITE_BYTES // limits.BLOCK_BYTES):
                self._fill(call, asked.inode, offset + start * limits.BLOCK_BYTES, (end - start) * limits.BLOCK_BYTES)
                asked.state.different = True
            if asked.final:
                if asked.state.different:
                    self._settle(call, asked.inode)
                self._done(asked.front, asked.inode)
        finally:
            self._descriptors.end_call(call)
        self._asked_bytes -= asked.length
        self._plan.progress.compared(asked.length)

    def _fill(self, call: Call, inode: Inode, offset: int, length: int) -> None:
        with self._outlet.inode_lock(inode):
            if inode.orphan:
                return
            data = files.pread(self._descriptors.data_fd(inode, call), length, offset)
            if data:
                self._stream.append(Op.FILL, fid=inode.fid, offset=offset, data=data)
        self._plan.progress.filled_bytes += len(data)
        self._plan.pace.spent(len(data))

    def _settle(self, call: Call, inode: Inode) -> None:
        with self._outlet.inode_lock(inode):
            if not inode.orphan:
                st = files.fstat(self._descriptors.path_fd(inode, call))
                payload = wire.settled_payload(st.st_size, st.st_mtime_ns)
                self._stream.append(Op.SETTLED, fid=inode.fid, data=payload)


def _pieces(offset: int, length: int) -> list[tuple[int, int]]:
    """A span in parts of one SUM frame each."""
    step = limits.BLOCK_BYTES * limits.BLOCKS_PER_SUM
    return [(at, min(step, offset + length - at)) for at in range(offset, offset + length, step)]


def runs(blocks: list[int], longest: int) -> list[tuple[int, int]]:
    """Half-open ranges of neighbouring numbers in a sorted list, none longer than `longest`."""
    found: list[tuple[int, int]] = []
    for block in blocks:
        if found and found[-1][1] == block and block - found[-1][0] < longest:
            found[-1] = (found[-1][0], block + 1)
        else:
            found.append((block, block + 1))
    return found
