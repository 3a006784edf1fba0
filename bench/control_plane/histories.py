"""Paging through a long history of heartbeats: the newest page, the next ones, and an hour some days ago.

One cluster with `ROWS` heartbeats in `DAYS` days. The rows are in memory behind the emulator's cost model (`rowscan`),
because Azurite would take an hour to take them in; what a page costs Table Storage itself is told by `queries`.
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from mirror_agent.contract import MIRROR_NODES

from bench.control_plane.audits import plane_over
from bench.control_plane.fleet import beat, fill
from bench.control_plane.rowscan import RowScan
from bench.control_plane.storage import bench_over
from shared.api.call import Call
from shared.api.observations import list_heartbeats
from shared.api.plane import ControlPlane
from shared.model.node_state import HistoryEntry
from shared.model.principal import AccessRole, Principal
from shared.store.keys import history_key, node_day
from shared.store.observed import HISTORY
from shared.store.rows import Row
from tests.control_plane_samples import Clock

ROWS: Final = 1_000_000
DAYS: Final = 13
NAME: Final = "history"
PAGES: Final = 20
_SOMEBODY: Final = Principal("bench", "bench", "token", frozenset({AccessRole.MONITOR}))
_MARK: Final = datetime(2001, 1, 1, tzinfo=UTC)
_NUMBER: Final = 987654321


async def measure(rows: int = ROWS) -> dict[str, Any]:
    now = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    table = RowScan()
    bench = bench_over(table)
    [made] = await fill(bench, [NAME], now)
    await _write(table, made.id, now, rows)
    table.charged = True
    plane = plane_over(bench, Clock(now))
    newest, deep = {"node": "a", "top": "100"}, now - timedelta(days=5, hours=9)
    hour = {"from": deep.isoformat(), "to": (deep + timedelta(hours=1)).isoformat()}
    return {
        "rows": rows,
        "days": DAYS,
        "newest_page": await _pages(plane, table, [newest] * PAGES),
        "following_pages": await _following(plane, table, newest),
        "an_hour_five_days_ago": await _pages(plane, table, [newest | hour] * 3),
    }


async def _write(table: RowScan, cluster_id: str, now: datetime, rows: int) -> None:
    """Documents are made from one: serialising a million of them would measure something else."""
    started = now - timedelta(days=DAYS)
    entry = HistoryEntry(
        cluster_id=cluster_id, node="a", heartbeat=beat("a", _NUMBER), received_at=_MARK, agent_start_seen_at=started
    )
    text = entry.model_dump_json(by_alias=True, ensure_ascii=True)
    per_node = rows // len(MIRROR_NODES)
    step = timedelta(days=DAYS) / per_node
    for node in MIRROR_NODES:
        made: dict[str, list[Row]] = {}
        for number in range(1, per_node + 1):
            at = started + number * step
            partition = node_day(cluster_id, node, at.date())
            document = text.replace(f"{_MARK:%FT%TZ}", at.isoformat()).replace(str(_NUMBER), str(number))
            made.setdefault(partition, []).append(Row(partition, history_key(started, number), {"doc0": document}))
        for partition_rows in made.values():
            await table.upsert(HISTORY, partition_rows)


async def _pages(plane: ControlPlane, table: RowScan, queries: list[dict[str, str]]) -> dict[str, Any]:
    taken: list[float] = []
    asked = table.asked
    for query in queries:
        _, seconds = await _page(plane, query)
        taken.append(seconds)
    return _shown(taken, (table.asked - asked) / len(queries))


async def _following(plane: ControlPlane, table: RowScan, query: dict[str, str]) -> dict[str, Any]:
    taken: list[float] = []
    asked = table.asked
    for _ in range(PAGES):
        link, seconds = await _page(plane, query)
        taken.append(seconds)
        query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    return _shown(taken, (table.asked - asked) / PAGES)


async def _page(plane: ControlPlane, query: dict[str, str]) -> tuple[str, float]:
    begun = time.perf_counter()
    call = Call("GET", f"/api/clusters/{NAME}/heartbeats", {}, {"name": NAME}, query, b"")
    answer = await list_heartbeats(plane, _SOMEBODY, call)
    seconds = time.perf_counter() - begun
    if answer.status != 200 or not isinstance(answer.body, dict) or len(answer.body["value"]) != int(query["top"]):
        raise RuntimeError(f"a page of heartbeats was answered {answer.status} and is not full")
    return str(answer.body["nextLink"]), seconds


def _shown(taken: list[float], queries: float) -> dict[str, Any]:
    return {
        "p50_ms": round(statistics.median(taken) * 1000, 1),
        "max_ms": round(max(taken) * 1000, 1),
        "queries": round(queries, 1),
    }
