"""Many seeds over several processes, and what they came to. The outcome does not depend on how they are spread."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from tests.sim.faults import Pair
from tests.sim.run import replay, run
from tests.sim.schedule import generate
from tests.sim.sweep import OPERATIONS, SweepTally, sweep
from tests.sim.violation import Violation

BLOCK = 25  # seeds a process takes at a time
COLLECT_EVERY = 5  # seeds


@dataclass
class Tally:
    """What a range of seeds came to."""

    seeds: int = 0
    writes: int = 0
    promotions: int = 0
    overrides: int = 0
    steps: int = 0
    simulated_s: float = 0.0
    recovered_s_max: float = 0.0
    outage_s_max: float = 0.0
    rules: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.writes += other.writes
        self.promotions += other.promotions
        self.overrides += other.overrides
        self.steps += other.steps
        self.simulated_s += other.simulated_s
        self.recovered_s_max = max(self.recovered_s_max, other.recovered_s_max)
        self.outage_s_max = max(self.outage_s_max, other.outage_s_max)
        self.rules += other.rules
        self.struck += other.struck
        self.violations += other.violations

    def count(self, pair: Pair) -> None:
        self.writes += len(pair.oracle.acknowledged)
        self.promotions += pair.oracle.promotions
        self.overrides += pair.oracle.overrides
        self.steps += pair.world.steps
        self.simulated_s += pair.world.now
        self.recovered_s_max = max(self.recovered_s_max, pair.recovered_s)
        self.outage_s_max = max(self.outage_s_max, pair.outage_s)
        self.struck.update(pair.world.struck)
        for node in pair.nodes.values():
            self.rules.update(node.rules)


def collect_seldom() -> None:
    """In a process that does nothing else: a schedule is garbage as a whole, so looking for it meanwhile is a waste."""
    gc.disable()
    gc.collect()
    gc.freeze()  # what the imports have made is here to stay


def run_range(first: int, count: int) -> Tally:
    tally = Tally()
    for seed in range(first, first + count):
        if seed % COLLECT_EVERY == 0:
            gc.collect()
        tally.seeds += 1
        try:
            tally.count(run(seed))
        except Violation as violation:
            tally.violations.append(str(violation))
    return tally


def run_all(first: int, seeds: int, jobs: int) -> Tally:
    """Seeds in blocks over `jobs` processes; the first violation is printed with its trace, the others in a line."""
    total = Tally()
    blocks = [(start, min(BLOCK, first + seeds - start)) for start in range(first, first + seeds, BLOCK)]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=collect_seldom) as pool:
        for done in as_completed([pool.submit(run_range, *block) for block in blocks]):
            before = len(total.violations)
            total.add(done.result())
            for violation in total.violations[before:]:
                print(violation if before == 0 else violation.split("\n", 1)[0], flush=True)
                before += 1
    return total


def sweep_all(seed: int, stride: int, jobs: int) -> SweepTally:
    """Each operation of the sweep in a process."""
    total = SweepTally()
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=collect_seldom) as pool:
        swept = [pool.submit(sweep, seed, stride=stride, operations=(operation,)) for operation in OPERATIONS]
        for done in as_completed(swept):
            total.runs += done.result().runs
            total.steps |= done.result().steps
            total.violations += done.result().violations
    return total


def trace_of(seed: int) -> str:
    """A digest of everything that happened: each decision, write, fault and acknowledged write, with its time."""
    try:
        pair = replay(generate(seed), tracing=True)
    except Violation as violation:
        return hashlib.sha256(str(violation).encode()).hexdigest()
    told = [*pair.world.trace, repr(sorted(pair.oracle.acknowledged.items())), str(pair.world.counter)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def print_traces() -> None:
    """For `compiled`, in a process of its own: arguments are the first seed and their number."""
    first, seeds = (int(word) for word in sys.argv[1:])
    for seed in range(first, first + seeds):
        print(trace_of(seed), flush=True)
