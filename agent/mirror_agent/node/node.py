"""The node: turns the outside world into events, asks the core what to do, and does it.

Every fact enters by `post`; `_step` lets the core decide until nothing changes, flushes the durable state before any
act that relies on it, and hands the actions to their lanes. Emergency actions (kill, abort) wait for nothing. Nothing
is decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.core.actions import Action, FinishOrder, Lane, Persist
from mirror_agent.core.decide import decide
from mirror_agent.core.decision import Decision
from mirror_agent.core.events import (
    Beat,
    Event,
    LanesBusy,
    OrderFinished,
    OrderGiven,
    Persisted,
    PromiseGiven,
    Tick,
    WishGiven,
)
from mirror_agent.core.model import (
    SERVING,
    App,
    Durable,
    Instant,
    Order,
    Phase,
    State,
    Wish,
    grant_s,
    probe_ok,
)
from mirror_agent.core.reduce import apply, beat_of, settle
from mirror_agent.eventlog import EventLog
from mirror_agent.node.durable import DurableStore
from mirror_agent.node.lanes import Lanes

MAX_STEPS: Final = 32  # decisions that follow from one another without anything happening outside
EMERGENCY: Final = frozenset({Lane.MIRROR_ABORT, Lane.APP_KILL})
ORDER_DEADLINE_S: Final = 120.0


class Node:
    """One node of the pair. All methods belong to one event loop."""

    def __init__(
        self,
        state: State,
        *,
        store: DurableStore,
        log: EventLog,
        clock: Clock = BOOT_CLOCK,
    ) -> None:
        self.state = state
        self.decision: Decision | None = None
        self._store = store
        self._saved: Durable | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._log = log
        self._clock = clock
        self._lanes = Lanes(log=log.record, on_busy=self._lanes_busy, on_idle=self.step)
        self._act: Callable[[Action], None] = lambda action: None
        self._orders: dict[str, asyncio.Future[tuple[bool, str]]] = {}
        self._on_change: list[Callable[[], None]] = []
        self._stepping = False
        self._probe_was_ok = False
        self._tick_due: float | None = None

    def connect(self, act: Callable[[Action], None]) -> None:
        """Give the node its hands; `act` runs an action on its lane."""
        self._act = act

    def watch(self, on_change: Callable[[], None]) -> Callable[[], None]:
        """`on_change` is called after a decision that changed what the node tells others; the answer ends that."""
        self._on_change.append(on_change)
        return lambda: self._on_change.remove(on_change)

    @property
    def lanes(self) -> Lanes:
        return self._lanes

    @property
    def now(self) -> Instant:
        return Instant(self._clock.now_s())

    @property
    def phase(self) -> Phase:
        return self.decision.phase if self.decision is not None else Phase.NOT_READY

    def post(self, event: Event) -> None:
        """Something happened. A node that slept learns that first: what it did not hear meanwhile proves nothing."""
        self._notice_sleep()
        self.state = apply(self.state, event, self.now)
        self.step()

    def _notice_sleep(self) -> None:
        if self._tick_due is None:
            return
        late_s = self.now - self._tick_due
        if late_s > self.state.timing.heartbeat_s:
            self._tick_due = self.now
            self._log.record("node.woke", late_s=round(late_s, 3))
            self.state = apply(self.state, Tick(late_s), self.now)

    # -- what others ask ------------------------------------------------------------------------------------------

    def beat(self) -> Beat:
        return beat_of(self.state, self.phase, flushed=self._saved)

    def reply(self, beat: Beat) -> tuple[Beat, float]:
        """Answer a heartbeat of the peer: our own state, and the promise it gets, recorded before it leaves.

        An old heartbeat may get a promise as well: not to take over for a while is never wrong.
        """
        promise_s = 0.0
        if self._flushing is None:
            promise_s = grant_s(self.state, beat_role=beat.role, beat_epoch=beat.epoch)
        if promise_s > 0:
            self.post(PromiseGiven(promise_s))
        return self.beat(), promise_s

    def probe(self) -> tuple[bool, str]:
        """The load balancer's answer at this very moment."""
        ok, reason = probe_ok(self.state, self.now)
        if ok != self._probe_was_ok:
            self._probe_was_ok = ok
            self._log.record("probe.ok" if ok else "probe.not-ok", reason=reason, epoch=int(self.state.epoch))
        return ok, reason

    async def order(self, order: Order) -> tuple[bool, str]:
        """Give an order and wait for its end: (succeeded, message)."""
        if self.state.order is not None:
            return False, f"{self.state.order.action} of {self.state.order.who} is still in progress"
        future: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
        self._orders[order.id] = future
        self._log.record_decision("order.given", action=order.action, who=order.who, why=order.why)
        self.post(OrderGiven(order))
        try:
            async with asyncio.timeout(ORDER_DEADLINE_S):
                return await future
        except TimeoutError:
            self.post(OrderFinished(order.id))
            return False, f"not finished within {ORDER_DEADLINE_S:g} s; see mirrorctl why"
        finally:
            self._orders.pop(order.id, None)

    def wish(self, wish: Wish, *, who: str, reason: str) -> None:
        self._log.record_decision("wish.given", wish=wish.value, who=who, why=reason)
        self.post(WishGiven(wish, f"{who}: {reason}" if reason else who))

    def restore_wish(self, wish: Wish) -> None:
        """What the operator wants at the next start, set when nothing is decided any more."""
        self.state = self.state.with_(durable=replace(self.state.durable, wish=wish, stop_reason=""))

    # -- deciding and doing ---------------------------------------------------------------------------------------

    def step(self) -> None:
        """Decide until nothing changes any more."""
        if self._stepping:
            return  # an action that completed at once; the loop below goes on anyway
        self._stepping = True
        try:
            for _ in range(MAX_STEPS):
                if not self._step_once():
                    return
            self._log.record("node.unsettled", rule=self.decision.rule if self.decision else "")
        finally:
            self._stepping = False

    def _step_once(self) -> bool:
        """One decision; true when another may follow from it at once."""
        now = self.now
        decision = decide(self.state, now)
        self._note(decision)
        for action in decision.actions:
            if action.lane in EMERGENCY and not self._lanes.busy(action.lane):
                self._act(action)
        for action in decision.actions:
            if isinstance(action, Persist) and action.durable != self.state.durable:
                self.state = apply(self.state, Persisted(action.durable), now)
        if self.state.durable != self._saved:
            self._flush()
            return False
        before = self.state
        self.state = settle(self.state, decision, now)
        for action in decision.actions:
            if isinstance(action, FinishOrder):
                self._finish(action)
            elif action.lane not in EMERGENCY and action.lane is not Lane.DISK and not self._lanes.busy(action.lane):
                self._act(action)
        if self.state is not before:
            self._changed()
            return True
        return False

    def _lanes_busy(self, lanes: frozenset[str]) -> None:
        self.state = apply(self.state, LanesBusy(lanes), self.now)

    def _flush(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._save(self.state.durable), name="durable")

    async def _save(self, durable: Durable) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._store.save, durable)
            self._saved = durable
            self._changed()  # the peer may be waiting for what is on the disk now
        except OSError as error:
            self._log.record("node.state-not-saved", error=str(error))
            await self._clock.sleep(0.5)
        finally:
            self._flushing = None
        self.step()

    def _finish(self, action: FinishOrder) -> None:
        self._log.record_decision("order.finished", id=action.id, succeeded=action.succeeded, message=action.message)
        self.state = apply(self.state, OrderFinished(action.id), self.now)
        future = self._orders.get(action.id)
        if future is not None and not future.done():
            future.set_result((action.succeeded, action.message))

    def _note(self, decision: Decision) -> None:
        last, self.decision = self.decision, decision
        if last is not None and (last.rule, last.role, last.epoch) == (decision.rule, decision.role, decision.epoch):
            if last.phase is not decision.phase:
                self._changed()
            return
        self._log.record_decision(
            "decision",
            rule=decision.rule,
            sentence=decision.sentence,
            role=decision.role.value,
            phase=decision.phase.value,
            epoch=int(decision.epoch),
            actions=[type(action).__name__ for action in decision.actions],
        )
        self._changed()

    def _changed(self) -> None:
        for callback in tuple(self._on_change):
            callback()

    async def tick(self, every_s: float) -> None:
        """Let time pass; until cancelled."""
        while True:
            self._tick_due = self.now + every_s
            await self._clock.sleep(every_s)
            self.post(Tick())

    async def close(self) -> None:
        """Stop doing; whether that is orderly is for the caller to have arranged (wish STOP, role STOP)."""
        await self._lanes.close()
        orderly = self.state.app is App.STOPPED and self.state.role not in SERVING
        durable = replace(self.state.durable)
        await asyncio.get_running_loop().run_in_executor(None, lambda: self._store.save(durable, orderly=orderly))
