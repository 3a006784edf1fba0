"""Operators' commands, whoever brings them: the Unix socket, the node's console, the control plane, a checker.

A command is an event to the core; its end is a fact the core reports. Each is recorded with who and why before it
begins and with its outcome when it ended.
Limits: `stopstart` is two wishes; an agent that is killed between them stays stopped, as after a plain `stop`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from mirror_agent.contract import Command, CommandAction, CommandResult
from mirror_agent.core.model import SERVING, App, Order, Phase, Role, State, Wish, peer_alive
from mirror_agent.eventlog import EventLog
from mirror_agent.node.drill import drill
from mirror_agent.node.node import ORDER_DEADLINE_S, Node
from mirror_agent.node.noted import noted
from mirror_agent.node.probe_rhythm import ProbeRhythm
from mirror_agent.node.report import MAX_SENTENCE, Reporter
from mirror_agent.node.switches import Switches
from mirror_agent.web.actions import ACTIONS, CONTROL_PLANE, NodeAction, NodeRequest, RequestOutcome

# How long an operator waits for the peer's word on a shared setting; heartbeats come every half second.
AGREE_DEADLINE_S: Final = 5.0
# A maintenance announced for later than this leaves time to wait for a probe (30 s at most) and to swap.
UNHURRIED_S: Final = 60.0
assert {action.value for action in CommandAction} <= set(ACTIONS), "the control plane knows an action the node does not"


class Commands:
    """Implements `NodeControl`."""

    def __init__(
        self,
        node: Node,
        reporter: Reporter,
        *,
        cluster: str,
        switches: Switches,
        rhythm: ProbeRhythm,
        self_fence: Callable[[], str],
        log: EventLog,
        doubt: Callable[[], str] = lambda: "",
    ) -> None:
        """`doubt`: why the other copy should not be made the truth by a planned exchange, "" if nothing is known.
        `self_fence`: why this node could not fence itself, "" if it could."""
        self._node = node
        self._reporter = reporter
        self._cluster = cluster
        self._switches = switches
        self._rhythm = rhythm
        self._self_fence = self_fence
        self._log = log
        self._doubt = doubt
        self._counter = itertools.count(1)
        self._running: set[asyncio.Task[None]] = set()
        self._orders: set[asyncio.Task[tuple[bool, str]]] = set()

    def status(self) -> dict[str, object]:
        return self._reporter.status()

    def why(self) -> dict[str, object]:
        return self._reporter.why()

    def drill(self) -> dict[str, object]:
        node = self._node
        permissions = drill(node.state, node.now, self_fence=self._self_fence())
        return {"node": node.state.me, "role": node.state.role.value, "permissions": [asdict(p) for p in permissions]}

    def history(self, limit: int) -> list[dict[str, object]]:
        return self._log.tail(limit)

    async def request(self, request: NodeRequest) -> RequestOutcome:
        """Carry out a command and wait for its end, at most ORDER_DEADLINE_S."""
        async with noted(self._log, request.action.value, request.who, request.principal, request.why) as order:
            order.outcome = await self._do(request)
        return order.outcome

    async def _do(self, request: NodeRequest) -> RequestOutcome:
        match request.action:
            case NodeAction.SWAP:
                return await self._swap(request)
            case NodeAction.RESTART:
                return await self._serving_order(request)
            case NodeAction.STOP:
                self._node.wish(Wish.STOP, who=request.who, reason=request.why)
                return await self._reach(lambda state: state.role is Role.STOP, "the module is stopped on this node")
            case NodeAction.START:
                return await self._start(request)
            case NodeAction.STOPSTART:
                return await self._stop_and_start(request)
            case NodeAction.FORCE:
                return await self._force(request)
            case NodeAction.FAILOVER_ON:
                return await self._failover(request, True)
            case NodeAction.FAILOVER_OFF:
                return await self._failover(request, False)
            case NodeAction.CHECKERS_ON:
                return await self._checkers(request, True)
            case NodeAction.CHECKERS_OFF:
                return await self._checkers(request, False)

    # -- the roles ------------------------------------------------------------------------------------------------

    async def _swap(self, request: NodeRequest) -> RequestOutcome:
        if self._node.state.role in SERVING and (doubt := self._doubt()):
            return RequestOutcome("refused", doubt)
        if self._node.state.role in SERVING:
            waited_s = await self._rhythm.just_asked()
            self._log.record("swap.begins", waited_for_probe_s=round(waited_s, 2), who=request.who)
        return await self._serving_order(request)

    async def _serving_order(self, request: NodeRequest) -> RequestOutcome:
        role, word = self._node.state.role, request.action.value
        if role not in SERVING:
            return RequestOutcome("refused", f"{word} is for the serving node; this one is {role.value}")
        succeeded, message = await self._order(word, request.who, request.why)
        return RequestOutcome("succeeded" if succeeded else "failed", message)

    async def _start(self, request: NodeRequest) -> RequestOutcome:
        self._node.wish(Wish.RUN, who=request.who, reason=request.why)
        return await self._reach(self._started, "the module runs on this node")

    def _started(self, state: State) -> bool:
        settled = state.role is Role.SECOND or (state.role in SERVING and state.app is App.RUNNING)
        return settled and self._node.phase in (Phase.READY, Phase.TRANSIENT)

    async def _stop_and_start(self, request: NodeRequest) -> RequestOutcome:
        self._node.wish(Wish.STOP, who=request.who, reason=f"stopstart: {request.why}".rstrip(": "))
        stopped = await self._reach(lambda state: state.role is Role.STOP, "stopped")
        started = await self._start(request)
        return stopped if stopped.status == "failed" else started

    async def _force(self, request: NodeRequest) -> RequestOutcome:
        """A forced start: the one command that may make an incomplete copy the truth."""
        node = self._node
        state = node.state
        if request.confirm != self._cluster:
            text = (
                f"a forced start wants the cluster's name as confirmation: {self._cluster!r}, not {request.confirm!r}"
            )
            return RequestOutcome("refused", text)
        if not request.why.strip():
            return RequestOutcome("refused", "a forced start wants a reason; it is written into the witness record")
        if state.role in SERVING:
            return RequestOutcome("refused", f"this node serves already, as {state.role.value}")
        if peer_alive(state, node.now) and state.peer.role in SERVING:
            return RequestOutcome("refused", "the peer serves; stop it first (mirrorctl stop on the peer)")
        ordered = asyncio.create_task(self._order("force", request.who, request.why), name="force")
        reached = asyncio.create_task(self._reach(self._serves, "this node is primary now"), name="force-reached")
        node.wish(Wish.RUN, who=request.who, reason=f"forced start: {request.why}")
        self._orders.add(ordered)
        ordered.add_done_callback(self._orders.discard)
        await asyncio.wait({ordered, reached}, return_when=asyncio.FIRST_COMPLETED)
        if node.state.role in SERVING:
            return await reached
        reached.cancel()
        _, message = await ordered
        return RequestOutcome("failed", message)

    @staticmethod
    def _serves(state: State) -> bool:
        return state.role in SERVING and state.app is App.RUNNING

    # -- the switches ---------------------------------------------------------------------------------------------

    async def _failover(self, request: NodeRequest, on: bool) -> RequestOutcome:
        word = "on" if on else "off"
        if not await self._switches.set_failover(on, who=request.who, why=request.why):
            return RequestOutcome("failed", f"failover is {word}, but the disk refuses to keep that over a restart")
        try:
            async with asyncio.timeout(AGREE_DEADLINE_S):
                await self._until(self._switches.watch, lambda: self._switches.agreed)
        except TimeoutError:
            text = f"failover is {word} on this node; the peer is told as soon as it is heard"
            return RequestOutcome("accepted", text)
        return RequestOutcome("succeeded", f"failover is {word} on both nodes")

    async def _checkers(self, request: NodeRequest, on: bool) -> RequestOutcome:
        word = "on" if on else "off"
        if not await self._switches.set_checkers(on, who=request.who, why=request.why):
            return RequestOutcome("failed", f"checkers are {word}, but the disk refuses to keep that over a restart")
        return RequestOutcome("succeeded", f"checkers are {word} on this node")

    async def hand_over(self, *, who: str, why: str, within_s: float | None) -> tuple[bool, str]:
        """A swap because the machine will be away; it begins at its best moment only if there is time for that."""
        if within_s is None or within_s > UNHURRIED_S:
            await self._rhythm.just_asked()
        return await self._order("swap", who, why)

    # -- other ways in --------------------------------------------------------------------------------------------

    def start_order(self, action: str, *, who: str, why: str) -> None:
        """An order nobody waits for."""
        self._spawn(self._forget(action, who, why))

    def from_control_plane(self, command: Command, report: Callable[[CommandResult], None]) -> None:
        """Accept, carry out, report; the control plane's client repeats the report until it is confirmed."""
        report(CommandResult(id=command.id, status="accepted"))
        self._spawn(self._carry_out(command, report))

    async def _carry_out(self, command: Command, report: Callable[[CommandResult], None]) -> None:
        outcome = await self.request(
            NodeRequest(NodeAction(command.action.value), command.requested_by, command.reason, principal=CONTROL_PLANE)
        )
        done = outcome.status == "succeeded"
        message = outcome.message[:MAX_SENTENCE]
        report(CommandResult(id=command.id, status="succeeded" if done else "failed", message=message))

    async def _forget(self, action: str, who: str, why: str) -> None:
        succeeded, message = await self._order(action, who, why)
        self._log.record("order.ended", action=action, who=who, succeeded=succeeded, message=message)

    # -- waiting --------------------------------------------------------------------------------------------------

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
        await self._until(self._node.watch, lambda: reached(self._node.state))

    @staticmethod
    async def _until(watch: Callable[[Callable[[], None]], Callable[[], None]], reached: Callable[[], bool]) -> None:
        changed = asyncio.Event()
        stop_watching = watch(changed.set)
        try:
            while not reached():
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
