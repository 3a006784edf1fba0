"""Operators' commands on a farm node, whoever brings them: the Unix socket, the console, the control plane.

A command is an event to the node; its end is a fact of the node's state. Each is recorded with who and why before it
begins and with its outcome when it ended. What only a pair can do is refused with what to do instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final

from mirror_agent.contract import MAX_SENTENCE_CHARS, Command, CommandAction, CommandResult
from mirror_agent.core.model import App, Wish
from mirror_agent.eventlog import EventLog
from mirror_agent.farm.events import AwayOrdered, BackOrdered, RestartOrdered
from mirror_agent.farm.model import drained
from mirror_agent.farm.node import FarmNode
from mirror_agent.farm.report import FarmReporter
from mirror_agent.node.noted import noted
from mirror_agent.node.switches import Switches
from mirror_agent.web.actions import CONTROL_PLANE, NodeAction, NodeRequest, RequestOutcome

# At least so long; the application's own times may ask for more. What takes longer goes on, and the command says so.
DEADLINE_S: Final = 120.0
_NO_FAILOVER: Final = "a farm has no failover to switch: the load balancer sends clients to the nodes that serve"
REFUSED: Final = {
    NodeAction.SWAP: "a farm has no roles to exchange: every node serves; to take this one out, stop it",
    NodeAction.FORCE: "a farm needs no forced start: no node waits for another one; start it",
    NodeAction.FAILOVER_ON: _NO_FAILOVER,
    NodeAction.FAILOVER_OFF: _NO_FAILOVER,
}
_COPIES: Final = "a farm replicates nothing; its nodes have no copies to resynchronise"


class FarmCommands:
    """Implements `NodeControl`."""

    def __init__(
        self,
        node: FarmNode,
        reporter: FarmReporter,
        *,
        switches: Switches,
        log: EventLog,
        limit_s: float = DEADLINE_S,
    ) -> None:
        self._node = node
        self._limit_s = max(limit_s, DEADLINE_S)
        self._reporter = reporter
        self._switches = switches
        self._log = log
        self._running: set[asyncio.Task[None]] = set()

    def status(self) -> dict[str, object]:
        return self._reporter.status()

    def why(self) -> dict[str, object]:
        return self._reporter.why()

    def drill(self) -> dict[str, object]:
        """What may be asked of this node now, in the form of a pair's drill."""
        running = self._node.state.app is App.RUNNING
        answers = {
            "start": (True, "starts the application here and takes clients when its checkers find it healthy"),
            "stop": (True, "tells the load balancer to send nobody new, then stops the application; the others serve"),
            "restart": (running, "as a stop and a start" if running else "the application does not run here"),
            **{action.value: (False, reason) for action, reason in REFUSED.items()},
            "resync": (False, _COPIES),
        }
        decision = self._node.decision
        permissions = [
            {"act": act, "allowed": allowed, "sentence": sentence, "rule": "", "supposed": ""}
            for act, (allowed, sentence) in answers.items()
        ]
        return {"node": self._reporter.node, "role": decision.role.value, "permissions": permissions}

    def history(self, limit: int) -> list[dict[str, object]]:
        return self._log.tail(limit)

    async def request(self, request: NodeRequest) -> RequestOutcome:
        """Carry out a command and wait for its end, each start or stop for `limit_s` at most."""
        async with noted(self._log, request.action.value, request.who, request.principal, request.why) as order:
            order.outcome = await self._do(request)
        return order.outcome

    async def _do(self, request: NodeRequest) -> RequestOutcome:
        match request.action:
            case NodeAction.START:
                return await self._start(request)
            case NodeAction.STOP:
                return await self._stop(request, request.why)
            case NodeAction.RESTART:
                return await self._restart()
            case NodeAction.STOPSTART:
                stopped = await self._stop(request, f"stopstart: {request.why}".rstrip(": "))
                started = await self._start(request)  # whatever became of the stop: the node is not to stay stopped
                return started if stopped.status == "succeeded" else stopped
            case NodeAction.CHECKERS_ON | NodeAction.CHECKERS_OFF:
                return await self._checkers(request, request.action is NodeAction.CHECKERS_ON)
            case NodeAction.SWAP | NodeAction.FORCE | NodeAction.FAILOVER_ON | NodeAction.FAILOVER_OFF:
                return RequestOutcome("refused", REFUSED[request.action])

    async def _start(self, request: NodeRequest) -> RequestOutcome:
        node = self._node
        saved = node.wish(Wish.RUN, who=request.who, why=request.why)
        if not await self._reach(lambda: node.decision.serves or self._stop_wanted()):
            return RequestOutcome("failed", f"not up within {self._limit_s:g} s: {node.decision.sentence}")
        if not node.decision.serves:
            return RequestOutcome("failed", node.decision.sentence)
        return await self._kept(saved, "the application runs and this node takes clients")

    async def _stop(self, request: NodeRequest, why: str) -> RequestOutcome:
        node = self._node
        saved = node.wish(Wish.STOP, who=request.who, why=why)
        if not await self._reach(lambda: node.state.app is App.STOPPED or not self._stop_wanted()):
            return RequestOutcome("failed", f"not stopped within {self._limit_s:g} s: {node.decision.sentence}")
        if not self._stop_wanted():
            return RequestOutcome("failed", "somebody started the module meanwhile")
        return await self._kept(saved, "the module is stopped on this node")

    async def _restart(self) -> RequestOutcome:
        node = self._node
        if node.state.app is not App.RUNNING or self._stop_wanted():
            return RequestOutcome("refused", f"the application does not run here: {node.decision.sentence}")
        node.post(RestartOrdered())
        began = node.state.failures
        if not await self._reach(lambda: node.decision.serves or node.state.failures != began or self._stop_wanted()):
            return RequestOutcome("failed", f"not up again within {self._limit_s:g} s: {node.decision.sentence}")
        if not node.decision.serves:
            return RequestOutcome("failed", node.state.app_error or node.decision.sentence)
        return RequestOutcome("succeeded", "the application was restarted and this node takes clients")

    async def _checkers(self, request: NodeRequest, on: bool) -> RequestOutcome:
        word = "on" if on else "off"
        if not await self._switches.set_checkers(on, who=request.who, why=request.why):
            return RequestOutcome("failed", f"checkers are {word}, but the disk refuses to keep that over a restart")
        return RequestOutcome("succeeded", f"checkers are {word} on this node")

    async def leave_for(self, *, who: str, why: str, within_s: float | None) -> tuple[bool, str]:
        """Take no clients until `come_back`, because the machine will be away; the application goes on running."""
        node = self._node
        node.post(AwayOrdered(f"{who}: {why}"))
        limit_s = node.state.limits.drain_s if within_s is None else min(within_s, node.state.limits.drain_s)
        deadline = node.now + limit_s
        # What is waited for becomes true by time alone as well, and time is what the ticks bring.
        await node.until(lambda: drained(node.state, node.now) or node.now >= deadline or not node.state.away)
        return bool(node.state.away), "the load balancer sends nobody new"

    def come_back(self) -> None:
        if self._node.state.away:
            self._node.post(BackOrdered())

    def from_control_plane(self, command: Command, report: Callable[[CommandResult], None]) -> None:
        """Accept, carry out, report; the control plane's client repeats the report until it is confirmed."""
        report(CommandResult(id=command.id, status="accepted"))
        self._spawn(self._carry_out(command, report))

    async def _carry_out(self, command: Command, report: Callable[[CommandResult], None]) -> None:
        action = {one: NodeAction(one.value) for one in CommandAction}[command.action]
        outcome = await self.request(NodeRequest(action, command.requested_by, command.reason, principal=CONTROL_PLANE))
        done = outcome.status == "succeeded"
        message = outcome.message[:MAX_SENTENCE_CHARS]
        report(CommandResult(id=command.id, status="succeeded" if done else "failed", message=message))

    def _stop_wanted(self) -> bool:
        """By anybody: an operator, a checker, the restart budget."""
        return self._node.state.wish is Wish.STOP

    async def _reach(self, reached: Callable[[], bool]) -> bool:
        try:
            async with asyncio.timeout(self._limit_s):
                await self._node.until(reached)
        except TimeoutError:
            return False
        return True

    @staticmethod
    async def _kept(saved: asyncio.Task[bool], message: str) -> RequestOutcome:
        if await asyncio.shield(saved):
            return RequestOutcome("succeeded", message)
        return RequestOutcome("failed", f"{message}, but the disk refuses to keep that over a restart")

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.record("command.crashed", error=f"{type(error).__name__}: {error}")
