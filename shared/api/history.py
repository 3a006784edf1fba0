"""The story of one cluster, newest first: changes of roles and verdicts, what operators did, alerts, platform events.

Each source keeps its own rows, a partition per day; here the newest of each are read and merged. A page covers at most
`STRETCH`, so that a quiet cluster costs few queries, and is cut where the first source that has more rows ends, so that
nothing is passed over: the next page begins at that time. A page may be empty and still have a nextLink.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from shared.api.call import Answer, Call, model_json
from shared.api.clusters import named_cluster
from shared.api.plane import ControlPlane
from shared.api.retention import VERDICTS_KEPT_DAYS
from shared.api.timeline import Source, Window, walk, window_of
from shared.api.views import Links
from shared.console.story import HistoryLine, event_line, operator_line, turn_line
from shared.model.audit import VerdictTurn
from shared.model.cluster import ClusterRecord
from shared.model.document import ApiModel
from shared.model.event import RecordedEvent
from shared.model.journal import JournalEntry
from shared.model.principal import Principal
from shared.store.keys import reverse_ticks
from shared.store.ports import Page

PER_SOURCE: Final = 100
STRETCH: Final = timedelta(days=7)
_SEARCHED_PAGE: Final = 1000


class HistoryList(ApiModel):
    value: tuple[HistoryLine, ...]
    next_link: str | None = None


@dataclass(frozen=True)
class _Part:
    """What one source gave; `until` is set when it has older rows than these: nothing before it may be shown yet."""

    lines: Sequence[HistoryLine]
    until: datetime | None


async def get_history(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    record = await named_cluster(plane, call.route["name"])
    asked = window_of(call, plane.clock(), VERDICTS_KEPT_DAYS)
    begin = max(asked.oldest, record.created_at)  # nothing can be told of the time before
    window = Window(max(begin, asked.newest - STRETCH), asked.newest)
    parts = await asyncio.gather(
        _turns(plane, record, window), _operators(plane, record, window), _platform(plane, record, window)
    )
    cut = max((part.until for part in parts if part.until is not None), default=None)
    if cut is None and window.oldest > begin:
        cut = window.oldest
    lines = [line for part in parts for line in part.lines if cut is None or line.at >= cut]
    lines.sort(key=lambda line: line.at, reverse=True)
    body = model_json(HistoryList(value=tuple(lines)))
    body.pop("nextLink")
    if cut is not None:
        before = (cut - timedelta(microseconds=1)).isoformat()
        body["nextLink"] = Links(plane.settings.public_url).to(f"clusters/{record.name}/history", to=before)
    return Answer(200, body)


async def _turns(plane: ControlPlane, record: ClusterRecord, window: Window) -> _Part:
    async def read(day: date, after: str | None, limit: int) -> Page[VerdictTurn]:
        return await plane.store.audits.turns(record.id, day, after, limit)

    source = Source(read, at=lambda turn: turn.at, seek=reverse_ticks)
    found, more = await walk(_newest(), "history", source, window)
    return _Part([turn_line(turn) for turn in found], found[-1].at if found and more is not None else None)


async def _operators(plane: ControlPlane, record: ClusterRecord, window: Window) -> _Part:
    async def read(day: date, after: str | None, limit: int) -> Page[JournalEntry]:
        page = await plane.store.journal.page(day, after, _SEARCHED_PAGE)
        return Page(tuple(entry for entry in page.items if entry.cluster == record.name), page.next)

    source = Source(read, at=lambda entry: entry.at, seek=reverse_ticks)
    found, more = await walk(_newest(), "history", source, window)
    return _Part([operator_line(entry) for entry in found], found[-1].at if found and more is not None else None)


async def _platform(plane: ControlPlane, record: ClusterRecord, window: Window) -> _Part:
    async def read(day: date, after: str | None, limit: int) -> Page[RecordedEvent]:
        return await plane.store.events.page_of(record.name, day, after, limit)

    source = Source(read, at=lambda event: event.received_at, seek=reverse_ticks)
    found, more = await walk(_newest(), "history", source, window)
    lines = [line for line in map(event_line, found) if line is not None]
    return _Part(lines, found[-1].received_at if found and more is not None else None)


def _newest() -> Call:
    """The paging of a source: its newest rows."""
    return Call(method="GET", path="", headers={}, route={}, query={"top": str(PER_SOURCE)}, body=b"")
