"""`python -m tests.sim [--seeds N] [--first S] [--jobs J] [--json FILE]`: run seeds and say what they came to.

`--minimise SEED` drops faults from the schedule of a failing seed while it still fails, and writes it as a file that
the tests replay. `--replay FILE` runs one such file and prints its trace. `--compile` runs the seeds with the compiled
simulator (see `compiled`), after a comparison of its traces with the plain one's; where it cannot be had, plainly.
`--sweep STRIDE` strikes planned operations between any two steps as well (see `sweep`), every STRIDE-th blow of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from mirror_agent.core import model
from mirror_agent.core.rules import RULES

from tests.sim import compiled
from tests.sim.campaign import run_all, sweep_all
from tests.sim.run import replay
from tests.sim.schedule import load

COMPARED = 20  # seeds that plain and compiled code must agree on before the compiled one is believed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--sweep", type=int, default=0, metavar="STRIDE")
    parser.add_argument("--minimise", type=int, metavar="SEED")
    parser.add_argument("--replay", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.replay is not None:
        pair = replay(load(options.replay), tracing=True)
        print("\n".join(pair.world.trace))
        return 0
    if options.minimise is not None:
        from tests.sim.minimise import minimise, write_down

        print(write_down(minimise(options.minimise)))
        return 0
    if options.compile:
        return run_compiled(options)
    return run_plain(options)


def run_compiled(options: argparse.Namespace) -> int:
    """The same run in a process that imports the compiled code; in this one when there is none."""
    place, reason = compiled.prepare()
    if place is None:
        print(f"running the plain code: {reason}", flush=True)
        return run_plain(options)
    wrong = compiled.differing(place, options.first, COMPARED)
    if wrong:
        print(f"plain and compiled code differ on the seeds {wrong}; nothing else was run", flush=True)
        return 1
    print(f"compiled and plain code leave the same traces on {COMPARED} seeds", flush=True)
    command = [sys.executable, "-m", "tests.sim", "--seeds", str(options.seeds), "--first", str(options.first)]
    command += ["--jobs", str(options.jobs), "--sweep", str(options.sweep)]
    if options.json is not None:
        command += ["--json", str(options.json.absolute())]
    return subprocess.run(command, env=compiled.environment_for(place), check=False).returncode


def run_plain(options: argparse.Namespace) -> int:
    """Seeds, then the sweep; what is in this process's path is what runs."""
    wrong = seeds(options.first, options.seeds, options.jobs, options.json)
    if options.sweep:
        wrong |= sweep(options.first, options.sweep, options.jobs, options.json)
    return wrong


def sweep(seed: int, stride: int, jobs: int, report: Path | None) -> int:
    total = sweep_all(seed, stride, jobs)
    for number, violation in enumerate(total.violations):
        print(violation if number == 0 else violation.split("\n", 1)[0], flush=True)
    told = {
        "sweep_blows": total.runs,
        "sweep_stride": stride,
        "sweep_violations": len(total.violations),
        "sweep_steps": dict(sorted(total.steps.items())),
    }
    print(json.dumps(told), flush=True)
    add_to(report, told)
    return 1 if total.violations else 0


def add_to(report: Path | None, told: dict[str, object]) -> None:
    if report is not None:
        known = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
        report.write_text(json.dumps({**known, **told}, indent=1) + "\n", encoding="utf-8")


def seeds(first: int, count: int, jobs: int, report: Path | None) -> int:
    began = time.perf_counter()
    total = run_all(first, count, jobs)
    seconds = time.perf_counter() - began
    summary = {
        "seeds": total.seeds,
        "first": first,
        "violations": len(total.violations),
        "schedules_per_s": round(total.seeds / seconds, 2),
        "processes": jobs,
        "compiled": not str(model.__file__).endswith(".py"),
        "simulated_s_per_schedule": round(total.simulated_s / max(1, total.seeds - len(total.violations)), 1),
        "decisions": total.steps,
        "acknowledged_writes": total.writes,
        "promotions": total.promotions,
        "overrides": total.overrides,
        "recovered_s_max": round(total.recovered_s_max, 1),
        "outage_s_max": round(total.outage_s_max, 1),
        "rules_never_seen": sorted(set(RULES) - set(total.rules)),
        "rules_seen": dict(sorted(total.rules.items())),
        "faults_struck": dict(sorted(total.struck.items())),
    }
    print(json.dumps({key: value for key, value in summary.items() if key not in ("rules_seen", "faults_struck")}))
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        add_to(report, summary)
    return 1 if total.violations else 0


if __name__ == "__main__":
    sys.exit(main())
