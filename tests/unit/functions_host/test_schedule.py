"""NCRONTAB and TimeSpan schedules."""

from datetime import UTC, datetime, timedelta

import pytest

from lab.functions_host.errors import StartRefused
from lab.functions_host.schedule import parse_schedule

START = datetime(2026, 3, 4, 5, 6, 7, 800_000, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "expected", "gap_s"),
    [
        ("* * * * * *", datetime(2026, 3, 4, 5, 6, 8, tzinfo=UTC), 1),
        ("*/5 * * * * *", datetime(2026, 3, 4, 5, 6, 10, tzinfo=UTC), 5),
        ("0 */5 * * * *", datetime(2026, 3, 4, 5, 10, tzinfo=UTC), 300),
        ("*/5 * * * *", datetime(2026, 3, 4, 5, 10, tzinfo=UTC), 300),
        ("7 6 5 * * *", datetime(2026, 3, 5, 5, 6, 7, tzinfo=UTC), 86400),
        ("0 0 9-10 * * MON-FRI", datetime(2026, 3, 4, 9, tzinfo=UTC), 3600),
        ("0 30 9 * JAN,Feb Sun", datetime(2027, 1, 3, 9, 30, tzinfo=UTC), 7 * 86400),
        # Day of month AND weekday: the next Friday the 13th, where cron would say Friday 6 March.
        ("0 0 0 13 * 5", datetime(2026, 3, 13, tzinfo=UTC), 28 * 86400),
        ("0 5/20 * * * *", datetime(2026, 3, 4, 5, 25, tzinfo=UTC), 1200),
        ("00:00:30", START + timedelta(seconds=30), 30),
    ],
)
def test_next_occurrence(text: str, expected: datetime, gap_s: int) -> None:
    schedule = parse_schedule(text, "here")
    assert schedule.next_after(START) == expected
    assert schedule.shortest_gap == timedelta(seconds=gap_s)


def test_an_occurrence_is_strictly_later() -> None:
    schedule = parse_schedule("0 * * * * *", "here")
    assert schedule.next_after(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("* * * *", "4 fields"),
        ("60 * * * * *", "second '60' is not in 0-59"),
        ("* * * * * 7", "day of week '7'"),
        ("* * * L * *", "day 'L'"),
        ("* * * ? * *", "day"),
        ("* * * * * MON#2", "day of week"),
        ("5-1 * * * * *", "backwards"),
        ("*/0 * * * * *", "step"),
        ("0 0 0 30 2 *", "never occurs"),
        ("00:00:00", "longer than zero"),
        ("@daily", "1 fields"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(StartRefused, match=message):
        parse_schedule(text, "here")
