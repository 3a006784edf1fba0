"""A long campaign, in slices that outlive an interruption.

`python -m tests.sim.million [--seeds N] [--slice S] [--jobs J]`. Each slice is a file with what its seeds came to, the
commit and the digest of the sources they ran on, and the time they took. A second start goes on where the first one
ended; a slice of other sources (see `compiled.digest`) counts for nothing and is run again. After every slice what
counts is summed up in `bench/results/sim.json`. A violation does not end the campaign; its trace is in the log beside
the slices. Exit code 1 when there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.sim import compiled

SLICES: Final = compiled.BUILDS / "million"
RESULT: Final = compiled.ROOT / "bench" / "results" / "sim.json"
SUMMED: Final = ("seeds", "violations", "decisions", "acknowledged_writes", "promotions", "overrides")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.million", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000_000)
    parser.add_argument("--slice", type=int, default=10_000, help="seeds in one file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    SLICES.mkdir(parents=True, exist_ok=True)
    for first in range(0, options.seeds, options.slice):
        file = SLICES / f"{first:08d}.json"
        if not counts(file):
            run_slice(file, first, min(options.slice, options.seeds - first), options.jobs)
        write_result()
    return 1 if json.loads(RESULT.read_text(encoding="utf-8"))["violations"] else 0


def counts(file: Path) -> bool:
    """The slice is there and is about the sources as they are."""
    return file.exists() and json.loads(file.read_text(encoding="utf-8")).get("digest") == compiled.digest()


def run_slice(file: Path, first: int, seeds: int, jobs: int) -> None:
    """Run the seeds; RuntimeError when they could not be run at all."""
    unfinished = file.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.sim", "--compile", "--first", str(first), "--seeds", str(seeds)]
    began, before, digest = time.perf_counter(), _cpu_s(), compiled.digest()
    with (SLICES / "log").open("a", encoding="utf-8") as log:
        subprocess.run(
            [*command, "--jobs", str(jobs), "--json", str(unfinished)],
            cwd=compiled.ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,  # a violation is an exit code as well; it is in the file
        )
    if not unfinished.exists():
        raise RuntimeError(f"the seeds from {first} were not run; see {SLICES / 'log'}")
    told = json.loads(unfinished.read_text(encoding="utf-8"))
    told |= {
        "commit": _commit(),
        "digest": digest,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_s": round(time.perf_counter() - began, 1),
        "cpu_s": round(_cpu_s() - before, 1),
    }
    file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    unfinished.unlink()


def write_result() -> None:
    """What all slices that count come to."""
    slices = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(SLICES.glob("*.json")) if counts(file)]
    total: dict[str, Any] = {name: sum(one[name] for one in slices) for name in SUMMED}
    wall_s, cpu_s = sum(one["wall_s"] for one in slices), sum(one["cpu_s"] for one in slices)
    struck: dict[str, int] = {}
    for one in slices:
        for fault, times in one["faults_struck"].items():
            struck[fault] = struck.get(fault, 0) + times
    result = {
        **total,
        "first": min(one["first"] for one in slices),
        "commits": sorted({one["commit"] for one in slices}),
        "digest_of_sources": compiled.digest(),
        "hours": round(wall_s / 3600, 2),
        "cpu_hours": round(cpu_s / 3600, 2),
        "schedules_per_s": round(total["seeds"] / wall_s, 1),
        "schedules_per_cpu_s": round(total["seeds"] / cpu_s, 1),
        "recovered_s_max": max(one["recovered_s_max"] for one in slices),
        "outage_s_max": max(one["outage_s_max"] for one in slices),
        "simulated_hours": round(sum(one["seeds"] * one["simulated_s_per_schedule"] for one in slices) / 3600),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "python": platform.python_version(),
        "ended": max(one["ended"] for one in slices),
        "faults_struck": dict(sorted(struck.items())),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _cpu_s() -> float:
    """Processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=compiled.ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
