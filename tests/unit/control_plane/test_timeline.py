"""Paging through history: newest first, inside a time range, nothing twice, nothing missing."""

from __future__ import annotations

from bisect import bisect_right
from datetime import date, datetime, timedelta
from urllib.parse import quote

import pytest

from shared.api.call import Call
from shared.api.observations import heartbeat_source
from shared.api.timeline import Window, walk
from shared.model.audit import TurnKind, VerdictTurn
from shared.model.event import RecordedEvent
from shared.model.node_state import HistoryEntry, ProbeOutcome, ProbeResult
from shared.store.keys import history_key
from shared.store.ports import Page
from tests.control_plane_app import App
from tests.control_plane_samples import NOW, heartbeat

STEP_S = 3600
COUNT = 60


async def _fill(app: App, cluster_id: str) -> list[datetime]:
    """Hourly rows over two and a half days, up to now."""
    times = [NOW - timedelta(seconds=STEP_S * number) for number in range(COUNT)]
    start = NOW - timedelta(days=3)
    await app.plane.store.probes.append(
        [ProbeResult(cluster_id=cluster_id, node="a", at=at, outcome=ProbeOutcome.SERVING) for at in times]
    )
    await app.plane.store.node_states.append_history(
        [
            HistoryEntry(
                cluster_id=cluster_id,
                node="a",
                heartbeat=heartbeat(sequence=COUNT - number),
                received_at=at,
                agent_start_seen_at=start,
            )
            for number, at in enumerate(times)
        ]
    )
    await app.plane.store.audits.append_turns(
        [
            VerdictTurn(
                cluster_id=cluster_id,
                cluster="pay",
                kind=TurnKind.CLUSTER,
                at=at,
                before="healthy",
                after="exposed",
                rule="runs-alone",
                sentence="",
            )
            for at in times
        ]
    )
    return times


async def _all(app: App, path: str, field: str) -> list[datetime]:
    found: list[datetime] = []
    for _ in range(COUNT + 8):
        page = (await app.send("GET", path)).body
        found += [datetime.fromisoformat(entry[field]) for entry in page["value"]]
        if "nextLink" not in page:
            return found
        path = page["nextLink"].partition("/api/")[2]
    raise AssertionError("the pages do not end")


LISTS = [("heartbeats?node=a", "receivedAt"), ("probes?node=a", "at"), ("verdicts?", "at")]


@pytest.mark.parametrize(("path", "field"), LISTS)
@pytest.mark.parametrize("top", [1, 7, 100])
async def test_every_row_once_newest_first(app: App, path: str, field: str, top: int) -> None:
    record = await app.provisioned()
    times = await _fill(app, record.id)
    assert await _all(app, f"clusters/pay/{path}&top={top}", field) == times


@pytest.mark.parametrize(("path", "field"), LISTS)
async def test_a_range_holds_both_its_ends(app: App, path: str, field: str) -> None:
    record = await app.provisioned()
    times = await _fill(app, record.id)
    newest, oldest = times[5], times[33]
    query = f"&top=10&from={quote(oldest.isoformat())}&to={quote(newest.isoformat())}"
    assert await _all(app, f"clusters/pay/{path}{query}", field) == times[5:34]


@pytest.mark.parametrize("top", [1, 7, 100])
async def test_the_events_of_a_cluster_are_its_own_since_it_was_asked_for(app: App, top: int) -> None:
    """Every third is about another cluster; two days of them came before this cluster was asked for."""
    times = [NOW - timedelta(seconds=STEP_S * (COUNT - number)) for number in range(2 * COUNT)]
    for number, at in enumerate(times):
        cluster = "other" if number % 3 == 0 else "pay"
        event = RecordedEvent(
            id=f"e{number}", source="/s", type="t", subject="", time="", cluster=cluster, received_at=at
        )
        await app.plane.store.events.record(event)
    record = await app.provisioned()
    app.clock.advance(STEP_S * COUNT)
    mine = [at for number, at in enumerate(times) if number % 3 and at >= record.created_at]
    assert 30 < len(mine) < COUNT
    assert await _all(app, f"clusters/pay/events?top={top}", "receivedAt") == mine[::-1]


@pytest.mark.parametrize(
    "query", ["from=yesterday", "to=2026-11-22T12:00:00", "from=2026-11-22T11:00Z&to=2026-11-21T00:00Z"]
)
async def test_an_unusable_range_is_refused_by_name(app: App, query: str) -> None:
    await app.provisioned()
    reply = await app.send("GET", f"clusters/pay/probes?node=a&{query}")
    assert (reply.status, reply.code) == (400, "InvalidParameter")


@pytest.mark.parametrize(("pause_s", "most"), [(0, 6), (7200, 12)])
async def test_an_hour_long_ago_is_found_in_a_few_queries_whatever_the_rhythm(pause_s: int, most: int) -> None:
    """A day with a heartbeat every 4 s; a pause misleads whoever trusts the rhythm, and costs some queries more."""
    start = NOW.replace(hour=0)
    entries = [
        HistoryEntry(
            cluster_id="c",
            node="a",
            heartbeat=heartbeat(sequence=number),
            received_at=start + timedelta(seconds=4 * number + (pause_s if number > 10_000 else 0)),
            agent_start_seen_at=start,
        )
        for number in range(1, 19_000)
    ][::-1]
    keys = [history_key(entry.agent_start_seen_at, entry.heartbeat.sequence) for entry in entries]
    queries = 0

    async def read(day: date, after: str | None, limit: int) -> Page[HistoryEntry]:
        nonlocal queries
        queries += 1
        begin = bisect_right(keys, after or "")
        more = keys[begin + limit - 1] if begin + limit < len(keys) else None
        return Page(tuple(entries[begin : begin + limit]), more)

    source = heartbeat_source(read)
    first, last = start + timedelta(hours=1), start + timedelta(hours=1, minutes=4)
    call = Call("GET", "", {}, {}, {"top": "100", "to": last.isoformat()}, b"")
    found, _ = await walk(call, "heartbeats", source, Window(first, last))
    assert list(found) == [entry for entry in entries if first <= entry.received_at <= last]
    assert queries <= most
