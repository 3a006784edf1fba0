"""The rhythm in which the load balancer probes this node, so that a planned swap begins at its best moment.

Problem: a swap that begins just before a probe makes the load balancer drop this node at once, and then it sends new
connections to nobody until its next probe of the new primary, up to one interval later.
Rule: an order that can wait begins right after a probe. Then this node stays in the load balancer's choice for one more
interval, its relay carries what arrives, and within that interval the new primary has been probed too. What remains is
at most the time the hand-over itself takes.
Limits: it waits one interval at most, and not at all when nobody has probed lately (no load balancer, or it already
avoids this node). Nothing of safety hangs on it.
"""

from __future__ import annotations

import asyncio

from mirror_agent.clock import BOOT_CLOCK, Clock

# A load balancer that skipped this many intervals is not there.
INTERVALS_UNTIL_ABSENT = 2.0


class ProbeRhythm:
    """`asked` at every probe of the load balancer, `just_asked` before an order that can wait."""

    def __init__(self, *, interval_s: float, slack_s: float, clock: Clock = BOOT_CLOCK) -> None:
        self._interval_s = interval_s
        self._slack_s = slack_s
        self._clock = clock
        self._asked_at = float("-inf")
        self._asked = asyncio.Event()

    def asked(self) -> None:
        self._asked_at = self._clock.now_s()
        self._asked.set()

    async def just_asked(self) -> float:
        """Return right after the next probe; the answer is how long that took, in seconds."""
        began = self._clock.now_s()
        if began - self._asked_at > INTERVALS_UNTIL_ABSENT * self._interval_s:
            return 0.0
        self._asked.clear()
        asking = asyncio.ensure_future(self._asked.wait())
        sleeping = asyncio.ensure_future(self._clock.sleep(self._interval_s + self._slack_s))
        try:
            await asyncio.wait({asking, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asking.cancel()
            sleeping.cancel()
        return self._clock.now_s() - began
