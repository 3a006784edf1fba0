"""`python -m lab.faults`: runs the fault matrix in a lab of its own; the table, build/faults.json, exit 1 on a finding.

--only TEXT     only cases whose name or kind contains TEXT (may be repeated)
--runs N        the whole selection N times
--clusters N    on so many clusters of the lab at the same time, 1 or 2
--list          print the cases and end; --markdown: as the table of docs/faults.md
--lab ID        use a lab that runs already (and its clusters), and leave it up
--keep          leave the lab up
--append        add to the results of build/faults.json instead of replacing them
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lab import lifetime
from lab.faults import report
from lab.faults.cases import CASES
from lab.faults.model import Case
from lab.faults.perform import Performer, Unsettled, settled
from lab.faults.stage import CLUSTERS, Stage, open_lab
from lab.info import LabNotFound
from lab.paths import REPOSITORY, state_root

BUILD: Final = REPOSITORY / "build"


def say(line: str) -> None:
    print(line, flush=True)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m lab.faults", description="Accidents done to a real cluster.")
    top.add_argument("--only", action="append", default=[], metavar="TEXT", help="cases whose name or kind has TEXT")
    top.add_argument("--runs", type=int, default=1, metavar="N")
    top.add_argument("--clusters", type=int, choices=range(1, len(CLUSTERS) + 1), default=len(CLUSTERS))
    top.add_argument("--list", action="store_true", help="print the cases and end")
    top.add_argument("--markdown", action="store_true", help="with --list: the table of docs/faults.md")
    top.add_argument("--state", type=Path, help="state directory of the lab")
    top.add_argument("--lab", metavar="ID", help="use this running lab and leave it up")
    top.add_argument("--keep", action="store_true", help="leave the lab up")
    top.add_argument("--append", action="store_true", help="add to the results that are there")
    return top


def chosen(texts: Sequence[str]) -> list[Case]:
    lower = [text.lower() for text in texts]
    return [case for case in CASES if not lower or any(t in f"{case.kind}: {case.name}".lower() for t in lower)]


async def run(given: argparse.Namespace, cases: list[Case], state: Path) -> int:
    results = report.load(BUILD) if given.append else report.Book()
    undo_at_the_end()
    info, mine = await open_lab(state, given.lab, say)
    turns = deque((number, case) for number in range(1, given.runs + 1) for case in cases)
    stages = [Stage(info, state, say, cluster=name) for name in CLUSTERS[: min(given.clusters, len(turns))]]
    try:
        for stage in stages:
            stage.occupy()
        await asyncio.gather(*map(provision, stages))
        async with asyncio.TaskGroup() as group:
            for stage in stages:
                group.create_task(play(stage, turns, results), name=stage.cluster)
    finally:
        for stage in stages:
            stage.close()
        if mine and not given.keep:
            await asyncio.to_thread(lifetime.take_down, state, info.id, say)
    say(report.summary_text(results))
    return 0 if report.passed(results) else 1


async def play(stage: Stage, turns: deque[tuple[int, Case]], results: report.Book) -> None:
    """One case after the other, until none is left."""
    performer = await Performer.begin(stage, BUILD)
    while turns:
        number, case = turns.popleft()
        result, proof = await performer.perform(case, number)
        results.add(result, proof)
        report.write(BUILD, results)
        say(report.line(result))
        if not result.ok:
            performer = await recover(stage, performer)


def undo_at_the_end() -> None:
    """SIGTERM cancels the run as Ctrl-C does, so that the accident under way is undone and the lab goes."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def provision(stage: Stage) -> None:
    began = time.monotonic()
    await stage.provision()
    await settled(stage)
    say(f"cluster {stage.cluster} at {stage.address}, PRIM and SECOND after {time.monotonic() - began:.0f} s")


async def recover(stage: Stage, performer: Performer) -> Performer:
    """After a failed case: go on if the pair is sound, else on a cluster made anew."""
    try:
        await settled(stage, 10.0)
    except Unsettled as error:
        say(f"  {error}; the cluster is made anew")
        await stage.delete()
        await provision(stage)
        return await Performer.begin(stage, BUILD)
    return performer


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    cases = chosen(given.only)
    if not cases:
        print(f"faults: no case contains {given.only}; see --list", file=sys.stderr)
        return 2
    if given.list:
        say(report.markdown(cases) if given.markdown else report.listing(cases))
        return 0
    BUILD.mkdir(exist_ok=True)
    try:
        return asyncio.run(run(given, cases, (given.state or state_root()).resolve()))
    except (lifetime.CannotRun, LabNotFound) as error:
        print(f"faults: {error}", file=sys.stderr)
        return 1
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("faults: interrupted; build/faults.json holds the cases that were done", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
