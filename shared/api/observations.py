"""Reading what was observed: heartbeats, probes and events, newest first, over the days that are kept.

A list walks day partitions backwards from today; `continue` says where it stopped (day and key). One request looks at
no more than the days of the retention, and answers at most `top` rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta
from typing import Final, TypeVar

from shared.api.call import Answer, Call, continuation, continuation_token, model_json, node_parameter, top_parameter
from shared.api.clusters import named_cluster
from shared.api.plane import ControlPlane
from shared.api.problem import Problem
from shared.api.retention import KEPT_DAYS
from shared.api.views import EventList, HeartbeatList, HeartbeatView, Links, ProbeList
from shared.model.document import ApiModel
from shared.model.node_state import ProbeResult
from shared.model.principal import Principal
from shared.store.ports import Page

T = TypeVar("T")
ReadDay = Callable[[date, str | None, int], Awaitable[Page[T]]]
_DAY: Final = "%Y%m%d"


async def list_heartbeats(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    record, node = await named_cluster(plane, call.route["name"]), node_parameter(call)

    async def read(day: date, after: str | None, limit: int) -> Page[HeartbeatView]:
        page = await plane.store.node_states.history(record.id, node, day, after, limit)
        views = tuple(
            HeartbeatView(
                **{name: getattr(entry.heartbeat, name) for name in type(entry.heartbeat).model_fields},
                received_at=entry.received_at,
            )
            for entry in page.items
        )
        return Page(views, page.next)

    found, following = await _walk(plane, call, "heartbeats", read)
    return _answer(plane, call, HeartbeatList(value=found), f"clusters/{record.name}/heartbeats", following, node=node)


async def list_probes(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    record, node = await named_cluster(plane, call.route["name"]), node_parameter(call)

    async def read(day: date, after: str | None, limit: int) -> Page[ProbeResult]:
        return await plane.store.probes.page(record.id, node, day, after, limit)

    found, following = await _walk(plane, call, "probes", read)
    return _answer(plane, call, ProbeList(value=found), f"clusters/{record.name}/probes", following, node=node)


async def list_events(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    found, following = await _walk(plane, call, "events", plane.store.events.page)
    return _answer(plane, call, EventList(value=found), "events", following)


async def _walk(plane: ControlPlane, call: Call, kind: str, read: ReadDay[T]) -> tuple[tuple[T, ...], str | None]:
    top = top_parameter(call)
    today = plane.clock().date()
    oldest = today - timedelta(days=KEPT_DAYS)
    day, after = _position(continuation(call, kind), today)
    found: list[T] = []
    while day >= oldest:
        page = await read(day, after, top - len(found))
        found += page.items
        if page.next is not None:
            return tuple(found), f"{day:{_DAY}}:{page.next}"
        day, after = day - timedelta(days=1), None
        if len(found) >= top:
            return tuple(found), f"{day:{_DAY}}:" if day >= oldest else None
    return tuple(found), None


def _position(text: str | None, today: date) -> tuple[date, str | None]:
    if text is None:
        return today, None
    day_text, _, key = text.partition(":")
    try:
        day = datetime.strptime(day_text, _DAY).date()  # noqa: DTZ007 - a calendar day, no moment
    except ValueError:
        raise Problem("InvalidParameter", "the query parameter continue is not from a nextLink", "continue") from None
    return min(day, today), key or None


def _answer(plane: ControlPlane, call: Call, page: ApiModel, path: str, following: str | None, **query: str) -> Answer:
    body = model_json(page)
    body.pop("nextLink")
    if following is not None:
        token = continuation_token(path.rpartition("/")[2], following)
        links = Links(plane.settings.public_url)
        body["nextLink"] = links.to(path, **query, top=str(top_parameter(call)), **{"continue": token})
    return Answer(200, body)
