"""The farm node's hands: run `prepare`, start and stop of the application, and post how each ended.

A stop may break off a start that is under way (the runner kills it); every other action is decided only when the one
before has ended. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from mirror_agent.app.connections import reset_connections
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.app.outcomes import Prepared, PrepareFailed, Started, StartFailed, StopFailed, Stopped
from mirror_agent.app.runner import ApplicationRunner
from mirror_agent.contract import Role
from mirror_agent.core.model import App
from mirror_agent.eventlog import EventLog
from mirror_agent.farm.events import PrepareEnded, StartEnded, StopEnded
from mirror_agent.farm.model import Action
from mirror_agent.farm.node import FarmNode


class FarmHands:
    def __init__(
        self,
        node: FarmNode,
        *,
        runner: ApplicationRunner,
        checkers: NodeCheckers,
        service_ports: tuple[int, ...],
        log: EventLog,
    ) -> None:
        self._node = node
        self._runner = runner
        self._checkers = checkers
        self._service_ports = service_ports
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()

    def act(self, action: Action) -> None:
        """Begin it."""
        task = asyncio.create_task(self._work(action), name=f"farm-{action.value}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        """What is under way is broken off; the application is the runner's to close."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _work(self, action: Action) -> Coroutine[None, None, None]:
        match action:
            case Action.PREPARE:
                return self._prepare()
            case Action.START:
                return self._start()
            case Action.STOP:
                return self._stop()
            case Action.GIVE_UP | Action.NOTHING:
                raise AssertionError(f"{action.value} is not for the hands")

    async def _prepare(self) -> None:
        match await self._runner.prepare():
            case Prepared():
                self._node.post(PrepareEnded())
            case PrepareFailed(reason):
                self._log.record("application.prepare-failed", reason=reason)
                self._node.post(PrepareEnded(reason))

    async def _start(self) -> None:
        match await self._runner.start(epoch=0, role=Role.UP.value):
            case Started():
                self._node.post(StartEnded())
                if self._node.state.app is App.RUNNING:  # nobody has asked for a stop meanwhile
                    self._checkers.start()
            case StartFailed(reason):
                self._node.post(StartEnded(reason))

    async def _stop(self) -> None:
        await self._checkers.stop()
        outcome = await self._runner.stop(force=False)
        await reset_connections(self._service_ports)
        match outcome:
            case Stopped():
                self._node.post(StopEnded())
            case StopFailed(reason):
                self._node.post(StopEnded(reason))

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Hands that crash are a defect; the action has then failed, and is tried again like any other that did."""
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        text = f"{type(error).__name__}: {error}"
        self._log.record_decision("farm.action-crashed", action=task.get_name(), error=text)
        match task.get_name():
            case "farm-prepare":
                self._node.post(PrepareEnded(text))
            case "farm-start":
                self._node.post(StartEnded(text))
            case _:
                self._node.post(StopEnded(text))
