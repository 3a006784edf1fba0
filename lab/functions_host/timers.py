"""Timer triggers: due times by an injected clock, stored status, past-due runs, no two runs of a timer at once.

Guarantee: with the monitor on, the next occurrence is on disk before it is due and is moved on only after the run; a
host that was down or killed at that time runs the timer once at its next start, marked past due. A timer whose run
takes longer than its period runs again at once, and only once, however many occurrences passed.
Behaviour of the timers extension (status with Last, Next, LastUpdated; a changed schedule is not past due; the
monitor is off for schedules under a minute). Limits: the status is a local file, so one host runs the timers; Azure
uses a blob lease and may, rarely, run one occurrence twice.
"""

import asyncio
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from lab.functions_host import protos
from lab.functions_host.bindings import Function, TimerTrigger
from lab.functions_host.errors import StartRefused
from lab.functions_host.execution import Execution
from lab.functions_host.files import write_private
from lab.functions_host.schedule import Schedule
from lab.functions_host.worker import Outcome

log = logging.getLogger(__name__)

NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)  # .NET's default(DateTime), which the status holds before the first run
LONGEST_NAP_S: Final = 30.0  # the wall clock may be set; look again at least this often


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware, UTC."""
        ...

    async def sleep_until(self, when: datetime) -> None: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep_until(self, when: datetime) -> None:
        while (remaining_s := (when - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 - wall clock
            await asyncio.sleep(min(remaining_s, LONGEST_NAP_S))


@dataclass(frozen=True, slots=True)
class Status:
    last: datetime
    next: datetime
    last_updated: datetime

    def as_json(self) -> dict[str, str]:
        return {"Last": _text(self.last), "Next": _text(self.next), "LastUpdated": _text(self.last_updated)}


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()


@dataclass(frozen=True, slots=True)
class Start:
    """What a starting timer finds: the status to go on with, and whether an occurrence was missed."""

    status: Status
    past_due: bool


def at_start(stored: Status | None, schedule: Schedule, now: datetime) -> Start:
    """Compares the stored status with the schedule, as the timers extension does at start."""
    if stored is None:
        return Start(Status(NEVER, schedule.next_after(now), now), past_due=False)
    base = stored.last if stored.last != NEVER else stored.last_updated
    expected = schedule.next_after(base)
    if expected == stored.next:
        return Start(stored, past_due=now > stored.next)
    # The schedule was changed: an occurrence of the new one in the past was never promised.
    if now > expected:
        base, expected = now, schedule.next_after(now)
    return Start(Status(NEVER, expected, base), past_due=False)


def after_run(status: Status, schedule: Schedule, invoked_at: datetime, scheduled: bool) -> Status:
    """The status after a run. A scheduled run that began early (clock skew) counts from its due time, else the same
    occurrence would be due twice."""
    base = max(invoked_at, status.next) if scheduled else invoked_at
    return Status(base, schedule.next_after(base), base)


class StatusFiles:
    """One file a timer, replaced in one step."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, function: str) -> Status | None:
        path = self._path(function)
        if not path.exists():
            return None
        try:
            stored = json.loads(path.read_text("utf-8"))
            return Status(*(datetime.fromisoformat(stored[name]) for name in ("Last", "Next", "LastUpdated")))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise StartRefused(
                f"{path} is not a timer status ({error}); remove it, the timer then starts anew"
            ) from None

    def write(self, function: str, status: Status) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(self._path(function), json.dumps(status.as_json()))

    def _path(self, function: str) -> Path:
        return self._directory / f"{function}.json"


class TimerListener:
    def __init__(self, function: Function, execution: Execution, clock: Clock, files: StatusFiles) -> None:
        assert isinstance(function.trigger, TimerTrigger)
        self.function = function
        self.trigger = function.trigger
        self._execution = execution
        self._clock = clock
        self._files = files
        self._alone = asyncio.Lock()
        self._stopping = False
        now = clock.now()
        stored = files.read(function.name) if self.trigger.use_monitor else None
        start = at_start(stored, self.trigger.schedule, now)
        self.status, self._past_due = start.status, start.past_due
        self._store()

    async def run(self) -> None:
        """Until `stop_firing`: the run that was missed or is wanted at start, then every occurrence."""
        if self._past_due:
            await self._due(scheduled=False, past_due=True)
        elif self.trigger.run_on_startup:
            await self._due(scheduled=False, past_due=False)
        while not self._stopping:
            await self._clock.sleep_until(self.status.next)
            if not self._stopping:
                await self._due(scheduled=True, past_due=False)

    def stop_firing(self) -> None:
        self._stopping = True

    async def _due(self, *, scheduled: bool, past_due: bool) -> None:
        invoked_at = self._clock.now()
        await self.fire(past_due=past_due)
        self.status = after_run(self.status, self.trigger.schedule, invoked_at, scheduled)
        self._store()

    async def fire(self, *, past_due: bool = False) -> Outcome:
        """Runs the function now, after a run that is under way. Does not change when it is due next."""
        async with self._alone:
            data = {
                "Schedule": {"AdjustForDST": True},
                "ScheduleStatus": self.status.as_json() if self.trigger.use_monitor else None,
                "IsPastDue": past_due,
            }
            return await self._execution.run(self.function, protos.TypedData(json=json.dumps(data)), {}, "timer")

    def _store(self) -> None:
        if self.trigger.use_monitor:
            self._files.write(self.function.name, self.status)
