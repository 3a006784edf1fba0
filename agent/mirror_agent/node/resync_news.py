"""A resync is told to the control plane while it goes on, not only at its begin and end: somebody may be watching it.

Limits: one heartbeat more in EVERY_S, and only while a resync runs; the control plane takes it like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mirror_agent.clock import BOOT_CLOCK, Clock

EVERY_S: Final = 2.0
RESYNC: Final = "resync"


class ResyncNews:
    def __init__(self, poke: Callable[[], None], clock: Clock = BOOT_CLOCK) -> None:
        """`poke`: take a sample and send it now."""
        self._poke = poke
        self._clock = clock
        self._told_at = clock.now_s() - EVERY_S

    def observe(self, link: str) -> None:
        """With every report of the engine, several in a second."""
        now = self._clock.now_s()
        if link == RESYNC and now - self._told_at >= EVERY_S:
            self._told_at = now
            self._poke()
