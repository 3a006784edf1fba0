"""Make a failing schedule small: leave out faults and conditions while it still fails, and write down what is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.sim.run import replay
from tests.sim.schedule import Conditions, Schedule, generate, to_text
from tests.sim.violation import Violation

SCHEDULES = Path(__file__).parents[1] / "golden" / "schedules"


def failure(schedule: Schedule) -> str:
    """The violation a schedule leads to, in one line; empty when it holds."""
    try:
        replay(schedule)
    except Violation as violation:
        return str(violation).split("\n", 1)[0]
    return ""


def kind_of(message: str) -> str:
    """ "I1", "I2", "liveness" or the assertion's text up to its values: what must stay the same while minimising."""
    text = message.split(": ", 1)[-1]
    return text.split(":", 1)[0]


def minimise(seed: int) -> Schedule:
    """The schedule of a seed without what it does not need to fail in the same way.

    Raises ValueError when it does not fail.
    """
    schedule = generate(seed)
    message = failure(schedule)
    if not message:
        raise ValueError(f"seed {seed} holds; there is nothing to minimise")
    smaller = shrink(schedule, kind_of(message))
    return replace(smaller, found=failure(smaller))


def shrink(schedule: Schedule, kind: str) -> Schedule:
    changed = True
    while changed:
        changed = False
        for smaller in candidates(schedule):
            if kind_of(failure(smaller)) == kind:
                schedule, changed = smaller, True
                break
    return schedule


def candidates(schedule: Schedule) -> Iterator[Schedule]:
    """Smaller schedules, the much smaller ones first."""
    count = len(schedule.faults)
    size = count // 2
    while size >= 1:
        for start in range(0, count, size):
            yield schedule.without(set(range(start, min(start + size, count))))
        size //= 2
    plain = Conditions()
    for name in ("loss", "witness_trouble", "call_fails", "twice", "crawl", "app_fails", "rates", "linger"):
        if getattr(schedule.conditions, name) != getattr(plain, name):
            yield replace(schedule, conditions=replace(schedule.conditions, **{name: getattr(plain, name)}))


def write_down(schedule: Schedule) -> Path:
    """Keep a schedule that failed, for the tests to replay once its defect is mended."""
    SCHEDULES.mkdir(parents=True, exist_ok=True)
    path = SCHEDULES / f"seed-{schedule.seed}.json"
    path.write_text(to_text(schedule), encoding="utf-8")
    return path
