"""Does the simulator find what it is there to find? Bugs put into the core on purpose, one at a time.

`python -m tests.sim.mutants [NAME ...] [--limit N] [--jobs J] [--json FILE] [--afresh]`. A mutant is a text of the core
replaced by another (see `mutations`); a child process imports the core with that replacement and with its own
assertions silenced, and runs seeds until the independent judge or the bound on recovery says no; the same seed must
then hold for the core as it is. What found a mutant is kept in `mutants.json` and tried first the next time, unless
`--afresh` is given: a seed, or the name of a golden schedule that was made of one. A mutant that survives `--limit`
seeds is a hole in the simulator and makes this program fail. The production files are never touched.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from tests.sim.mutations import MUTANTS, SILENCED, Mutant

if TYPE_CHECKING:
    from tests.sim.schedule import Schedule

ROOT: Final = Path(__file__).parents[2]
CORE: Final = ROOT / "agent" / "mirror_agent" / "core"
PACKAGE: Final = "mirror_agent.core."
LIMIT: Final = 10_000
CHILD_DEADLINE_S: Final = 3600.0
KNOWN: Final = Path(__file__).with_name("mutants.json")
SCHEDULES: Final = ROOT / "tests" / "golden" / "schedules"


NOT_FOUND: Final = -1


@dataclass(frozen=True)
class Outcome:
    """`seed`: the one that found the mutant, or the name of a golden schedule; -1 when nothing did."""

    name: str
    seed: int | str
    found: str
    seconds: float


def mutated(mutant: Mutant) -> dict[str, str]:
    """Module -> its source with the bug in it, and with the core's own assertions silenced.

    ValueError when a text to be replaced is not there exactly once: the core has changed, the mutant must follow.
    """
    sources: dict[str, str] = {}
    for edit in (*mutant.edits, *SILENCED):
        source = sources.get(edit.module) or (CORE / f"{edit.module}.py").read_text(encoding="utf-8")
        count = source.count(edit.was)
        if count != 1:
            raise ValueError(f"mutant {mutant.name!r}: {edit.was!r} occurs {count} times in {edit.module}.py, not once")
        sources[edit.module] = source.replace(edit.was, edit.becomes)
    return sources


class _Mutator(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports some modules of the core from another text."""

    def __init__(self, mutant: Mutant) -> None:
        self.sources = {PACKAGE + module: source for module, source in mutated(mutant).items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname in self.sources else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.sources[module.__name__], f"<mutant of {module.__name__}>", "exec"), module.__dict__)


def child(mutant: Mutant, schedule: str, first: int, limit: int) -> int:
    """In a process of its own: infect the core, run seeds, say in one line of JSON what was found."""
    loaded = [name for name in sys.modules if name.startswith(PACKAGE)]
    assert not loaded, f"the core was imported before the mutant could be: {loaded}"
    sys.meta_path.insert(0, _Mutator(mutant))
    from tests.sim.run import replay
    from tests.sim.schedule import generate
    from tests.sim.violation import Violation

    for seed in (schedule,) if schedule else range(first, first + limit):
        try:
            replay(golden(seed) if isinstance(seed, str) else generate(seed))
        except Violation as violation:
            print(json.dumps({"seed": seed, "found": str(violation).split("\n", 1)[0]}))
            return 0
    print(json.dumps({"seed": NOT_FOUND, "found": ""}))
    return 0


def golden(name: str) -> Schedule:
    from tests.sim.schedule import load

    return load(SCHEDULES / f"{name}.json")


def known_seeds() -> dict[str, int | str]:
    """Mutant -> the seed or the schedule that found it the last time."""
    seeds: dict[str, int | str] = json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}
    return seeds


def hunt(mutant: Mutant, *, limit: int = LIMIT, known: int | str = NOT_FOUND) -> Outcome:
    """Run one mutant, first on what found it before. RuntimeError when the child itself does not work."""
    from tests.sim.minimise import failure  # imports the core, which a child must not do before it is infected
    from tests.sim.schedule import generate

    began = time.perf_counter()
    outcome = _search(mutant, known, 1) if known != NOT_FOUND else None
    first = 0
    while outcome is None and first < limit:
        found = _search(mutant, first, limit - first)
        if found is None:
            break
        assert isinstance(found.seed, int)
        first = found.seed + 1
        if not failure(generate(found.seed)):  # a seed that fails with the core as it is proves nothing here
            outcome = found
    return replace(outcome or Outcome(mutant.name, NOT_FOUND, "", 0.0), seconds=time.perf_counter() - began)


def _search(mutant: Mutant, begin: int | str, seeds: int) -> Outcome | None:
    command = [sys.executable, "-m", "tests.sim.mutants", "--child", mutant.name, "--limit", str(seeds)]
    command += ["--schedule", begin] if isinstance(begin, str) else ["--first", str(begin)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'agent'}"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=CHILD_DEADLINE_S, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"mutant {mutant.name!r}: the child ended with {done.returncode}\n{done.stderr[-2000:]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    if said["seed"] == NOT_FOUND:
        return None
    return Outcome(mutant.name, said["seed"], str(said["found"]), 0.0)


def hunt_all(mutants: Sequence[Mutant], *, limit: int, jobs: int, known: Mapping[str, int | str]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(jobs) as pool:
        hunts = pool.map(lambda mutant: hunt(mutant, limit=limit, known=known.get(mutant.name, NOT_FOUND)), mutants)
        for outcome in hunts:
            caught = f"SURVIVES {limit} seeds" if outcome.seed == NOT_FOUND else f"by {outcome.seed}"
            print(f"{outcome.name:48s} {caught}  {outcome.found}", flush=True)
            outcomes.append(outcome)
    return outcomes


def summary(outcomes: Sequence[Outcome]) -> dict[str, object]:
    return {
        "mutants": len(outcomes),
        "mutants_caught": sum(1 for outcome in outcomes if outcome.seed != NOT_FOUND),
        "mutants_caught_by_golden_schedules": sum(1 for outcome in outcomes if isinstance(outcome.seed, str)),
        "mutants_seeds": {outcome.name: outcome.seed for outcome in outcomes},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these mutants")
    parser.add_argument("--limit", type=int, default=LIMIT, help="seeds a mutant is given")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, default=None, help="add the outcome to this file")
    parser.add_argument("--known", action="store_true", help="do not hunt those that nothing is known to find")
    parser.add_argument("--afresh", action="store_true", help="do not begin with the seeds known to find them")
    parser.add_argument("--child", default="")
    parser.add_argument("--schedule", default="")
    options = parser.parse_args()
    known = {mutant.name: mutant for mutant in MUTANTS}
    if options.child:
        return child(known[options.child], options.schedule, options.first, options.limit)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no mutants are called {unknown}; there are {sorted(known)}")
    chosen = [known[name] for name in options.names] or list(MUTANTS)
    seeds: dict[str, int | str] = {} if options.afresh else known_seeds()
    hunted = [mutant for mutant in chosen if mutant.name in seeds or not options.known]
    outcomes = hunt_all(hunted, limit=options.limit, jobs=options.jobs, known=seeds)
    found = {**known_seeds(), **{outcome.name: outcome.seed for outcome in outcomes}}
    kept = {name: seed for name, seed in found.items() if name in known and seed != NOT_FOUND}
    KNOWN.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    told = {**summary(outcomes), "mutants": len(chosen), "mutants_not_hunted": len(chosen) - len(hunted)}
    print(json.dumps({key: value for key, value in told.items() if key != "mutants_seeds"}))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        before = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
        options.json.write_text(json.dumps({**before, **told}, indent=1) + "\n", encoding="utf-8")
    return 0 if all(outcome.seed != NOT_FOUND for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
