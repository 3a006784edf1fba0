"""`python -m bench.control_plane [--sizes 100,1000,10000]`: measures and writes bench/results/control-plane.json."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.control_plane import audits, histories, ingest
from bench.control_plane.cost import INSTANCE_GB, PRICES_USD, Counts, cost
from bench.control_plane.posts import operations_per_post
from bench.control_plane.rowscan import QUIET
from lab.azurite.server import Azurite

RESULT = Path(__file__).parents[1] / "results" / "control-plane.json"
LIVELY_POST_S = 5.0
DEFAULT_POST_S = 10.0


async def run(sizes: tuple[int, ...], emulated: int) -> dict[str, Any]:
    async with Azurite() as storage:
        with tempfile.TemporaryDirectory() as directory:
            beats = await ingest.measure(Path(directory), storage)
        print(beats, flush=True)
        per_post = await operations_per_post(storage)
    async with Azurite() as storage:
        fleets, prices = await audits.measure(sizes, storage, emulated)
    history = await histories.measure()
    print(history, flush=True)
    largest = [row for row in fleets if row["wall_s"] is not None][-1]
    counts = Counts(
        cpu_s_per_post=beats["worker_cpu_ms"] / 1000,
        operations_per_post=per_post,
        audit_operations_per_cluster=largest["table_operations"] / largest["clusters"],
        audit_cpu_s_per_cluster=largest["cpu_s"] / largest["clusters"],
    )
    months = [cost(counts, every_s) for every_s in (DEFAULT_POST_S, LIVELY_POST_S)]
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "make bench-control-plane",
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load_1m": os.getloadavg()[0]},
        "audit": fleets,
        "row_scan_model": {"used": QUIET.shown(), "measured_now": prices.shown()},
        "history": history,
        "heartbeats_per_s": beats["heartbeats_per_s"],
        "heartbeat_post": {**beats, "table_operations": per_post},
        "cost_usd_per_cluster_month": months[0]["usd"],
        "cost": {
            "prices_usd": PRICES_USD,
            "prices_from": "Azure's pay-as-you-go list (West Europe, 2026), as remembered; not fetched",
            "assumes": f"a fleet that keeps its instances ({INSTANCE_GB} GB) busy; without the free grants",
            "months": months,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.control_plane")
    parser.add_argument("--sizes", default="100,1000,10000")
    parser.add_argument(
        "--emulated", type=int, default=10_000, help="the largest fleet to audit against Azurite itself"
    )
    options = parser.parse_args()
    sizes = tuple(int(text) for text in options.sizes.split(","))
    logging.disable(logging.WARNING)
    result = asyncio.run(run(sizes, options.emulated))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written: {RESULT.name}")


if __name__ == "__main__":
    main()
