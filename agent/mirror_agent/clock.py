"""The agent's clock: durations that count the time a virtual machine was suspended, and sleeping.

`CLOCK_MONOTONIC` stands still while a machine sleeps, so a deadline measured on it would be believed after a long
freeze. `CLOCK_BOOTTIME` goes on. Tests inject their own clock; nobody sleeps in a test.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol


class Clock(Protocol):
    def now_s(self) -> float:
        """Seconds since an arbitrary start; never goes back, counts suspend."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class BootClock:
    """The real clock."""

    def now_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


BOOT_CLOCK: Final = BootClock()
