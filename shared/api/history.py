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
from enum import StrEnum
from typing import Final

from mirror_agent.contract import NodeName
from pydantic import AwareDatetime

from shared.api.call import Answer, Call, model_json
from shared.api.clusters import named_cluster
from shared.api.plane import ControlPlane
from shared.api.retention import VERDICTS_KEPT_DAYS
from shared.api.timeline import Source, Window, walk, window_of
from shared.api.views import Links
from shared.model.audit import TurnKind, VerdictTurn
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


class Kind(StrEnum):
    ROLE = "role"
    VERDICT = "verdict"
    OPERATOR = "operator"
    PLATFORM = "platform"


class HistoryLine(ApiModel):
    """`title` says it in a few words, `detail` in a sentence; `rule` is the named rule that decided, if one did."""

    at: AwareDatetime
    kind: Kind
    title: str
    detail: str = ""
    node: NodeName | None = None
    rule: str | None = None
    who: str | None = None


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
    return _Part([_turn_line(turn) for turn in found], found[-1].at if found and more is not None else None)


async def _operators(plane: ControlPlane, record: ClusterRecord, window: Window) -> _Part:
    async def read(day: date, after: str | None, limit: int) -> Page[JournalEntry]:
        page = await plane.store.journal.page(day, after, _SEARCHED_PAGE)
        return Page(tuple(entry for entry in page.items if entry.cluster == record.name), page.next)

    source = Source(read, at=lambda entry: entry.at, seek=reverse_ticks)
    found, more = await walk(_newest(), "history", source, window)
    return _Part([_operator_line(entry) for entry in found], found[-1].at if found and more is not None else None)


async def _platform(plane: ControlPlane, record: ClusterRecord, window: Window) -> _Part:
    async def read(day: date, after: str | None, limit: int) -> Page[RecordedEvent]:
        return await plane.store.events.page_of(record.name, day, after, limit)

    source = Source(read, at=lambda event: event.received_at, seek=reverse_ticks)
    found, more = await walk(_newest(), "history", source, window)
    lines = [
        HistoryLine(at=event.received_at, kind=Kind.PLATFORM, title=event.type, detail=event.reason or event.subject)
        for event in found
    ]
    return _Part(lines, found[-1].received_at if found and more is not None else None)


def _newest() -> Call:
    """The paging of a source: its newest rows."""
    return Call(method="GET", path="", headers={}, route={}, query={"top": str(PER_SOURCE)}, body=b"")


def _turn_line(turn: VerdictTurn) -> HistoryLine:
    if turn.kind is TurnKind.ROLE:
        title = f"Node {turn.node}: {turn.before or 'start'} → {turn.after}"
        return HistoryLine(
            at=turn.at, kind=Kind.ROLE, title=title, detail=turn.sentence, node=turn.node, rule=turn.rule
        )
    what = "Cluster" if turn.node is None else f"Node {turn.node}"
    title = f"{what} is {turn.after}" + (f", was {turn.before}" if turn.before else "")
    return HistoryLine(at=turn.at, kind=Kind.VERDICT, title=title, detail=turn.sentence, node=turn.node, rule=turn.rule)


_WORDS: Final = {
    "cluster_put": "create or change",
    "cluster_delete": "delete",
    "credential_create": "offer access to the nodes",
    "credential_delete": "revoke access to the nodes",
}


def _operator_line(entry: JournalEntry) -> HistoryLine:
    name, _, action = entry.what.partition(":")
    word = action or _WORDS.get(name, name)
    title = f"{entry.principal_name}: {word}" + ("" if entry.status < 400 else f", refused ({entry.result})")
    return HistoryLine(at=entry.at, kind=Kind.OPERATOR, title=title, detail=entry.reason, who=entry.principal)
