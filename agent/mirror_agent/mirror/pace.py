"""How fast background work may go: never faster than a rate, and never more than half of the time while others work.

Pure but for the clock and the sleep it is given. `busy` is a counter of the application's operations: if it moved
while a piece of work was done, as much time is left to the application as the work took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# A long piece of work (a slow disk) is not followed by an equally long rest.
_REST_S_MAX: Final = 0.1
# What was not used is not saved up for longer than this.
_BURST_S: Final = 0.25


class Pace:
    """Call `spent` after each piece of work; it returns when the next one may begin."""

    def __init__(
        self,
        rate_bytes_per_s: float,
        busy: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate_bytes_per_s = rate_bytes_per_s
        self._busy = busy
        self._clock = clock
        self._sleep = sleep
        self._seen = busy()
        self._free_s = self._began_s = clock()

    def spent(self, size_bytes: int) -> None:
        now_s = self._clock()
        self._free_s = max(self._free_s, now_s - _BURST_S) + size_bytes / self._rate_bytes_per_s
        seen = self._busy()
        rest_s = min(now_s - self._began_s, _REST_S_MAX) if seen != self._seen else 0.0
        wait_s = max(self._free_s - now_s, rest_s)
        if wait_s > 0:
            self._sleep(wait_s)
        self._seen = self._busy()
        self._began_s = self._clock()
