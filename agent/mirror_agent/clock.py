"""The agent's clock: durations that count the time a virtual machine was suspended, and sleeping.

`CLOCK_MONOTONIC` stands still while a machine sleeps, so a deadline measured on it would be believed after a long
freeze. `CLOCK_BOOTTIME` (on Windows: interrupt time) goes on. Tests inject their own clock; nobody sleeps in a test.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from mirror_agent.platform import HOST


class Clock(Protocol):
    def now_s(self) -> float:
        """Seconds since an arbitrary start; never goes back, counts suspend."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class BootClock:
    """The real clock."""

    def now_s(self) -> float:
        return HOST.now_s()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


BOOT_CLOCK: Final = BootClock()
