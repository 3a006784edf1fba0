"""`python -m lab.faults.calm --minutes 30`: a bad day without an accident; nobody may take over.

Five per cent of the packets between the nodes are lost, the others take up to 50 ms longer, two processes use all of
the machine's processors, and every few seconds a part of one node (agent, engine, whole VM) stands still for less than
the promise. Passed: no change of the primary in the witness record, no acknowledged write lost, and both nodes in sync
for most of the time: a node that is out of sync cannot take over, so nothing would have been proven. Reported as well:
how often the primary was recorded alone for a while (that costs redundancy, no service), and the longest gap.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from lab import lifetime
from lab.children import start_child, stop_child
from lab.faults.__main__ import BUILD, provision, say, undo_at_the_end
from lab.faults.delay import delayed
from lab.faults.model import NODES, Case, Primary, RecordSeen, Service
from lab.faults.perform import Performer
from lab.faults.report import circumstances
from lab.faults.scene import ENGINE, SUPERVISOR, Scene
from lab.faults.stage import Stage, open_lab
from lab.info import LabNotFound
from lab.paths import state_root

LOSS_PERCENT: Final = 5
JITTER_S: Final = 0.05
PROMISE_S: Final = 4.0  # the default of contract.Timing
LONGEST_PAUSE_S: Final = 0.75 * PROMISE_S
SHORTEST_PAUSE_S: Final = 0.3
BETWEEN_S: Final = (4.0, 12.0)
# Each client's. A commit of the ledger is some 12 KB for the link; at this loss and delay one TCP stream carries about
# MSS / RTT x 1.22 / sqrt(loss) = 150 KB/s (Mathis et al. 1997), and a primary that writes faster than that while it is
# alone never has its replica back.
WRITE_PAUSE_S: Final = 1.0
PROTECTED_SHARE_MIN: Final = 0.5
BURN: Final = "while True: pass"


@asynccontextmanager
async def saturated(niceness: int) -> AsyncIterator[None]:
    """As many busy loops as there are processors."""
    command = ["nice", "-n", str(niceness), sys.executable, "-c", BURN]
    processes = [
        await start_child(command, log=None, env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")})
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for process in processes:
            await stop_child(process, grace_s=0.1)


class BadDay:
    """The fault of the one long case; counts what it did."""

    def __init__(self, minutes: float, seed: int, niceness: int) -> None:
        self._minutes = minutes
        self._niceness = niceness
        self._random = random.Random(seed)
        self.pauses: dict[str, int] = {}

    async def __call__(self, scene: Scene) -> None:
        a, b = scene.place("a").address, scene.place("b").address
        chance = f"numgen random mod 100 < {LOSS_PERCENT}"
        end = time.monotonic() + 60.0 * self._minutes
        async with saturated(self._niceness), delayed(scene, low_s=0.0, high_s=JITTER_S):
            await scene.drop(f"ip saddr {a} ip daddr {b} {chance}", f"ip saddr {b} ip daddr {a} {chance}")
            while time.monotonic() < end:
                await scene.hold(self._random.uniform(*BETWEEN_S))
                await self._pause(scene)

    async def _pause(self, scene: Scene) -> None:
        node = self._random.choice(NODES)
        part = self._random.choice(("agent", "engine", "VM"))
        seconds = self._random.uniform(SHORTEST_PAUSE_S, LONGEST_PAUSE_S)
        whose = "primary" if node == scene.prim else "replica"
        self.pauses[f"{whose}'s {part}"] = self.pauses.get(f"{whose}'s {part}", 0) + 1
        async with scene.nested() as inner:
            if part == "VM":
                await inner.freeze(node)
            else:
                await inner.pause_process(node, SUPERVISOR if part == "agent" else ENGINE)
            await inner.hold(seconds)


def times_alone(records: Sequence[RecordSeen]) -> int:
    """How often the record went from both nodes to one."""
    return sum(1 for before, after in itertools.pairwise(records) if len(before.in_sync) > len(after.in_sync))


def protected_share(records: Sequence[RecordSeen]) -> float:
    """The part of the watched time in which the record named both nodes as in sync."""
    spans = [(after.received_at - before.received_at, before) for before, after in itertools.pairwise(records)]
    whole_s = sum(span_s for span_s, _ in spans)
    return sum(span_s for span_s, record in spans if len(record.in_sync) == len(NODES)) / whole_s if whole_s else 0.0


async def run(given: argparse.Namespace, state: Path) -> int:
    undo_at_the_end()
    info, mine = await open_lab(state, given.lab, say)
    stage = Stage(info, state, say)
    try:
        stage.occupy()
        await provision(stage)
        day = BadDay(given.minutes, given.seed, given.nice)
        must = "Nobody takes over."
        name = f"{given.minutes:g} minutes of loss, jitter, a saturated machine and short pauses"
        case = Case(name, "calm", must, day, service=Service.OPEN, primary=Primary.STAYS, pause_s=WRITE_PAUSE_S)
        performer = await Performer.begin(stage, BUILD)
        result, proof = await performer.perform(case, 1)
        share = protected_share(stage.watch.records)
        findings = list(result.findings)
        if share < PROTECTED_SHARE_MIN:
            findings.append(f"both nodes were in sync for {share:.0%} of the time only: hardly a takeover was possible")
        document: dict[str, Any] = {
            "made": circumstances(),
            "minutes": given.minutes,
            "seed": given.seed,
            "niceness_of_the_load": given.nice,
            "failovers": result.primary_changes,
            "times_recorded_alone": times_alone(stage.watch.records),
            "protected_share": round(share, 3),
            "pauses": dict(sorted(day.pauses.items())),
            "longest_gap_s": result.outage_s,
            "acknowledged_writes": result.acknowledged_writes,
            "lost_writes": result.lost_writes,
            "findings": findings,
            "evidence": proof,
        }
    finally:
        stage.close()
        if mine:
            await asyncio.to_thread(lifetime.take_down, state, stage.info.id, say)
    (BUILD / "calm.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    say(json.dumps({key: value for key, value in document.items() if key != "evidence"}, indent=1))
    return 1 if findings else 0


def main(arguments: Sequence[str] | None = None) -> int:
    top = argparse.ArgumentParser(prog="python -m lab.faults.calm", description="A bad day without an accident.")
    top.add_argument("--minutes", type=float, default=30.0)
    top.add_argument("--seed", type=int, default=1, help="of the pauses and the jitter")
    top.add_argument("--nice", type=int, default=0, help="of the processes that use all processors")
    top.add_argument("--state", type=Path, help="state directory of the lab")
    top.add_argument("--lab", metavar="ID", help="use this running lab and leave it up")
    given = top.parse_args(arguments)
    BUILD.mkdir(exist_ok=True)
    try:
        return asyncio.run(run(given, (given.state or state_root()).resolve()))
    except (lifetime.CannotRun, LabNotFound) as error:
        print(f"calm: {error}", file=sys.stderr)
        return 1
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("calm: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
