"""When a checker counts, trips and waits: the pure rule, and the set on a clock that is moved by hand."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from mirror_agent.app.checkers import CheckerSet, CheckerState, observe
from mirror_agent.app.finding import Check, Finding, Surroundings
from mirror_agent.contract import Checker, CheckerAction, CheckerKind

from tests.agent_samples import FakeClock, Recorded, application, eventually, settle

GOOD = Finding(True, "fine")
BAD = Finding(False, "refused")


def tcp(threshold: int = 2, **more: object) -> Checker:
    return Checker.model_validate(
        {"name": "port", "kind": CheckerKind.TCP, "port": 1, "threshold": threshold, "interval_s": 2.0, **more}
    )


def process(threshold: int = 2) -> Checker:
    return Checker(name="daemon", kind=CheckerKind.PROCESS, match="never-matched-by-the-test", threshold=threshold)


def run(checker: Checker, findings: list[Finding], *, in_grace: bool = False, held: bool = False) -> list[bool]:
    state = CheckerState(was_healthy=True)
    trips = []
    for finding in findings:
        seen = observe(checker, state, finding, in_grace=in_grace, held=held)
        state = seen.state
        trips.append(seen.trips)
    return trips


def test_threshold_consecutive_failures_trip_once() -> None:
    assert run(tcp(3), [BAD, BAD, BAD, BAD]) == [False, False, True, False]


def test_one_healthy_test_forgets_the_failures() -> None:
    assert run(tcp(2), [BAD, GOOD, BAD, GOOD]) == [False] * 4


def test_it_trips_again_only_after_it_was_healthy() -> None:
    assert run(tcp(1), [BAD, BAD, GOOD, BAD]) == [True, False, False, True]


def test_failures_while_starting_do_not_count_until_it_was_healthy_once() -> None:
    state = CheckerState()
    seen = observe(tcp(1), state, BAD, in_grace=True, held=False)
    assert not seen.trips
    assert seen.state.healthy is None
    assert seen.state.message == "starting: refused"
    seen = observe(tcp(1), seen.state, GOOD, in_grace=True, held=False)
    assert observe(tcp(1), seen.state, BAD, in_grace=True, held=False).trips


def test_after_the_grace_a_start_that_never_got_healthy_counts() -> None:
    assert observe(tcp(1), CheckerState(), BAD, in_grace=False, held=False).trips


def test_while_the_mirror_holds_the_application_only_dead_processes_count() -> None:
    assert run(tcp(1), [BAD, BAD], held=True) == [False, False]
    assert run(process(1), [BAD], held=True) == [True]


class Scripted:
    """A test whose answer the test case sets."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        self.calls = 0

    async def __call__(self) -> Finding:
        self.calls += 1
        return self.finding


class Bench:
    """A checker set with one scripted checker on a fake clock."""

    def __init__(self, checker: Checker, finding: Finding = GOOD, start_timeout_s: float = 10.0) -> None:
        self.clock = FakeClock()
        self.check = Scripted(finding)
        self.trips: list[tuple[str, str]] = []
        self.log = Recorded()
        checks: dict[str, Check] = {checker.name: self.check}
        self.set = CheckerSet(
            application(checkers=(checker,), start_timeout_s=start_timeout_s),
            Surroundings(Path("/"), dict, lambda: ()),
            on_trip=lambda trip: self.trips.append((trip.checker.name, trip.sentence)),
            log=self.log,
            clock=self.clock,
            checks=checks,
        )


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(tcp(2, action=CheckerAction.FAILOVER))
    yield made
    await made.set.stop()


async def test_a_failing_checker_trips_after_threshold_intervals(bench: Bench) -> None:
    bench.set.start()
    await settle()
    assert bench.set.reports()[0].healthy is True
    bench.check.finding = BAD
    await bench.clock.advance(2.0)
    assert bench.trips == []
    await bench.clock.advance(2.0)
    assert bench.trips == [("port", "checker port failed 2 times: refused")]
    report = bench.set.reports()[0]
    assert (report.healthy, report.consecutive_failures, report.message) == (False, 2, "refused")


async def test_a_slow_start_has_start_timeout_to_get_healthy(bench: Bench) -> None:
    bench.check.finding = BAD
    bench.set.start()
    await bench.clock.advance(9.0)
    assert bench.trips == []
    assert bench.set.reports()[0].healthy is None
    await bench.clock.advance(5.0)
    assert len(bench.trips) == 1


@pytest.mark.parametrize(("grace_s", "tripped_after_s"), [(0.0, 2.0), (4.0, 6.0), (20.0, 22.0)])
async def test_a_checker_may_have_a_grace_of_its_own(grace_s: float, tripped_after_s: float) -> None:
    bench = Bench(tcp(2, grace_s=grace_s), BAD)
    bench.set.start()
    await bench.clock.advance(tripped_after_s - 0.5)
    assert bench.trips == []
    await bench.clock.advance(0.5)
    assert len(bench.trips) == 1
    await bench.set.stop()


async def test_stopped_checkers_do_not_test_and_say_so(bench: Bench) -> None:
    bench.set.start()
    await settle()
    await bench.set.stop()
    calls = bench.check.calls
    await bench.clock.advance(20.0)
    assert bench.check.calls == calls
    assert bench.set.reports()[0].message == "not running"
    assert bench.set.reports()[0].healthy is None


async def test_a_new_start_forgets_what_was(bench: Bench) -> None:
    bench.set.start()
    await settle()
    bench.check.finding = BAD
    await bench.clock.advance(4.0)
    assert len(bench.trips) == 1
    await bench.set.stop()
    bench.set.start()
    await settle()
    assert bench.set.reports()[0].healthy is None
    assert len(bench.trips) == 1


async def test_a_test_that_raises_is_a_failure_and_is_recorded(bench: Bench) -> None:
    class Broken:
        async def __call__(self) -> Finding:
            raise RuntimeError("no such thing")

    broken = CheckerSet(
        application(checkers=(tcp(1),), start_timeout_s=0.001),
        Surroundings(Path("/"), dict, lambda: ()),
        on_trip=lambda trip: bench.trips.append((trip.checker.name, trip.sentence)),
        log=bench.log,
        clock=bench.clock,
        checks={"port": Broken()},
    )
    broken.start()
    await bench.clock.advance(3.0)
    await broken.stop()
    assert "checker.broken" in bench.log.kinds()
    assert "no such thing" in bench.trips[0][1]


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    with subprocess.Popen(["/bin/sleep", "600"]) as first, subprocess.Popen(["/bin/sleep", "600"]) as second:
        yield [first, second]
        first.kill()
        second.kill()


@pytest.fixture
def sleeper(sleepers: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    return sleepers[0]


async def died_at_half_time(threshold: int, sleeper: subprocess.Popen[bytes], after: Finding) -> Bench:
    """A process checker whose process dies between two turns; returns when the death has led to another test."""
    bench = Bench(process(threshold), Finding(True, "1 processes match", (sleeper.pid,)))
    bench.set.start()
    await bench.clock.advance(1.0)
    assert (bench.set.reports()[0].healthy, bench.check.calls) == (True, 1)
    bench.check.finding = after
    sleeper.kill()
    await eventually(lambda: bench.check.calls == 2, "tested again, though the clock stands still")
    await settle()
    return bench


async def test_a_killed_process_trips_at_once_without_waiting_for_the_next_turn(
    sleeper: subprocess.Popen[bytes],
) -> None:
    bench = await died_at_half_time(1, sleeper, Finding(False, "0 processes match"))
    assert bench.trips == [("daemon", "checker daemon failed 1 times: 0 processes match")]
    await bench.set.stop()


async def test_a_threshold_after_a_death_is_reached_in_confirmation_steps(sleeper: subprocess.Popen[bytes]) -> None:
    bench = await died_at_half_time(3, sleeper, Finding(False, "0 processes match"))
    assert bench.trips == []
    await bench.clock.advance(0.2)
    assert [name for name, _ in bench.trips] == ["daemon"]
    await bench.set.stop()


async def test_a_process_that_was_replaced_in_time_does_not_trip(sleeper: subprocess.Popen[bytes]) -> None:
    bench = await died_at_half_time(2, sleeper, GOOD)
    assert bench.trips == []
    assert bench.set.reports()[0].healthy is True
    assert bench.clock.next_wake_s == 2.0
    await bench.set.stop()


async def test_deaths_one_after_the_other_are_tested_with_a_pause(sleepers: list[subprocess.Popen[bytes]]) -> None:
    first, second = sleepers
    bench = await died_at_half_time(2, first, Finding(True, "1 processes match", (second.pid,)))
    second.kill()
    await eventually(lambda: (bench.clock.next_wake_s or 9) < 0.2, "the second death waits a moment")
    assert bench.check.calls == 2
    await bench.clock.advance(0.11)
    assert bench.check.calls == 3
    await bench.set.stop()
