"""Lanes: each component of the node does one thing at a time, and what it does is a supervised task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from mirror_agent.core.actions import Lane
from mirror_agent.eventlog import RecordEvent


class Lanes:
    """At most one task a lane. A task that dies with an unexpected error is recorded, and the node goes on deciding."""

    def __init__(
        self, *, log: RecordEvent, on_busy: Callable[[frozenset[str]], None], on_idle: Callable[[], None]
    ) -> None:
        self._tasks: dict[Lane, asyncio.Task[None]] = {}
        self._log = log
        self._on_busy = on_busy
        self._on_idle = on_idle

    def busy(self, lane: Lane) -> bool:
        return lane in self._tasks

    def run(self, lane: Lane, name: str, work: Coroutine[None, None, None]) -> None:
        assert lane not in self._tasks, f"lane {lane.value} is busy"
        task = asyncio.create_task(work, name=f"{lane.value}:{name}")
        self._tasks[lane] = task
        self._on_busy(self._names())
        task.add_done_callback(lambda done: self._finished(lane, name, done))

    def cancel(self, lane: Lane) -> None:
        """The task of a lane that is being overtaken by its emergency lane."""
        task = self._tasks.get(lane)
        if task is not None:
            task.cancel()

    def _names(self) -> frozenset[str]:
        return frozenset(lane.value for lane in self._tasks)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, lane: Lane, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(lane) is task:
            del self._tasks[lane]
            self._on_busy(self._names())
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log("node.action-crashed", action=name, error=f"{type(error).__name__}: {error}")
        self._on_idle()
