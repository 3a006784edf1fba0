"""Timers by a clock the test moves: due times, stored status, past due, retries, one run at a time."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lab.functions_host.bindings import Function, TimerTrigger
from lab.functions_host.errors import StartRefused
from lab.functions_host.execution import Execution
from lab.functions_host.schedule import parse_schedule
from lab.functions_host.timers import NEVER, Start, Status, StatusFiles, TimerListener, after_run, at_start

from .conftest import Loaded

FIVE = parse_schedule("0 */5 * * * *", "test")
HOURLY = parse_schedule("0 0 * * * *", "test")


def at(hour: int, minute: int, second: int = 0) -> datetime:
    return datetime(2026, 3, 4, hour, minute, second, tzinfo=UTC)


class HandClock:
    """Time passes when the test says so; `sleepers` counts who waits."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._moved = asyncio.Condition()
        self.waiting_for: datetime | None = None
        self._asleep = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    async def sleep_until(self, when: datetime) -> None:
        async with self._moved:
            self.waiting_for = when
            self._asleep.set()
            await self._moved.wait_for(lambda: self._now >= when)

    async def move_to(self, when: datetime) -> None:
        async with self._moved:
            self._now = when
            if self.waiting_for is not None and when >= self.waiting_for:
                self._asleep.clear()
            self._moved.notify_all()

    async def until_asleep(self) -> datetime:
        async with asyncio.timeout(10):
            await self._asleep.wait()
        assert self.waiting_for is not None
        return self.waiting_for


def test_a_new_timer_waits_for_its_next_occurrence() -> None:
    assert at_start(None, FIVE, at(5, 6)) == Start(Status(NEVER, at(5, 10), at(5, 6)), past_due=False)


@pytest.mark.parametrize(
    ("stored", "now", "past_due"),
    [
        (Status(at(5, 0), at(5, 5), at(5, 0)), at(5, 4), False),
        (Status(at(5, 0), at(5, 5), at(5, 0)), at(5, 6), True),
        (Status(NEVER, at(5, 5), at(5, 1)), at(5, 6), True),
    ],
)
def test_a_missed_occurrence_is_past_due(stored: Status, now: datetime, past_due: bool) -> None:
    assert at_start(stored, FIVE, now) == Start(stored, past_due)


def test_a_changed_schedule_is_not_past_due() -> None:
    stored = Status(at(5, 0), at(5, 5), at(5, 0))
    assert at_start(stored, HOURLY, at(7, 30)) == Start(Status(NEVER, at(8, 0), at(7, 30)), past_due=False)
    assert at_start(stored, HOURLY, at(5, 30)) == Start(Status(NEVER, at(6, 0), at(5, 0)), past_due=False)


def test_a_run_that_began_early_does_not_make_its_occurrence_due_again() -> None:
    status = Status(at(5, 0), at(5, 5), at(5, 0))
    assert after_run(status, FIVE, at(5, 4, 59), scheduled=True).next == at(5, 10)
    assert after_run(status, FIVE, at(5, 4, 59), scheduled=False).next == at(5, 5)


def test_a_status_survives_its_file_and_a_broken_one_is_named(tmp_path: Path) -> None:
    files = StatusFiles(tmp_path / "timers")
    status = Status(NEVER, at(5, 5), at(5, 0))
    assert files.read("f") is None
    files.write("f", status)
    assert files.read("f") == status
    (tmp_path / "timers" / "f.json").write_text("{}")
    with pytest.raises(StartRefused, match=r"f\.json is not a timer status"):
        files.read("f")


@pytest.fixture
def function(loaded: Loaded) -> Function:
    function = loaded.functions["every_five"]
    assert isinstance(function.trigger, TimerTrigger)
    return function


async def test_a_timer_runs_when_due_and_goes_on(
    function: Function, execution: Execution, seen: list[str], tmp_path: Path
) -> None:
    clock, files = HandClock(at(5, 6)), StatusFiles(tmp_path)
    listener = TimerListener(function, execution, clock, files)
    task = asyncio.create_task(listener.run())
    assert await clock.until_asleep() == at(5, 10)
    assert seen == []
    await clock.move_to(at(5, 10))
    assert await clock.until_asleep() == at(5, 15)
    assert seen == ["past_due=False retry=0"]
    assert files.read(function.name) == Status(at(5, 10), at(5, 15), at(5, 10))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_after_a_long_outage_a_timer_runs_once_past_due(
    function: Function, execution: Execution, seen: list[str], tmp_path: Path
) -> None:
    files = StatusFiles(tmp_path)
    files.write(function.name, Status(at(5, 0), at(5, 5), at(5, 0)))
    clock = HandClock(at(9, 1))
    task = asyncio.create_task(TimerListener(function, execution, clock, files).run())
    assert await clock.until_asleep() == at(9, 5)
    assert seen == ["past_due=True retry=0"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_failing_timer_is_retried_by_its_policy(
    function: Function, execution: Execution, seen: list[str], pauses: list[float], tmp_path: Path
) -> None:
    seen.append("fail")
    await TimerListener(function, execution, HandClock(at(5, 6)), StatusFiles(tmp_path)).fire()
    assert seen == ["fail", *(f"past_due=False retry={retry}" for retry in range(3))]
    assert pauses == [7.0, 7.0]


async def test_a_timer_never_overlaps_itself(
    function: Function, execution: Execution, seen: list[str], tmp_path: Path
) -> None:
    listener = TimerListener(function, execution, HandClock(at(5, 6)), StatusFiles(tmp_path))
    at_once = 0
    most = 0
    real_run = execution.run

    async def watched(*arguments: object) -> object:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            return await real_run(*arguments)  # type: ignore[arg-type]
        finally:
            at_once -= 1

    execution.run = watched  # type: ignore[method-assign, assignment]
    await asyncio.gather(*(listener.fire() for _ in range(3)))
    assert most == 1
    assert len(seen) == 3
    assert listener.status.next == at(5, 10), "running by hand does not move the schedule"


def test_gap_of_a_day() -> None:
    assert parse_schedule("0 0 3 * * *", "test").shortest_gap == timedelta(days=1)
