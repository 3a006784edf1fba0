"""Makes the pair's checkpoints: moments at which both copies are the same and on both disks.

Order: a new dirty log and a clock reading (`Tracker.rotate`); once every order lock was free, everything the clock
reading does not cover is in the stream; the modification times still owed; CHECKPOINT, which the replica answers when
it has flushed and recorded; flushed here meanwhile; recorded here. Interrupted anywhere, the older checkpoint and both
logs are what counts.

The first follows the end of a resync at once, the next ones every `checkpoint_s` if anything was changed.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from mirror_agent.mirror import files, wire
from mirror_agent.mirror.front import Front
from mirror_agent.mirror.inodes import Descriptors, Inode
from mirror_agent.mirror.machine import boottime_s
from mirror_agent.mirror.outlet import Outlet
from mirror_agent.mirror.state import StateStore
from mirror_agent.mirror.stream import Stream
from mirror_agent.mirror.tracking import Tracker
from mirror_agent.mirror.wire import Op

_FALL_S: Final = 5.0
_LOOK_S: Final = 0.05

log: Final = logging.getLogger(__name__)


class _Flush:
    """`error` is valid once `ended` is set."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.error: OSError | None = None


def _flush(fds: list[int]) -> _Flush:
    """Flushes the file systems of the descriptors, and closes these, in a thread of its own: a disk that is stuck must
    not hold up the end of this role."""
    flush = _Flush()

    def run() -> None:
        try:
            for fd in fds:
                files.syncfs(fd)
        except OSError as error:
            flush.error = error
        finally:
            for fd in fds:
                files.close(fd)
            flush.ended.set()

    threading.Thread(target=run, name="checkpoint-flush", daemon=True).start()
    return flush


class Checkpointer:
    """Used by one thread. `made` counts the checkpoints of this role."""

    def __init__(
        self,
        state: StateStore,
        tracker: Tracker,
        fronts: list[Front],
        outlet: Outlet,
        descriptors: Descriptors,
        *,
        every_s: float,
        timeout_s: float,
    ) -> None:
        self.made = 0
        self._state = state
        self._tracker = tracker
        self._fronts = fronts
        self._outlet = outlet
        self._descriptors = descriptors
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._stream: Stream | None = None
        self._done_operations = -1
        self._due_s = 0.0

    def turn(self, stream: Stream, stream_id: str) -> None:
        """Makes one if it is time. Raises OSError when this node's disk fails."""
        now_s = boottime_s()
        if self._stream is not stream:
            self._stream, self._done_operations, self._due_s = stream, -1, 0.0
        # Read before the clock: what is done in between is counted again next time.
        operations = self._outlet.operations
        if now_s < self._due_s or operations == self._done_operations:
            return
        self._due_s = now_s + self._every_s
        if self._make(stream, stream_id):
            self._done_operations = operations
            self.made += 1

    def _make(self, stream: Stream, stream_id: str) -> bool:
        rotation = self._tracker.rotate()
        self._outlet.pass_all_locks()
        if not self._send_times():
            return False
        epoch = stream.epoch
        seq = stream.append(Op.CHECKPOINT, flags=wire.WAITED | wire.SYNC)
        if not seq:
            return False
        stream.flush()
        flushed = _flush([files.dup(front.root.fd) for front in self._fronts])
        if not stream.wait_flushed(seq, self._timeout_s):
            return False
        while not flushed.ended.wait(_LOOK_S):
            if stream.lost is not None:
                return False
        if flushed.error is not None:
            raise flushed.error
        roots = self._state.generation.roots
        self._tracker.commit(rotation, stream=stream_id, seq=seq, epoch=epoch, roots=roots)
        return True

    def _send_times(self) -> bool:
        """Every modification time an operation left behind until now; False if one is still owed."""
        call = self._descriptors.new_call()
        falling: list[Inode] = []
        try:
            with self._outlet.times_order:
                for _ in range(2):
                    for inode in self._outlet.take_times():
                        if inode.dropped:
                            falling.append(inode)
                        else:
                            self._outlet.send_times(inode, self._descriptors.path_fd(inode, call))
                        call.holding.clear()
        finally:
            self._descriptors.end_call(call)
        # Whoever lets an inode fall sends its times himself, at once.
        deadline_s = boottime_s() + _FALL_S
        while any(self._outlet.owes_times(inode) for inode in falling):
            if boottime_s() > deadline_s:
                return False
            time.sleep(0.001)
        with self._outlet.times_order:
            return True
