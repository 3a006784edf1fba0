"""Reading what was observed: heartbeats, probes, verdicts and events, newest first, within a time range."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, datetime

from mirror_agent.contract import NodeName

from shared.api.call import Answer, Call, continuation_token, model_json, node_parameter, top_parameter
from shared.api.clusters import named_cluster
from shared.api.plane import ControlPlane
from shared.api.retention import VERDICTS_KEPT_DAYS
from shared.api.timeline import RANGE, Source, Window, walk, window_of
from shared.api.views import EventList, HeartbeatList, HeartbeatView, Links, ProbeList, VerdictList
from shared.model.audit import VerdictTurn
from shared.model.document import ApiModel
from shared.model.event import RecordedEvent
from shared.model.node_state import HistoryEntry, ProbeResult
from shared.model.principal import Principal
from shared.store.keys import history_key, reverse_ticks
from shared.store.ports import MAX_PAGE, Page


async def list_heartbeats(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    record = await named_cluster(plane, call.route["name"])
    node = node_parameter(call, record.nodes)

    async def read(day: date, after: str | None, limit: int) -> Page[HistoryEntry]:
        return await plane.store.node_states.history(record.id, node, day, after, limit)

    found, following = await walk(call, "heartbeats", heartbeat_source(read), _window(plane, call))
    views = tuple(
        HeartbeatView(
            **{name: getattr(entry.heartbeat, name) for name in type(entry.heartbeat).model_fields},
            received_at=entry.received_at,
        )
        for entry in found
    )
    return _answer(plane, call, HeartbeatList(value=views), f"clusters/{record.name}/heartbeats", following, node)


def heartbeat_source(read: Callable[[date, str | None, int], Awaitable[Page[HistoryEntry]]]) -> Source[HistoryEntry]:
    return Source(
        read,
        at=lambda entry: entry.received_at,
        key=lambda entry: history_key(entry.agent_start_seen_at, entry.heartbeat.sequence),
        towards=_towards,
    )


def _towards(entry: HistoryEntry, to: datetime) -> str | None:
    """Nine tenths of the way from a heartbeat to a time, if the agent kept its rhythm; None when a page goes as far."""
    beats = entry.heartbeat.sequence
    lived_s = (entry.received_at - entry.agent_start_seen_at).total_seconds()
    away_s = (entry.received_at - to).total_seconds()
    steps = int(0.9 * beats * away_s / lived_s) if lived_s > 0 else 0
    return history_key(entry.agent_start_seen_at, max(0, beats - steps)) if steps >= MAX_PAGE else None


async def list_probes(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    record = await named_cluster(plane, call.route["name"])
    node = node_parameter(call, record.nodes)

    async def read(day: date, after: str | None, limit: int) -> Page[ProbeResult]:
        return await plane.store.probes.page(record.id, node, day, after, limit)

    source = Source(read, at=lambda probe: probe.at, seek=lambda to: f"{record.id}|{reverse_ticks(to)}")
    found, following = await walk(call, "probes", source, _window(plane, call))
    return _answer(plane, call, ProbeList(value=found), f"clusters/{record.name}/probes", following, node)


async def list_verdicts(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    record = await named_cluster(plane, call.route["name"])

    async def read(day: date, after: str | None, limit: int) -> Page[VerdictTurn]:
        return await plane.store.audits.turns(record.id, day, after, limit)

    source = Source(read, at=lambda turn: turn.at, seek=reverse_ticks)
    window = window_of(call, plane.clock(), max(VERDICTS_KEPT_DAYS, plane.settings.retention_days))
    found, following = await walk(call, "verdicts", source, window)
    return _answer(plane, call, VerdictList(value=found), f"clusters/{record.name}/verdicts", following)


async def list_events(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    source: Source[RecordedEvent] = Source(
        plane.store.events.page, at=lambda event: event.received_at, seek=reverse_ticks
    )
    found, following = await walk(call, "events", source, _window(plane, call))
    return _answer(plane, call, EventList(value=found), "events", following)


async def list_cluster_events(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    """Those of the fleet's events that are about this cluster, since it was asked for: an earlier cluster of the same
    name has a history of its own."""
    record = await named_cluster(plane, call.route["name"])

    async def read(day: date, after: str | None, limit: int) -> Page[RecordedEvent]:
        return await plane.store.events.page_of(record.name, day, after, limit)

    source: Source[RecordedEvent] = Source(read, at=lambda event: event.received_at, seek=reverse_ticks)
    given = _window(plane, call)
    window = Window(max(given.oldest, record.created_at), given.newest)
    found, following = await walk(call, "events", source, window)
    return _answer(plane, call, EventList(value=found), f"clusters/{record.name}/events", following)


def _window(plane: ControlPlane, call: Call) -> Window:
    return window_of(call, plane.clock(), plane.settings.retention_days)


def _answer(
    plane: ControlPlane, call: Call, page: ApiModel, path: str, following: str | None, node: NodeName | None = None
) -> Answer:
    body = model_json(page)
    body.pop("nextLink")
    if following is not None:
        kept = {name: call.query[name] for name in RANGE if name in call.query}
        kept |= {} if node is None else {"node": node}
        token = continuation_token(path.rpartition("/")[2], following)
        links = Links(plane.settings.public_url)
        body["nextLink"] = links.to(path, **kept, top=str(top_parameter(call)), **{"continue": token})
    return Answer(200, body)
