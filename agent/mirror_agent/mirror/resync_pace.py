"""How fast a resync goes: a configured cap, and most of the time left to an application that works.

After a slice of work in which the application did something, `REST_FACTOR` times the slice is left to it. Measured by
`python -m bench.mirror.resync` (the application's rate falls by less than 30 %). Without it the resync never rests.

What the replica has not applied yet is bounded as well: an application's call may have to send it along, or wait behind
it in the stream.

Limits: a slice is at most `_SLICE_S_MAX` in this account, so a slow disk is not followed by an equally slow rest; the
resync always goes on, with a quarter of the time at least, so that it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

REST_FACTOR: Final = 3.0
_SLICE_S_MIN: Final = 0.002
_SLICE_S_MAX: Final = 0.05
# What was not used is not saved up for longer than this.
_BURST_S: Final = 0.25
# Enough to keep a replica on the same network busy.
BACKLOG_BYTES_MAX: Final = 8 * 1024 * 1024
_LOOK_S: Final = 0.001


class Pace:
    """`busy` is a counter of the application's operations; `backlog` what was sent and not applied yet (0 once the
    stream is lost); `max_bytes_s` 0: no cap."""

    def __init__(
        self,
        max_bytes_s: int,
        busy: Callable[[], int],
        backlog: Callable[[], int] = lambda: 0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._max_bytes_s = max_bytes_s
        self._busy = busy
        self._backlog = backlog
        self._clock = clock
        self._sleep = sleep
        self._seen = busy()
        self._free_s = self._began_s = clock()

    def spent(self, size_bytes: int) -> None:
        """Called after each piece of work; returns when the next one may begin."""
        while self._backlog() > BACKLOG_BYTES_MAX:
            self._sleep(_LOOK_S)
        now_s = self._clock()
        if self._max_bytes_s:
            self._free_s = max(self._free_s, now_s - _BURST_S) + size_bytes / self._max_bytes_s
        slice_s = now_s - self._began_s
        wait_s = max(0.0, self._free_s - now_s) if self._max_bytes_s else 0.0
        if slice_s >= _SLICE_S_MIN:
            seen = self._busy()
            if seen != self._seen:
                wait_s = max(wait_s, REST_FACTOR * min(slice_s, _SLICE_S_MAX))
            self._seen = seen
        elif wait_s == 0.0:
            return
        if wait_s > 0:
            self._sleep(wait_s)
        self._seen = self._busy()
        self._began_s = self._clock()
