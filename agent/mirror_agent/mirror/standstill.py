"""How long a replica's work has stood still: what tells a long flush from a disk that does not answer.

Problem: to the callers of the primary both are the same, they wait. But a flush may rightly take a minute (a disk full
of dirty pages), and then it gets on: the devices complete requests. So does a frame that takes long to apply: the
devices complete requests, or the applying thread uses the processor. A disk that hangs completes nothing, and who waits
for it sleeps.

The figure is the time since the oldest work in hand (the frame being applied, flushes not answered) was taken up, or
since anything moved, whichever is later. It is looked at with every pulse, so it is up to one pulse too small.

Limits: file systems without a block device of their own (tmpfs, overlayfs, btrfs) have no counters; there nothing is
said (None), and the primary falls back to its longer limits. Somebody else's requests on the same device hide a
standstill of ours; that, too, is bounded by those limits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Final

# Columns of /sys/dev/block/<major>:<minor>/stat: completed reads, writes, discards, flushes
# (Documentation/block/stat.rst). Older kernels have fewer columns.
_COMPLETED: Final = (0, 4, 11, 15)
_STAT: Final = "/sys/dev/block/{}:{}/stat"

# Equal tokens: nothing moved in between.
Token = tuple[object, ...]


def device_of(path: str) -> int:
    """The device number of the file system on which a path lies, or would lie."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return os.stat(path).st_dev


def completed_requests(device: int) -> tuple[int, ...] | None:
    """What the block device with this number has completed since boot; None if it has no counters. Never waits."""
    if sys.platform == "win32":
        return None  # its counters of disks do not tell a standing one from an idle one
    try:
        with open(_STAT.format(os.major(device), os.minor(device)), encoding="ascii") as stat:
            columns = stat.read().split()
    except OSError:
        return None
    return tuple(int(columns[column]) for column in _COMPLETED if column < len(columns))


def device_token(devices: Iterable[int]) -> Token | None:
    """Of all devices; None unless every one has counters: the work in hand may be on the one that has none."""
    counters = [completed_requests(device) for device in devices]
    return None if None in counters else tuple(counters)


class Standstill:
    """Used by one thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since_s: dict[int, float] = {}
        self._token: Token | None = None
        self._moved_s = clock()

    def look(self, in_hand: Iterable[int], token: Token | None) -> float | None:
        """Seconds for which the work in hand (frames, by number) has stood still; None: no work, or it cannot be told.
        `token`: of everything whose movement means progress; None if it is not known."""
        now_s = self._clock()
        if token != self._token:
            self._token, self._moved_s = token, now_s
        self._since_s = {frame: self._since_s.get(frame, now_s) for frame in in_hand}
        if not self._since_s or token is None:
            return None
        return max(0.0, now_s - max(self._moved_s, min(self._since_s.values())))


class Work:
    """What a replica's session has in hand. That the applying thread works says nothing about a flush: it goes on
    applying, at least the primary's heartbeats, while the flush waits for the disk in a thread of its own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._applying = Standstill(clock)
        self._flushing = Standstill(clock)

    def look(self, applying: int, flushing: Iterable[int], disks: Token | None, cpu_ns: int) -> float | None:
        """As `Standstill.look`, for the frame being applied (0: none) and those being flushed. `cpu_ns`: processor time
        of the applying thread."""
        told = (
            self._applying.look([applying] if applying else [], None if disks is None else (disks, cpu_ns)),
            self._flushing.look(flushing, disks),
        )
        return max((seconds for seconds in told if seconds is not None), default=None)
