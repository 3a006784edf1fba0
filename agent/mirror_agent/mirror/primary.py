"""Everything that exists while this node is primary: mounted fronts, the outlet between them, and the connection.

Taking it down never waits for an application: what is pending fails, threads are given a moment, and a thread that is
stuck in the disk is reported instead of waited for.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from typing import Final

from mirror_agent.mirror import files, limits, mounts, wire
from mirror_agent.mirror.config import KERNEL, MirrorConfig
from mirror_agent.mirror.connector import Connector
from mirror_agent.mirror.estate import Estate
from mirror_agent.mirror.front import Front
from mirror_agent.mirror.inode_table import Marks
from mirror_agent.mirror.inodes import Descriptors, Root
from mirror_agent.mirror.outlet import Outlet
from mirror_agent.mirror.roots import close_roots
from mirror_agent.mirror.state import Point, StateStore
from mirror_agent.mirror.status import MirrorError
from mirror_agent.mirror.stream import Stream
from mirror_agent.mirror.succession import Inheritance, Succession
from mirror_agent.mirror.tracking import Tracker
from mirror_agent.mirror.verify_run import Verification
from mirror_agent.mirror.wire import Op

if sys.platform == "win32":
    from mirror_agent.mirror.front_winfsp import WinFspFront as LIBRARY_FRONT
else:
    from mirror_agent.mirror.front_library import LibraryFront as LIBRARY_FRONT

_BUSY_RETRY_S: Final = 2.0
# An unmount makes the kernel forget every inode it has cached, one by one: thousands, on a busy machine, take seconds.
_UNMOUNTED_S: Final = 60.0
# It ends after one read and with one small file, but both may be in the queue of a busy disk.
_VERIFY_ENDED_S: Final = 10.0
_STUCK_S: Final = 0.5 * limits.ABORT_S


class Primary:
    """`expected` (hand-over): the point at which the peer must stand; calls are paired, and parked until it is live.
    `inheritance`: what an engine that died left; calls are paired if they were, and parked until `release`."""

    def __init__(
        self,
        config: MirrorConfig,
        state: StateStore,
        roots: list[Root],
        *,
        expected: Point | None,
        on_change: Callable[[], None],
        estate: Estate | None = None,
        inheritance: Inheritance | None = None,
    ) -> None:
        self._config = config
        self._inheritance = inheritance
        self.roots = roots
        self.descriptors = Descriptors(config.limits.open_inodes_max)
        self.tracker = Tracker(state.checkpoints)
        life = 0 if inheritance is None else inheritance.life
        self.succession = Succession(estate, life=life)
        self._marks = Marks(life)
        if inheritance is None:
            self.outlet = Outlet(paired=expected is not None, tracker=self.tracker)
        else:
            self.outlet = Outlet(paired=inheritance.paired, tracker=self.tracker, handed_over=False)
        self.fronts = [self._front(root) for root in roots]
        self.connector = Connector(
            config,
            state,
            self.fronts,
            self.outlet,
            self.descriptors,
            expected=expected,
            on_change=on_change,
            lost=inheritance is not None and inheritance.paired,
        )
        self.verification = Verification(
            self.connector,
            self.outlet,
            self.descriptors,
            state.verified,
            fronts=lambda: list(self.fronts),
            on_change=on_change,
        )

    def _front(self, root: Root) -> Front:
        inheritance = self._inheritance
        kind = Front if self._config.front == KERNEL else LIBRARY_FRONT
        return kind(
            root,
            self.descriptors,
            self.outlet,
            threads_max=self._config.limits.front_threads_max,
            marks=self._marks,
            succession=self.succession,
            inherited=None if inheritance is None else inheritance.tables[root.index],
        )

    def start(self) -> None:
        """Mounts (or takes the mounts over) and begins to connect. Raises OSError; take it down then."""
        self.tracker.begin()
        if self._inheritance is None:
            for front in self.fronts:
                front.mount()
            self.succession.hand_down(self.fronts, paired=self.outlet.paired)
        else:
            self._take_over(self._inheritance)
            self._inheritance = None
        self.connector.start()

    def _take_over(self, inheritance: Inheritance) -> None:
        self.succession.take_up(self.fronts, paired=inheritance.paired)
        for orphan in inheritance.orphans:
            if not any(front.table.inherit_orphan(orphan.key, orphan.fd) for front in self.fronts):
                files.close(orphan.fd)
                self.succession.release(orphan.key)
        for front, connection in zip(self.fronts, inheritance.connections, strict=True):
            front.take_over(connection)

    def pair(self) -> None:
        """Every later acknowledgement needs the peer."""
        self.succession.note_paired(paired=True)
        self.outlet.pair()

    def release(self) -> None:
        """Acknowledges alone from now on."""
        self.outlet.release()
        self.succession.note_paired(paired=False)

    def flush_both(self, stream: Stream, op: Op) -> bool:
        """A barrier: everything before it is flushed on both nodes (at the same time) when this is True."""
        self.send_times()
        seq = stream.append(op, flags=wire.WAITED | wire.SYNC)
        stream.flush()
        for root in self.roots:
            files.syncfs(root.fd)
        return bool(seq) and stream.wait_flushed(seq, self._config.limits.barrier_timeout_s)

    def send_times(self) -> None:
        call = self.descriptors.new_call()
        try:
            with self.outlet.times_order:
                for _ in range(2):
                    for inode in self.outlet.take_times():
                        if not inode.dropped:
                            self.outlet.send_times(inode, self.descriptors.path_fd(inode, call))
                        call.holding.clear()
        finally:
            self.descriptors.end_call(call)

    def unmount(self) -> None:
        """All or nothing: what is unmounted already is mounted again when a later one is busy. Raises `MirrorError`."""
        if not self.verification.stop("this node hands over", _VERIFY_ENDED_S):
            raise MirrorError("drain: a verify does not end (a disk is stuck); still primary")
        done: list[int] = []
        for index, front in enumerate(self.fronts):
            try:
                self._unmount(front)
            except MirrorError:
                for back in done:
                    again = self._front(self.roots[back])
                    again.mount()
                    again.table.root_inode.bound = self.outlet.stream
                    self.fronts[back] = again
                if done:
                    self.succession.hand_down(self.fronts, paired=self.outlet.paired)
                raise
            done.append(index)

    def _unmount(self, front: Front) -> None:
        path = front.root.path
        deadline = time.monotonic() + _BUSY_RETRY_S
        while True:
            try:
                mounts.unmount(path)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise MirrorError(f"drain: unmounting {path} failed: {error}; still primary") from error
                if time.monotonic() > deadline:
                    who = ", ".join(mounts.holders(path)) or "a process that cannot be seen from here"
                    raise MirrorError(f"drain: {path} is in use by {who}; stop it first; still primary") from None
                time.sleep(0.05)
            else:
                break
        if not front.join(_UNMOUNTED_S):
            raise MirrorError(f"drain: a request on {path} did not end; abort this node")

    def take_down(self) -> bool:
        """Fails what is pending and what comes; False if a thread is stuck and this process must be ended. Mounts that
        are still there stay, dead: applications may live, and the directory itself lies below them."""
        self.outlet.discard()
        for front in self.fronts:
            mounts.disconnect(front.root.path)
        self.succession.end()
        self.connector.close()
        ended = self.connector.join(_STUCK_S)
        ended = self.verification.stop("this node stops being primary", _STUCK_S) and ended
        for front in self.fronts:
            ended = front.join(_STUCK_S) and ended
        if ended:
            for front in self.fronts:
                front.close()
            self.tracker.close()
            close_roots(self.roots)
        return ended
