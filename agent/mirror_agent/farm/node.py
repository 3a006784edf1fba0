"""The farm node: turns what happens into events, asks `decide`, and lets the hands do it. Nothing is decided here.

All methods belong to one event loop. An operator's wish counts at once and is written to the disk beside it: a disk
that stands still must not keep a node in service that somebody wants to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import Phase
from mirror_agent.core.model import Instant, Wish
from mirror_agent.eventlog import EventLog
from mirror_agent.farm.decide import decide
from mirror_agent.farm.events import Event, ProbeRefused, Tick, WishGiven
from mirror_agent.farm.model import Action, Decision, State
from mirror_agent.farm.reduce import apply, settle
from mirror_agent.farm.wish_store import KeptWish, WishStore

MAX_STEPS: Final = 8  # decisions that follow from one another without anything happening outside
_UNKNOWN: Final = KeptWish(reason="\0")  # differs from everything that can be on the disk


class FarmNode:
    def __init__(self, state: State, *, store: WishStore, log: EventLog, clock: Clock = BOOT_CLOCK) -> None:
        self.state = state
        self._store = store
        self._log = log
        self._clock = clock
        self._act: Callable[[Action], None] = lambda action: None
        self._watchers: list[Callable[[], None]] = []
        self._moved: list[asyncio.Event] = []
        self._saving = asyncio.Lock()
        self._saved = _UNKNOWN
        self._tasks: set[asyncio.Task[bool]] = set()
        self._probe_was_ok = False
        self._stepping = False
        self._told: tuple[str, Phase, str] | None = None
        self.decision = decide(state, self.now)

    def connect(self, act: Callable[[Action], None]) -> None:
        """Give the node its hands; `act` begins an action and posts its end."""
        self._act = act

    def watch(self, on_change: Callable[[], None]) -> Callable[[], None]:
        """`on_change` is called after a decision that changed what the node tells others; the answer ends that."""
        self._watchers.append(on_change)
        return lambda: self._watchers.remove(on_change)

    @property
    def now(self) -> Instant:
        return Instant(self._clock.now_s())

    def post(self, event: Event) -> None:
        self.state = apply(self.state, event, self.now)
        self.step()
        for moved in tuple(self._moved):
            moved.set()

    def probe(self) -> tuple[bool, str]:
        """The load balancer's answer at this very moment."""
        ok = self.decision.serves
        if ok != self._probe_was_ok:
            self._probe_was_ok = ok
            self._log.record("probe.ok" if ok else "probe.not-ok", reason="" if ok else self.decision.sentence)
        return ok, "" if ok else self.decision.sentence

    def asked_by_load_balancer(self) -> None:
        """It has got the answer of `probe`."""
        if not self.decision.serves:
            self.post(ProbeRefused())

    def wish(self, wish: Wish, *, who: str, why: str) -> asyncio.Task[bool]:
        """Counts from now on; the task says whether a restart will know of it."""
        reason = f"{who}: {why}" if why else who
        self._log.record_decision("wish.given", wish=wish.value, who=who, why=why)
        self.post(WishGiven(wish, reason))
        return self._keep(KeptWish(wish=wish, reason=reason))

    def wish_until_restart(self, wish: Wish, *, who: str, why: str) -> None:
        """As `wish`, and the next start of the agent knows nothing of it."""
        self._log.record_decision("wish.given", wish=wish.value, who=who, why=why)
        self.post(WishGiven(wish, f"{who}: {why}"))

    def step(self) -> None:
        """Decide until nothing follows any more."""
        if self._stepping:
            return  # an action that ended at once; the loop below goes on anyway
        self._stepping = True
        try:
            for _ in range(MAX_STEPS):
                decision = decide(self.state, self.now)
                self._note(decision)
                self.state = settle(self.state, decision, self.now)
                match decision.action:
                    case Action.NOTHING:
                        return
                    case Action.GIVE_UP:
                        self.wish(Wish.STOP, who="restart budget", why=decision.detail)
                    case action:
                        self._act(action)
            self._log.record("farm.unsettled", rule=self.decision.rule)
        finally:
            self._stepping = False

    async def tick(self, every_s: float, proven: Callable[[], bool]) -> None:
        """Let time pass; until cancelled."""
        while True:
            await self._clock.sleep(every_s)
            self.post(Tick(proven()))

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait for a fact of the node, which may be that some time has passed: it is looked at with every event."""
        moved = asyncio.Event()
        self._moved.append(moved)
        try:
            while not reached():
                moved.clear()
                await moved.wait()
        finally:
            self._moved.remove(moved)

    def _note(self, decision: Decision) -> None:
        self.decision = decision
        told = (decision.rule, decision.phase, decision.sentence)
        if told == self._told:
            return
        self._told = told
        self._log.record_decision(
            "decision",
            rule=decision.rule,
            sentence=decision.sentence,
            role=decision.role.value,
            phase=decision.phase.value,
            action=decision.action.value,
        )
        for callback in tuple(self._watchers):
            callback()

    def _keep(self, kept: KeptWish) -> asyncio.Task[bool]:
        task = asyncio.create_task(self._save(kept), name="farm-wish")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _save(self, kept: KeptWish) -> bool:
        async with self._saving:
            if kept == self._saved:
                return True
            try:
                await asyncio.to_thread(self._store.save, kept)
            except OSError as error:
                self._log.record_decision("farm.wish-not-saved", path=str(self._store.path), error=str(error))
                return False
            self._saved = kept
            return True
