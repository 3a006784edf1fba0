"""Paging through what was recorded over time: newest first, within `from` and `to`, day partition by day partition.

Where the key of a row begins with its time, `to` is a position to start at; where it does not (heartbeats are kept by
agent start and sequence, so that a repeated post leaves one row), it is approached in leaps. Either way a page costs a
few queries, however much history there is. One request reads at most `MAX_QUERIES` pages of rows; if that
was not enough the answer has fewer rows, possibly none, and a `nextLink`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Generic, TypeVar

from shared.api.call import Call, continuation, top_parameter
from shared.api.problem import Problem
from shared.store.ports import MAX_PAGE, Page

T = TypeVar("T")
MAX_QUERIES: Final = 40
MAX_LEAPS: Final = 8
RANGE: Final = ("from", "to")  # query parameters of every list of this kind
_DAY: Final = "%Y%m%d"


@dataclass(frozen=True)
class Source(Generic[T]):
    """`read(day, after, limit)`: rows of a day behind the key `after`, newest first. `at`: the time of a row.
    `seek(to)`: the key to begin behind, where keys begin with the time. Where they do not: `key` of a row, and
    `towards(row, to)`, a key between the row and that time, or None when it is near."""

    read: Callable[[date, str | None, int], Awaitable[Page[T]]]
    at: Callable[[T], datetime]
    seek: Callable[[datetime], str] | None = None
    key: Callable[[T], str] | None = None
    towards: Callable[[T, datetime], str | None] | None = None

    def __post_init__(self) -> None:
        if (self.seek is None) is (self.key is None) or (self.key is None) is not (self.towards is None):
            raise ValueError("a source gives either seek, or key and towards")


@dataclass(frozen=True)
class Window:
    """Both ends belong to it."""

    oldest: datetime
    newest: datetime


def window_of(call: Call, now: datetime, kept_days: int) -> Window:
    """`from` and `to` of a call; no further back than the retention. Raises Problem."""
    newest = min(_moment(call, "to") or now, now)
    kept = datetime.combine(now.date() - timedelta(days=kept_days), datetime.min.time(), UTC)
    oldest = max(_moment(call, "from") or kept, kept)
    if oldest > newest and "from" in call.query:
        raise Problem("InvalidParameter", f"from ({oldest:%FT%TZ}) lies after to ({newest:%FT%TZ})", "from")
    return Window(oldest, newest)


async def walk(call: Call, kind: str, source: Source[T], window: Window) -> tuple[tuple[T, ...], str | None]:
    """One page, and what goes into `continue` for the next."""
    top = top_parameter(call)
    day, after = _position(continuation(call, kind), window)
    found: list[T] = []
    skipping = False
    for _ in range(MAX_QUERIES):
        if day < window.oldest.date():
            return tuple(found), None
        if len(found) >= top:
            return tuple(found), f"{day:{_DAY}}:{after or ''}"
        begins = after is None and day == window.newest.date()
        if begins and source.seek is not None:
            after = source.seek(window.newest)
        if source.key is not None and (begins or skipping) and "to" in call.query:
            after = await _leap(source, day, window.newest) if begins else after
            page = await source.read(day, after, MAX_PAGE - 1)
            newer = [item for item in page.items if source.at(item) > window.newest]
            skipping = page.next is not None and len(newer) == len(page.items)
            if skipping:
                after = page.next
                continue
            if newer:
                after = source.key(newer[-1])
        page = await source.read(day, after, top - len(found))
        inside = [item for item in page.items if window.oldest <= source.at(item) <= window.newest]
        found += inside
        if page.items and source.at(page.items[-1]) < window.oldest:
            return tuple(found), None
        day, after = (day, page.next) if page.next is not None else (day - timedelta(days=1), None)
    return tuple(found), f"{day:{_DAY}}:{after or ''}" if day >= window.oldest.date() else None


async def _leap(source: Source[T], day: date, to: datetime) -> str | None:
    """A position not far before the first row of the day that is not newer than `to`. A leap too far is not taken."""
    if source.key is None or source.towards is None:
        return None
    reached = goal = None
    for _ in range(MAX_LEAPS):
        page = await source.read(day, goal, 1)
        if not page.items or source.at(page.items[0]) <= to:
            break
        reached = source.key(page.items[0])
        goal = source.towards(page.items[0], to)
        if goal is None or goal <= reached:
            break
    return reached


def _moment(call: Call, name: str) -> datetime | None:
    text = call.query.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign in a query is often left unencoded
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Problem("InvalidParameter", f"{name} is {text!r}; give a time such as 2026-11-22T12:00:00Z", name)
    return moment.astimezone(UTC)


def _position(text: str | None, window: Window) -> tuple[date, str | None]:
    if text is None:
        return window.newest.date(), None
    day_text, _, key = text.partition(":")
    try:
        day = datetime.strptime(day_text, _DAY).date()  # noqa: DTZ007 - a calendar day, no moment
    except ValueError:
        raise Problem("InvalidParameter", "the query parameter continue is not from a nextLink", "continue") from None
    return min(day, window.newest.date()), key or None
