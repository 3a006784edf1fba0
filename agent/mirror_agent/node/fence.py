"""Self-fencing: a node whose application cannot be killed takes its whole machine down.

Problem: after SIGKILL a process may stay in the kernel (a stalled disk, a network file system that never answers). The
mirror's mount has been aborted, so it cannot write replicated data; but it may still act on the world, and a primary
that cannot stop its application can neither serve nor hand over.
Rule: survivors that are still there `UNDYING_S` after they were first seen are a reason to restart the machine. While
waiting is their right (the mirror holds their calls), or would cost data (nobody else has it), the time does not count.
Guarantee: who, why and which processes are on the disk before, and what can be flushed in SYNC_S is flushed, unless the
disk itself does not answer; nothing waits longer for it.
Limits: needs rights that `impediment` asks for; how a machine is restarted, `platform` knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mirror_agent.app.side_thread import SideThread
from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.eventlog import EventLog
from mirror_agent.platform import HOST, FenceFailed

UNDYING_S: Final = 5.0
RECORD_S: Final = 2.0
RECORD_SLACK_S: Final = 0.5
SYNC_S: Final = 3.0
STRIKE_S: Final = 10.0


@dataclass(slots=True)
class Undying:
    """Since when processes have outlived their SIGKILL; pure."""

    since_s: float | None = None

    def seen(self, now_s: float, *, excused: bool) -> bool:
        """True when they have been there too long."""
        if excused:
            self.since_s = None
            return False
        if self.since_s is None:
            self.since_s = now_s
        return now_s - self.since_s >= UNDYING_S

    def gone(self) -> None:
        self.since_s = None


class SelfFence:
    """Told of every stop and kill of the application; strikes when the rule says so."""

    def __init__(
        self,
        *,
        log: EventLog,
        strike: Callable[[], None] | None = None,
        sync: Callable[[], None] = HOST.sync_all,
        clock: Clock = BOOT_CLOCK,
    ) -> None:
        """`strike` does not return on a machine that obeys; it runs in a thread and may raise `FenceFailed`."""
        self._log = log
        self._strike = HOST.restart_machine if strike is None else strike
        self._sync = sync
        self._clock = clock
        self._undying = Undying()
        # Threads of its own: those of the loop may all hang on the very disk.
        self._threads = {name: SideThread(name) for name in ("fence-record", "fence-sync", "fence")}

    def died(self) -> None:
        """The application is dead."""
        self._undying.gone()

    async def survived(self, pids: tuple[int, ...], *, excused: bool) -> None:
        """These processes outlived SIGKILL once more."""
        if not self._undying.seen(self._clock.now_s(), excused=excused):
            return
        reason = f"processes {list(pids)} are alive {UNDYING_S:g} s after SIGKILL"
        self._log.record_decision("fence.self", reason=reason, pids=list(pids))
        if not await self._recorded():
            self._log.record("fence.not-recorded", reason="the disk does not answer; restarting all the same")
        try:
            await self._threads["fence-sync"].call(self._sync, deadline_s=SYNC_S)
        except TimeoutError:
            self._log.record("fence.not-flushed", reason=f"the disks did not take everything in {SYNC_S:g} s")
        try:
            await self._threads["fence"].call(self._strike, deadline_s=STRIKE_S)
        except (FenceFailed, TimeoutError) as error:
            self._log.record_decision("fence.failed", reason=str(error) or f"no effect in {STRIKE_S:g} s")
            self._undying.gone()  # the next attempt after another UNDYING_S

    async def _recorded(self) -> bool:
        try:
            return await self._threads["fence-record"].call(
                lambda: self._log.flush(RECORD_S), deadline_s=RECORD_S + RECORD_SLACK_S
            )
        except TimeoutError:
            return False


def impediment() -> str:
    """Why this node could not restart its machine; "" if it could."""
    return HOST.fence_impediment()
