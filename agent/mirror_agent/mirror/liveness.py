"""When the engine counts as hung: it lives, and has said nothing for as long as it never does by itself.

Problem: a process that is stopped, or whose interpreter hangs, holds every call of the application and neither dies nor
answers; nothing else in the node would ever notice.
Rule: its status is due every STATUS_S from a thread that waits for no disk. After SILENCE_S without a line the engine
is killed; what follows is what follows its death. Before its first line it reads its state from the disk, and the calls
to it have deadlines of their own.
The time is counted in steps of the observer's own sleep, not read from a clock: an observer that was itself stopped, or
whose machine was, has missed one step, and finds what was said meanwhile before the next one. On a machine that is out
of breath the steps become longer, as the engine's do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from mirror_agent.mirror import limits

log: Final = logging.getLogger(__name__)

STEPS: Final = 10


async def silence(
    heard: Callable[[], int],
    *,
    within_s: float = limits.SILENCE_S,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Returns once `heard` (how many lines came so far) has not grown for `within_s`."""
    last, quiet = heard(), 0
    while quiet < STEPS:
        await sleep(within_s / STEPS)
        now = heard()
        quiet = quiet + 1 if now == last else 0
        last = now


class Pulse:
    """Of one engine process; call `beat` for each line it sends and `end` when its stream has ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lines = 0
        self._watching: asyncio.Task[None] | None = None

    def beat(self) -> None:
        self._lines += 1
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="mirror-pulse")

    def end(self) -> str:
        """Why the process was killed from here, "" if it was not."""
        if self._watching is None or self._watching.cancel():
            return ""
        return f"the mirror engine told nothing for {limits.SILENCE_S:g} s and was killed"

    async def _watch(self) -> None:
        await silence(lambda: self._lines)
        log.error("the mirror engine %d tells nothing for %g s; killing it", self._process.pid, limits.SILENCE_S)
        with contextlib.suppress(ProcessLookupError):  # it has just died by itself
            self._process.kill()
