"""The last hours of the nodes for the page of a cluster, summed up here instead of in a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta
from typing import Final, TypeVar

from mirror_agent.contract import NodeName
from pydantic import AwareDatetime

from shared.api.call import Answer, Call, model_json
from shared.api.clusters import named_cluster
from shared.api.plane import ControlPlane
from shared.api.problem import Problem
from shared.console.strips import Strip, strip
from shared.model.cluster import ClusterRecord
from shared.model.document import ApiModel
from shared.model.node_state import HistoryEntry
from shared.model.principal import Principal
from shared.store.keys import reverse_ticks
from shared.store.ports import MAX_PAGE, Page

T = TypeVar("T")
PIECES: Final = 60
DEFAULT_HOURS: Final = 2
MAX_HOURS: Final = 6
MAX_PAGES: Final = 12  # 12,000 heartbeats: 6 hours of one every 2 s


class StripsView(ApiModel):
    """`pieces` of `pieceS` seconds from `begin` on. `complete`: no row of that time was left out."""

    begin: AwareDatetime
    piece_s: float
    pieces: int
    complete: bool
    nodes: dict[NodeName, Strip]


async def get_strips(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    record = await named_cluster(plane, call.route["name"])
    hours = _hours(call)
    end = plane.clock()
    begin = end - timedelta(hours=hours)
    read = await asyncio.gather(*(_of_node(plane, record, node, begin, end) for node in record.nodes))
    piece = timedelta(hours=hours) / PIECES
    view = StripsView(
        begin=begin,
        piece_s=piece.total_seconds(),
        pieces=PIECES,
        complete=all(complete for _, complete in read),
        nodes={node: found for node, (found, _) in zip(record.nodes, read, strict=True)},
    )
    return Answer(200, model_json(view))


async def _of_node(
    plane: ControlPlane, record: ClusterRecord, node: NodeName, begin: datetime, end: datetime
) -> tuple[Strip, bool]:
    async def beats(day: date, after: str | None) -> Page[HistoryEntry]:
        return await plane.store.node_states.history(record.id, node, day, after, MAX_PAGE - 1)

    (entries, whole), (probes, all_probes) = await asyncio.gather(
        _since(beats, lambda entry: entry.received_at, begin, end),
        _since(
            lambda day, after: plane.store.probes.page(
                record.id,
                node,
                day,
                f"{record.id}|{reverse_ticks(end)}" if after is None else after,
                MAX_PAGE - 1,
            ),
            lambda probe: probe.at,
            begin,
            end,
        ),
    )
    piece = (end - begin) / PIECES
    return strip(entries, probes, begin, PIECES, piece), whole and all_probes


async def _since(
    read: Callable[[date, str | None], Awaitable[Page[T]]], at: Callable[[T], datetime], begin: datetime, end: datetime
) -> tuple[list[T], bool]:
    """Rows back to `begin`, and whether that was all of them."""
    found: list[T] = []
    day, after = end.date(), None
    for _ in range(MAX_PAGES):
        page = await read(day, after)
        found += page.items
        if page.items and at(page.items[-1]) < begin:
            return found, True
        if page.next is not None:
            after = page.next
        elif day > begin.date():
            day, after = day - timedelta(days=1), None
        else:
            return found, True
    return found, False


def _hours(call: Call) -> int:
    text = call.query.get("hours", str(DEFAULT_HOURS))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:4]) <= MAX_HOURS:
        raise Problem("InvalidParameter", f"the query parameter hours is {text!r}; give 1 to {MAX_HOURS}", "hours")
    return int(text)
