"""`python -m tests.sim_resync --seeds N [--first F] [--jobs J] [--json FILE]`: many schedules; exit 1 on a violation.

FILE gets the key `resync` with what they came to; its other keys stay.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, Final

from tests.sim_resync.world import Story, run_seed

_CHUNK: Final = 20


def _run(seed: int) -> tuple[int, Story | None, str]:
    logging.disable(logging.CRITICAL)
    try:
        return seed, run_seed(seed), ""
    except AssertionError as error:
        return seed, None, "".join(traceback.format_exception_only(error))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim_resync", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    began = time.perf_counter()
    rules: Counter[str] = Counter()
    events: Counter[str] = Counter()
    skipped = compared = by_ranges = violations = 0
    with multiprocessing.Pool(options.jobs) as pool:
        seeds = range(options.first, options.first + options.seeds)
        for _, story, violation in pool.imap_unordered(_run, seeds, _CHUNK):
            if story is None:
                violations += 1
                print(violation, flush=True)
                continue
            rules += story.rules
            events += story.events
            skipped += story.count.skipped
            compared += story.count.compared
            by_ranges += story.count.by_ranges
    result: dict[str, Any] = {
        "seeds": options.seeds,
        "first": options.first,
        "violations": violations,
        "schedules_per_s": round(options.seeds / (time.perf_counter() - began), 1),
        "resyncs_by_rule": dict(rules.most_common()),
        "events": dict(events.most_common()),
        "files_left_out": skipped,
        "files_compared": compared,
        "files_compared_by_ranges": by_ranges,
    }
    print(json.dumps(result))
    if options.json is not None:
        whole = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**whole, "resync": result}, indent=1) + "\n", encoding="utf-8")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
