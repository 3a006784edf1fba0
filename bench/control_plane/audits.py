"""The audit of fleets of growing size.

`decide_s`: an audit as it is (read, probe, judge, write) against the emulator's cost model; `wall_s`: against Azurite
itself, `table_operations` its requests. Both are of an audit in which nothing changes; `first_audit` writes every row.
"""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bench.control_plane.fleet import FleetProber, fill, state_of
from bench.control_plane.pages import measure_pages
from bench.control_plane.rowscan import Prices, RowScan, calibrated
from bench.control_plane.storage import Bench, bench_over, on_azurite
from lab.azurite.server import Azurite
from shared.api.plane import ControlPlane
from shared.audit.collect import beat_fact, witness_fact
from shared.audit.pipeline import audit_fleet
from shared.health.assess import assess
from shared.health.facts import Fact
from shared.health.history import History
from shared.model.node_state import NodeState
from shared.settings import Settings
from shared.store.azure_rows import AzureRows
from shared.store.ports import WitnessRecord
from tests.control_plane_samples import Clock

PERIOD_S: Final = 30.0


def plane_over(bench: Bench, clock: Clock) -> ControlPlane:
    settings = Settings(
        public_url="https://control.example.org",
        subscription_id=str(uuid.UUID(int=0)),
        arm_endpoint="https://arm.invalid",
        wrapping_key=bytes(32),
        bootstrap_token_sha256=None,
        easy_auth=False,
        agent_wheel=None,
        control_plane_addresses=(),
    )
    return ControlPlane(
        settings=settings, store=bench.store, clock=clock, new_id=lambda: str(uuid.uuid4()), prober=FleetProber()
    )


def assess_cpu_s(clusters: int) -> float:
    """The pure part alone: facts of heartbeats, record and probes made and judged for every cluster."""
    now = datetime.now(UTC)
    states = (state_of("c", "a", now), state_of("c", "b", now))
    history = History(now - timedelta(hours=1), 1800.0)
    begun = time.process_time()
    for _ in range(clusters):
        verdict, _history = assess("c", "c", _facts(states, now), history, now)
        assert verdict.state == "healthy", verdict
    return time.process_time() - begun


def _facts(states: tuple[NodeState, ...], now: datetime) -> list[Fact]:
    return [*(beat_fact(state) for state in states), witness_fact(WitnessRecord(4, "a", "ab", "n", "won"), now)]


async def measure(sizes: tuple[int, ...], storage: Azurite, emulated: int) -> tuple[list[dict[str, Any]], Prices]:
    """`emulated`: fleets up to this size are also audited against Azurite itself."""
    rows: list[dict[str, Any]] = []
    clock = Clock(datetime.now(UTC))
    async with on_azurite(storage) as bench:
        plane = plane_over(bench, clock)
        if not isinstance(bench.rows, AzureRows):
            raise TypeError("the model is calibrated on the emulator")
        prices = await calibrated(bench.rows)
        print(prices.shown(), flush=True)
        model = RowScan()
        memory = bench_over(model)
        memory_plane = plane_over(memory, clock)
        made = 0
        for size in sizes:
            names = [f"c{number:06d}" for number in range(made, size)]
            await fill(memory, names, clock())
            made = size
            found: dict[str, Any] = {"wall_s": None, "cpu_s": None, "table_operations": None}
            if size <= emulated:
                await fill(bench, names, clock())
                first = await _one(plane, bench, clock, size)
                found = await _one(plane, bench, clock, size) | {"first_audit": first}
            await _one(memory_plane, memory, clock, size)
            model.charged = True
            modelled = await _one(memory_plane, memory, clock, size)
            rows.append(
                {
                    "clusters": size,
                    "decide_s": modelled["wall_s"],
                    "decide_cpu_s": modelled["cpu_s"],
                    "assess_cpu_s": round(assess_cpu_s(size), 3),
                    "model_requests": modelled["table_operations"],
                    **found,
                    "fleet_page": await measure_pages(memory_plane),
                    "load_1m": round(os.getloadavg()[0], 1),
                }
            )
            model.charged = False
            print(rows[-1], flush=True)
    return rows, prices


async def _one(plane: ControlPlane, bench: Bench, clock: Clock, size: int) -> dict[str, Any]:
    clock.advance(PERIOD_S)
    before, begun, used = _requests(bench), time.perf_counter(), time.process_time()
    count = await audit_fleet(plane)
    if count != size:
        raise RuntimeError(f"the audit has verdicts on {count} of {size} clusters")
    return {
        "wall_s": round(time.perf_counter() - begun, 3),
        "cpu_s": round(time.process_time() - used, 3),
        "table_operations": _requests(bench) - before,
    }


def _requests(bench: Bench) -> int:
    if bench.counted is not None:
        return bench.counted.total
    return bench.rows.asked if isinstance(bench.rows, RowScan) else 0
