"""The fleet page: clusters with their last verdict, searched, filtered, sorted and paged.

Order and filters are applied to one reading of the board, so that a page never mixes two.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime

from shared.api.call import Answer, Call, continuation, continuation_token, model_json, top_parameter
from shared.api.plane import ControlPlane
from shared.api.problem import Problem
from shared.api.views import Links
from shared.console.board import ClusterBrief, Reading, brief
from shared.console.lines import Line, PostedLine, audit_line, lines_of
from shared.health.verdict import Health
from shared.model.document import ApiModel
from shared.model.principal import Principal

WORST_FIRST: Final = {
    Health.DOWN: 0,
    Health.EXPOSED: 1,
    Health.DEGRADED: 2,
    Health.UNKNOWN: 3,
    Health.HEALTHY: 4,
}


class Order(StrEnum):
    WORST = "worst"
    NAME = "name"
    NEWEST = "newest"  # the last change of verdict first


class FleetPage(ApiModel):
    """`counts` of the whole fleet by state; `matching` of what `search` and `verdict` leave. `readAt`: our clock."""

    value: tuple[ClusterBrief, ...]
    counts: dict[Health, int]
    matching: int
    read_at: AwareDatetime
    audited_at: AwareDatetime | None = None
    storm: bool = False
    storm_sentence: str = ""
    next_link: str | None = None


async def read_fleet(plane: ControlPlane) -> Reading:
    """What the last audit posted, in one query; before the first one, and while one is just posting, the rows."""
    fleet, posted = await asyncio.gather(plane.store.audits.fleet(), plane.store.fleet.posted())
    if posted is None and fleet is not None:
        posted = await plane.store.fleet.posted()  # one was just posting: thousands of rows would cost far more
    before = plane.board.last
    if posted is None:
        lines: tuple[Line | PostedLine, ...] = await _lines_of_rows(plane)
    elif before is not None and before.posted == (posted.digest, posted.changes):
        lines = before.briefs
    else:
        lines = lines_of(posted.text, posted.changes)
    return Reading(
        briefs=lines,
        counts=Counter(entry.state for entry in lines),
        read_at=plane.clock(),
        audited_at=None if fleet is None else fleet.value.ended_at,
        storm=fleet is not None and fleet.value.storm,
        storm_sentence="" if fleet is None else fleet.value.sentence,
        posted=None if posted is None else (posted.digest, posted.changes),
    )


async def _lines_of_rows(plane: ControlPlane) -> tuple[Line, ...]:
    names, audits = await asyncio.gather(plane.store.fleet.names(), plane.store.fleet.audits())
    by_name = {audit.cluster: audit for audit in audits}
    return tuple(audit_line(name, by_name.get(name)) for name in names)


async def list_fleet(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    """`search`: a part of the name. `verdict`: only of this state. `order`: worst (default), name or newest."""
    search = call.query.get("search", "").strip().lower()
    state, order = _state(call), _order(call)
    top, begin = top_parameter(call), _position(call)
    reading = await plane.board.look(lambda: read_fleet(plane))
    found = [entry for entry in reading.briefs if search in entry.cluster and state in (None, entry.state)]
    # A reading is in the order of names, and sorting is stable: a key that is a number makes no garbage of its own.
    if order is Order.WORST:
        found.sort(key=lambda entry: WORST_FIRST[entry.state])
    elif order is Order.NEWEST:
        found.sort(key=lambda entry: -(entry.since.timestamp() if entry.since else 0.0))
    page = FleetPage(
        value=tuple(brief(entry.line()) for entry in found[begin : begin + top]),
        counts=dict(reading.counts),
        matching=len(found),
        read_at=reading.read_at,
        audited_at=reading.audited_at,
        storm=reading.storm,
        storm_sentence=reading.storm_sentence,
    )
    body = model_json(page)
    del body["nextLink"]
    if begin + top < len(found):
        kept = {name: call.query[name] for name in ("search", "verdict", "order") if name in call.query}
        token = continuation_token("fleet", str(begin + top))
        body["nextLink"] = Links(plane.settings.public_url).to("fleet", **kept, top=str(top), **{"continue": token})
    return Answer(200, body)


def _state(call: Call) -> Health | None:
    text = call.query.get("verdict")
    if text is None:
        return None
    try:
        return Health(text)
    except ValueError:
        valid = ", ".join(Health)
        raise Problem("InvalidParameter", f"verdict is {text!r}; give one of {valid}", "verdict") from None


def _order(call: Call) -> Order:
    text = call.query.get("order", Order.WORST.value)
    try:
        return Order(text)
    except ValueError:
        valid = ", ".join(Order)
        raise Problem("InvalidParameter", f"order is {text!r}; give one of {valid}", "order") from None


def _position(call: Call) -> int:
    text = continuation(call, "fleet")
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Problem("InvalidParameter", "the query parameter continue is not from a nextLink", "continue")
    return int(text)
