"""The `disk` test: enough room, writable, and not stalled.

Problem: a disk that is full, was remounted read-only after an error, or hangs, stops every application on it, often
without any of its processes dying.
How: free space as the file system reports it to ordinary users; then a small file is overwritten and flushed. Both in a
thread of their own with the checker's time-out as deadline, because a stalled disk never answers; while that thread
hangs, the test fails at once.
Limits: the file (PROBE_FILE, 4 KiB) stays in the directory. It must not be a replicated path: the contract refuses
that, because below the mount nothing may be written and through it the test would wait for the other node.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mirror_agent.app.finding import Finding
from mirror_agent.app.side_thread import SideThread
from mirror_agent.contract import Checker
from mirror_agent.platform import HOST, Room

PROBE_FILE: Final = ".mirrorplane-disk-check"
PROBE_BYTES: Final = 4096
# Unlike a disk without room, one that answers so takes nothing more, and cannot flush what it has taken.
BROKEN: Final = frozenset({errno.EROFS, errno.EIO})
_GIB: Final = 1024**3


def judge_room(checker: Checker, room: Room) -> Finding:
    """The rule about room; both limits hold."""
    said = f"{room.free_percent:.1f} % free ({room.free_bytes / _GIB:.2f} GiB)"
    if room.read_only:
        return Finding(False, f"{checker.path}: the file system is read-only", broken=True)
    if room.free_percent < checker.min_free_percent:
        return Finding(False, f"{checker.path}: {said}, at least {checker.min_free_percent:g} % wanted")
    if room.free_bytes < checker.min_free_bytes:
        wanted = f"{checker.min_free_bytes / _GIB:.2f} GiB"
        return Finding(False, f"{checker.path}: {said}, at least {wanted} wanted")
    return Finding(True, f"{checker.path}: {said}")


class DiskCheck:
    def __init__(self, checker: Checker, *, store: Callable[[Path], None] | None = None) -> None:
        """`store` writes and flushes the small file; it may hang."""
        assert checker.path is not None
        self._store = store or store_and_flush
        self._checker = checker
        self._directory = Path(checker.path)
        self._thread = SideThread(f"checker-{checker.name}")

    async def __call__(self) -> Finding:
        checker = self._checker
        try:
            return await self._thread.call(self._test, deadline_s=checker.timeout_s)
        except TimeoutError as error:
            return Finding(False, f"{checker.path}: stalled, no answer in {checker.timeout_s:g} s {error}".rstrip())

    def _test(self) -> Finding:
        try:
            finding = judge_room(self._checker, HOST.room(self._directory))
            if finding.healthy:
                self._store(self._directory / PROBE_FILE)
            return finding
        except OSError as error:
            what = "the file system is read-only" if error.errno == errno.EROFS else error.strerror or str(error)
            return Finding(False, f"{self._checker.path}: {what}", broken=error.errno in BROKEN)


def store_and_flush(path: Path) -> None:
    """Overwrite the file and flush it; in place, so that a steady test costs no directory update."""
    if os.path.islink(path):
        # Linux refuses it below as well; Windows has no such flag.
        raise OSError(errno.ELOOP, f"{PROBE_FILE} is a link")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | HOST.CLOSED_OPEN_FLAGS, 0o600)
    try:
        os.write(descriptor, os.urandom(16) * (PROBE_BYTES // 16))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
