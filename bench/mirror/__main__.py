"""`make bench`: measures the mirror against raw ext4 and GlusterFS and records the result.

    python -m bench.mirror [--rounds N] [--seconds S] [--match TEXT] [--backing memory|disk]

QUICK=1 in the environment: one short round of few rows, written to build/bench/, for development. The full run takes
about a quarter of an hour on two processors and writes bench/results/mirror.json and, through bench.mirror.table, the
tables.
Nothing about time is asserted; exit 1 means that something could not be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench.mirror import report, table, usage
from bench.mirror.commands import BenchError
from bench.mirror.enclosure import enclosed
from bench.mirror.ground import BACKINGS, MEMORY
from bench.mirror.inside import Settings
from bench.mirror.packages import ensure_packages

_ROOT: Final = Path(__file__).parents[2]
_QUICK_OUTPUT: Final = _ROOT / "build" / "bench" / "mirror.json"
_RESYNC_OUTPUT: Final = _ROOT / "build" / "bench" / "resync.json"
_RESYNC_MIB: Final = {False: 1024, True: 64}
_RESYNC_S: Final = 300.0


def _settings() -> Settings:
    parser = argparse.ArgumentParser(prog="bench.mirror", description=__doc__)
    quick = os.environ.get("QUICK", "") not in ("", "0")
    parser.add_argument("--rounds", type=int, default=1 if quick else 3)
    parser.add_argument("--seconds", type=float, default=0.5 if quick else 0.6, help="length of a timed load")
    parser.add_argument("--match", default="", help="only loads with this text in the name of a row")
    parser.add_argument("--backing", choices=BACKINGS, default=MEMORY, help="what the two disks stand on")
    arguments = parser.parse_args()
    # A result that is not of the whole table does not replace the recorded one.
    partial = quick or arguments.match or arguments.rounds < 3 or arguments.backing != MEMORY
    output = _QUICK_OUTPUT if partial else table.RESULT
    output.parent.mkdir(parents=True, exist_ok=True)
    return Settings(
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        quick=quick,
        match=arguments.match,
        backing=arguments.backing,
        files=500 if quick else 3000,
        output=f"{output}.new",
    )


def _resync(mib: int) -> dict[str, Any]:
    """What bench.mirror.resync measures, with a pair of its own."""
    command = [sys.executable, "-m", "bench.mirror.resync", "--mib", str(mib)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(_ROOT), str(_ROOT / "agent")))}
    try:
        subprocess.run(
            command, cwd=_ROOT, env=environment, check=True, capture_output=True, text=True, timeout=_RESYNC_S
        )
    except subprocess.CalledProcessError as error:
        raise BenchError(f"{' '.join(command)} ended with {error.returncode}: {error.stderr[-800:]}") from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"{' '.join(command)} did not end within {_RESYNC_S:.0f} s") from None
    found: dict[str, Any] = json.loads(_RESYNC_OUTPUT.read_text())
    copied_s, changed_s = found["copy"]["seconds"], found["ranges"]["seconds"]
    print(f"bench: resync of {mib} MiB: everything {copied_s} s, 1 % changed {changed_s} s")
    return found


def _finish(settings: Settings, machine: str) -> bool:
    """Adds what only the outside knows and puts the result in its place; True if nothing failed."""
    fresh = Path(settings.output)
    output = fresh.with_suffix("")
    result: dict[str, Any] = json.loads(fresh.read_text())
    if not settings.match:
        try:
            result["rows"] += report.resync_rows(_resync(_RESYNC_MIB[settings.quick]))
        except BenchError as error:
            result["failures"].append(f"resync: {error}")
            print(f"bench: FAILED resync: {error}", file=sys.stderr)
    result = {"machine": machine, "date": result.pop("date"), "command": "make bench", **result}
    fresh.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    os.replace(fresh, output)
    print(f"bench: written: {output.relative_to(_ROOT)}")
    if output == table.RESULT:
        table.update(check=False)
    else:
        output.with_suffix(".md").write_text(table.render(result))
    return not result["failures"]


def main() -> int:
    settings = _settings()
    try:
        ensure_packages()
        load_before = os.getloadavg()[0]
        busy_before_s, began_s = usage.machine_busy_s(), time.monotonic()
        outcome = enclosed("bench.mirror.inside", [json.dumps(asdict(settings))])
        busy_s, wall_s = usage.machine_busy_s() - busy_before_s, time.monotonic() - began_s
        if outcome.returncode != 0:
            return 1
        others_percent = max(0.0, busy_s - outcome.cpu_s) / (wall_s * (os.cpu_count() or 1)) * 100
        return 0 if _finish(settings, report.machine(others_percent, load_before)) else 1
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; everything it started is gone", file=sys.stderr)
        return 130
    finally:
        Path(settings.output).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
