"""When a timer is due: NCRONTAB expressions and fixed intervals, in UTC.

Guarantee: five fields (minutes first) or six (seconds first) with the meaning NCrontab gives them, which differs from
cron in one point: day of month AND day of week must match. Anything NCrontab would refuse is refused here, although
the library underneath accepts more (`L`, `?`, `#`, weekday 7).
Limits: always UTC, as WEBSITE_TIME_ZONE is not supported on the Flex Consumption plan. An expression that never
matches (30 February) refuses the start.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Protocol

from croniter import CroniterBadDateError, croniter

from lab.functions_host.errors import StartRefused
from lab.functions_host.settings import parse_timespan

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)  # any fixed instant: the shortest gap is a property of the expression
_GAPS_EXAMINED = 130  # two minutes of a schedule by the second, with its neighbours


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    first_name: int = 0


_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS, 1),
    _Field("day of week", 0, 6, _DAYS, 0),
)
_ITEM = re.compile(r"(?:\*|(?P<start>[0-9A-Za-z]+)(?:-(?P<end>[0-9A-Za-z]+))?)(?:/(?P<step>[0-9]+))?")


class Schedule(Protocol):
    """`shortest_gap` is the smallest distance of two neighbouring occurrences (examined at the start of a year)."""

    @property
    def text(self) -> str: ...

    @property
    def shortest_gap(self) -> timedelta: ...

    def next_after(self, instant: datetime) -> datetime:
        """The first occurrence strictly later than `instant` (aware; the answer is in UTC)."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """A TimeSpan as schedule: every so much after the last run."""

    text: str
    shortest_gap: timedelta

    def next_after(self, instant: datetime) -> datetime:
        return instant.astimezone(UTC) + self.shortest_gap


@dataclass(frozen=True, slots=True)
class Cron:
    text: str
    shortest_gap: timedelta
    six_fields: str

    def next_after(self, instant: datetime) -> datetime:
        return _next(self.six_fields, instant.astimezone(UTC))


def parse_schedule(text: str, place: str) -> Schedule:
    """Raises StartRefused, naming `place` and the field."""
    if ":" in text:
        every = parse_timespan(text, place)
        if every <= timedelta(0):
            raise StartRefused(f"{place}: schedule {text!r}: the interval must be longer than zero")
        return Interval(text, every)
    fields = text.split()
    if len(fields) not in (5, 6):
        raise StartRefused(
            f"{place}: schedule {text!r} has {len(fields)} fields; write six (second minute hour day month weekday), "
            "five (without seconds) or a TimeSpan"
        )
    if len(fields) == 5:
        fields.insert(0, "0")
    for field, value in zip(_FIELDS, fields, strict=True):
        _check(field, value, f"{place}: schedule {text!r}")
    six_fields = " ".join(fields)
    try:
        return Cron(text, _shortest_gap(six_fields), six_fields)
    except CroniterBadDateError:
        raise StartRefused(f"{place}: schedule {text!r} never occurs") from None


def _check(field: _Field, value: str, place: str) -> None:
    for item in value.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise StartRefused(f"{place}: {field.name} {item!r} is not of the form *, n, n-m, */s, n-m/s")
        bounds = [_number(field, text, place) for text in (match["start"], match["end"]) if text is not None]
        if len(bounds) == 2 and bounds[0] > bounds[1]:
            raise StartRefused(f"{place}: {field.name} {item!r} runs backwards; write two ranges")
        if match["step"] is not None and int(match["step"]) < 1:
            raise StartRefused(f"{place}: {field.name} {item!r}: a step is at least 1")


def _number(field: _Field, text: str, place: str) -> int:
    if text[:3].upper() in field.names and text.isalpha():
        return field.names.index(text[:3].upper()) + field.first_name
    if not text.isdecimal() or not field.low <= int(text) <= field.high:
        raise StartRefused(f"{place}: {field.name} {text!r} is not in {field.low}-{field.high}")
    return int(text)


def _next(six_fields: str, instant: datetime) -> datetime:
    # Whole seconds, since occurrences are whole seconds and "strictly later" must not hang on a fraction.
    start = instant.replace(microsecond=0)
    following = croniter(six_fields, start, second_at_beginning=True, day_or=False).get_next(datetime)
    assert isinstance(following, datetime)
    assert following > instant, f"{six_fields}: {following} is not after {instant}"
    return following


def _shortest_gap(six_fields: str) -> timedelta:
    occurrences = croniter(six_fields, _ANCHOR, second_at_beginning=True, day_or=False)
    times: list[datetime] = [occurrences.get_next(datetime) for _ in range(_GAPS_EXAMINED)]
    return min(later - earlier for earlier, later in pairwise(times))
