"""Operators' commands, whoever brings them: the Unix socket, the node's console, the control plane, a checker."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from mirror_agent.contract import Command, CommandAction, CommandResult
from mirror_agent.core.model import SERVING, App, Order, Phase, Role, State, Wish
from mirror_agent.eventlog import EventLog
from mirror_agent.node.node import ORDER_DEADLINE_S, Node
from mirror_agent.node.probe_rhythm import ProbeRhythm
from mirror_agent.node.report import MAX_SENTENCE, Reporter
from mirror_agent.web.local_api import RequestOutcome


class Commands:
    """Implements `NodeControl`. A command is an event to the core; its end is a fact the core reports."""

    def __init__(self, node: Node, reporter: Reporter, *, rhythm: ProbeRhythm, log: EventLog) -> None:
        self._node = node
        self._reporter = reporter
        self._rhythm = rhythm
        self._log = log
        self._counter = itertools.count(1)
        self._running: set[asyncio.Task[None]] = set()

    def status(self) -> dict[str, object]:
        return self._reporter.status()

    def why(self) -> dict[str, object]:
        return self._reporter.why()

    def history(self, limit: int) -> list[dict[str, object]]:
        return self._log.tail(limit)

    async def request(self, action: CommandAction, requested_by: str, reason: str) -> RequestOutcome:
        """Carry out a command and wait for its end, at most ORDER_DEADLINE_S."""
        node = self._node
        match action:
            case CommandAction.SWAP | CommandAction.RESTART:
                if node.state.role not in SERVING:
                    text = f"{action.value} is for the serving node; this one is {node.state.role.value}"
                    return RequestOutcome("refused", text)
                if action is CommandAction.SWAP:
                    waited_s = await self._rhythm.just_asked()
                    self._log.record("swap.begins", waited_for_probe_s=round(waited_s, 2), who=requested_by)
                succeeded, message = await self._order(action.value, requested_by, reason)
                return RequestOutcome("succeeded" if succeeded else "failed", message)
            case CommandAction.STOP:
                node.wish(Wish.STOP, who=requested_by, reason=reason)
                return await self._reach(lambda state: state.role is Role.STOP, "the module is stopped on this node")
            case CommandAction.START:
                node.wish(Wish.RUN, who=requested_by, reason=reason)
                return await self._reach(self._started, "the module runs on this node")

    def _started(self, state: State) -> bool:
        settled = state.role is Role.SECOND or (state.role in SERVING and state.app is App.RUNNING)
        return settled and self._node.phase in (Phase.READY, Phase.TRANSIENT)

    def start_order(self, action: str, *, who: str, why: str) -> None:
        """An order nobody waits for."""
        self._spawn(self._forget(action, who, why))

    def from_control_plane(self, command: Command, report: Callable[[CommandResult], None]) -> None:
        """Accept, carry out, report; the control plane's client repeats the report until it is confirmed."""
        report(CommandResult(id=command.id, status="accepted"))
        self._spawn(self._carry_out(command, report))

    async def _carry_out(self, command: Command, report: Callable[[CommandResult], None]) -> None:
        outcome = await self.request(command.action, command.requested_by, command.reason)
        done = outcome.status == "succeeded"
        message = outcome.message[:MAX_SENTENCE]
        report(CommandResult(id=command.id, status="succeeded" if done else "failed", message=message))

    async def _forget(self, action: str, who: str, why: str) -> None:
        succeeded, message = await self._order(action, who, why)
        self._log.record("order.ended", action=action, who=who, succeeded=succeeded, message=message)

    async def _order(self, action: str, who: str, why: str) -> tuple[bool, str]:
        return await self._node.order(Order(action, f"{action}-{next(self._counter)}", who, why))

    async def _reach(self, reached: Callable[[State], bool], message: str) -> RequestOutcome:
        try:
            async with asyncio.timeout(ORDER_DEADLINE_S):
                await self.until(reached)
        except TimeoutError:
            decision = self._node.decision
            why = decision.sentence if decision else "nothing decided yet"
            return RequestOutcome("failed", f"not reached within {ORDER_DEADLINE_S:g} s: {why}")
        return RequestOutcome("succeeded", message)

    async def until(self, reached: Callable[[State], bool]) -> None:
        """Wait for a fact of the node's state."""
        changed = asyncio.Event()
        stop_watching = self._node.watch(changed.set)
        try:
            while not reached(self._node.state):
                changed.clear()
                await changed.wait()
        finally:
            stop_watching()

    def _spawn(self, work: object) -> None:
        assert asyncio.iscoroutine(work)
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.record("command.crashed", error=f"{type(error).__name__}: {error}")
