"""The checkers of the application on the node where it serves: when to test, what counts, when to act.

Problem: a dead process must be seen at once, a slow start must not be taken for a failure, and one lost test must not
restart a database.
Guarantee: `threshold` consecutive failures trip a checker once; it can trip again only after it was healthy. Until the
first healthy test, failures within its grace of the start do not count. The death of a process that a process
checker counted is an event: the checker tests again at once, and until the matter is decided every
CONFIRM_INTERVAL_S instead of every `interval_s`.
Limits: while the mirror holds the application's calls (`suspend`), only process checkers count, since every other
test may just wait for a file.

`observe` is the pure rule; `CheckerSet` feeds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from mirror_agent.app.checks import make_check
from mirror_agent.app.finding import Check, Finding, Surroundings
from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import (
    MAX_SENTENCE_CHARS,
    Application,
    Checker,
    CheckerKind,
    CheckerReport,
    CheckerWhen,
)
from mirror_agent.eventlog import RecordEvent
from mirror_agent.platform import PROCESSES

CONFIRM_INTERVAL_S: Final = 0.1
MAX_WATCHED: Final = 256


@dataclass(frozen=True)
class CheckerState:
    """`healthy` None: not known yet (start grace). `tripped` stays until the next healthy test."""

    healthy: bool | None = None
    consecutive_failures: int = 0
    was_healthy: bool = False
    tripped: bool = False
    message: str = ""


@dataclass(frozen=True)
class Observation:
    state: CheckerState
    trips: bool


def observe(checker: Checker, state: CheckerState, finding: Finding, *, in_grace: bool, held: bool) -> Observation:
    """The rule. `in_grace`: not longer after the start than the checker's grace; `held`: the mirror holds the
    application's calls."""
    message = finding.message[:MAX_SENTENCE_CHARS]
    if finding.healthy:
        return Observation(CheckerState(healthy=True, was_healthy=True, message=message), trips=False)
    if in_grace and not state.was_healthy:
        return Observation(replace(state, message=f"starting: {message}"[:MAX_SENTENCE_CHARS]), trips=False)
    if held and checker.kind is not CheckerKind.PROCESS:
        return Observation(replace(state, message=f"not counted, held: {message}"[:MAX_SENTENCE_CHARS]), trips=False)
    failures = state.consecutive_failures + 1
    trips = failures >= checker.threshold and not state.tripped
    after = replace(
        state, healthy=False, consecutive_failures=failures, tripped=state.tripped or trips, message=message
    )
    return Observation(after, trips)


@dataclass(frozen=True)
class Trip:
    """A checker has failed often enough; `sentence` says how often and what it found, `broken` as in `Finding`."""

    checker: Checker
    sentence: str
    broken: bool = False


class DeathWatch:
    """Calls back when one of the watched processes ends."""

    def __init__(self, on_death: Callable[[], None]) -> None:
        self._on_death = on_death
        self._watched: dict[int, Callable[[], None]] = {}

    def watch(self, pids: tuple[int, ...]) -> None:
        """Watch exactly these; the ones no longer named are let go."""
        wanted = set(pids[:MAX_WATCHED])
        for pid in set(self._watched) - wanted:
            self._forget(pid)
        for pid in wanted - set(self._watched):
            try:
                self._watched[pid] = PROCESSES.watch_death(pid, partial(self._died, pid))
            except ProcessLookupError:
                self._on_death()

    def close(self) -> None:
        for pid in tuple(self._watched):
            self._forget(pid)

    def _died(self, pid: int) -> None:
        self._forget(pid)
        self._on_death()

    def _forget(self, pid: int) -> None:
        self._watched.pop(pid)()


class CheckerSet:
    """The checkers of one place: `start` when the application runs here (or this node is replica), `stop` before."""

    def __init__(
        self,
        application: Application,
        surroundings: Surroundings,
        *,
        on_trip: Callable[[Trip], None],
        log: RecordEvent,
        where: CheckerWhen = CheckerWhen.PRIM,
        clock: Clock = BOOT_CLOCK,
        checks: Mapping[str, Check] | None = None,
    ) -> None:
        """`where` is PRIM or SECOND; `checks` replaces the test of a checker by name."""
        assert where is not CheckerWhen.BOTH, "a node is in one place at a time"
        own = dict(checks or {})
        self._checkers = tuple(entry for entry in application.checkers if entry.when in (where, CheckerWhen.BOTH))
        self._checks = {
            checker.name: own.get(checker.name) or make_check(checker, surroundings) for checker in self._checkers
        }
        self._grace_s = application.start_timeout_s if where is CheckerWhen.PRIM else 0.0
        self._on_trip = on_trip
        self._log = log
        self._clock = clock
        self._states = {checker.name: CheckerState() for checker in self._checkers}
        self._held = ""
        self._switched_off = ""
        self._wanted = False
        self._started_at = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._task is not None

    def reports(self) -> tuple[CheckerReport, ...]:
        """What a heartbeat carries."""
        return tuple(
            CheckerReport(
                name=checker.name,
                healthy=state.healthy,
                consecutive_failures=state.consecutive_failures,
                message=state.message,
            )
            for checker in self._checkers
            for state in (self._states[checker.name],)
        )

    def suspend(self, reason: str) -> None:
        """The mirror holds the application's calls: failures other than dead processes do not count."""
        self._held = reason

    def resume(self) -> None:
        self._held = ""

    def start(self) -> None:
        """The application has been started: forget the past and test."""
        self._wanted = True
        if self._task is None and not self._switched_off:
            self._task = asyncio.create_task(self.run(), name="checkers")
            self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """No test runs after this; the reports say so."""
        task = self.end()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    def end(self) -> asyncio.Task[None] | None:
        """As `stop`, without waiting: nothing counts any more; the answer is the task that is ending."""
        self._wanted = False
        return self._cancel(self._switched_off or "not running")

    def give_way(self, successor: CheckerSet) -> None:
        """`successor` goes on where this one was: held, switched off, wanted. Nothing of this one counts any more."""
        wanted = self._wanted
        self.end()
        successor._held = self._held
        if self._switched_off:
            successor.switch_off(self._switched_off)
        if wanted:
            successor.start()

    def switch_off(self, reason: str) -> None:
        """Nothing is tested and nothing trips until `switch_on`, whether or not the application runs."""
        self._switched_off = reason
        self._cancel(reason)

    def switch_on(self) -> None:
        self._switched_off = ""
        if self._wanted:
            self.start()
        else:
            self._cancel("not running")

    def _cancel(self, message: str) -> asyncio.Task[None] | None:
        """The task that is ending; a test that was under way does not count any more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._states = {name: CheckerState(message=message[:MAX_SENTENCE_CHARS]) for name in self._states}
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Checkers that end by themselves are a defect; it shows in the log and in every heartbeat."""
        if not task.cancelled() and (error := task.exception()) is not None:
            message = f"the checkers have ended: {type(error).__name__}: {error}"
            self._log("checkers.ended", error=message)
            self._states = {name: CheckerState(healthy=False, message=message) for name in self._states}

    async def run(self) -> None:
        """Test until cancelled."""
        self._started_at = self._clock.now_s()
        self._states = {checker.name: CheckerState(message="not tested yet") for checker in self._checkers}
        async with asyncio.TaskGroup() as group:
            for checker in self._checkers:
                group.create_task(self._run_one(checker), name=f"checker-{checker.name}")

    async def _run_one(self, checker: Checker) -> None:
        died = asyncio.Event()
        watch = DeathWatch(died.set)
        quick = False
        try:
            while True:
                died.clear()
                tested_at = self._clock.now_s()
                finding = await self._test(checker)
                self._observe(checker, finding)
                watch.watch(finding.matched)
                state = self._states[checker.name]
                # After a death the matter is decided quickly, one way or the other.
                quick = quick and not finding.healthy and not state.tripped
                pause_s = min(CONFIRM_INTERVAL_S, checker.interval_s) if quick else checker.interval_s
                if await self._pause(died, pause_s):
                    quick = True
                    await self._space_out(tested_at)
        finally:
            watch.close()

    async def _space_out(self, tested_at: float) -> None:
        """A database whose sessions come and go must not keep us reading /proc all day."""
        early_s = CONFIRM_INTERVAL_S - (self._clock.now_s() - tested_at)
        if early_s > 0:
            await self._clock.sleep(early_s)

    async def _test(self, checker: Checker) -> Finding:
        try:
            return await self._checks[checker.name]()
        except Exception as error:  # noqa: BLE001 - a checker that cannot test has failed; it must not end silently
            self._log("checker.broken", checker=checker.name, error=f"{type(error).__name__}: {error}")
            return Finding(False, f"the test itself failed: {type(error).__name__}: {error}")

    def _observe(self, checker: Checker, finding: Finding) -> None:
        before = self._states[checker.name]
        grace_s = self._grace_s if checker.grace_s is None else checker.grace_s
        in_grace = self._clock.now_s() - self._started_at < grace_s
        seen = observe(checker, before, finding, in_grace=in_grace, held=bool(self._held))
        self._states[checker.name] = seen.state
        if seen.state.healthy != before.healthy:
            self._log("checker.changed", checker=checker.name, healthy=seen.state.healthy, message=seen.state.message)
        if seen.trips:
            sentence = f"checker {checker.name} failed {seen.state.consecutive_failures} times: {seen.state.message}"
            self._log("checker.tripped", checker=checker.name, action=checker.action.value, sentence=sentence)
            self._on_trip(Trip(checker, sentence, broken=finding.broken))

    async def _pause(self, died: asyncio.Event, seconds: float) -> bool:
        """Wait for the next turn; True when the death of a watched process cut it short."""
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        dying = asyncio.ensure_future(died.wait())
        try:
            await asyncio.wait({sleeping, dying}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            dying.cancel()
        return died.is_set()
