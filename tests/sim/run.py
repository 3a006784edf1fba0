"""One seed: a random schedule of faults over the simulated pair, then everything heals and must come back.

`python -m tests.sim.run --seeds N [--first S] [--jobs J]` runs seeds and prints the first failing one with its trace.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from mirror_agent.core.events import MirrorReported
from mirror_agent.core.model import App, Epoch, Link, Mirror, Node, Phase, Record, Role, Wish
from mirror_agent.core.reduce import apply
from mirror_agent.core.rules import RULES

from tests.sim.engine import Engine
from tests.sim.node import SimNode
from tests.sim.oracle import Oracle
from tests.sim.world import Store, Violation, World

FAULTS_S = 60.0
# After the last fault: restart, promise, takeover, resync, join, each with its own time-outs, and some slack.
LIVENESS_S = 60.0
WRITE_EVERY_S = 0.25
BLOCK = 50  # seeds a process takes at a time


@dataclass
class Pair:
    world: World
    store: Store
    oracle: Oracle
    nodes: dict[str, SimNode]

    @property
    def engines(self) -> dict[str, Engine]:
        return {name: node.engine for name, node in self.nodes.items()}


def build(seed: int) -> Pair:
    world = World(seed)
    store = Store(world, Record(Epoch(0), Node(""), frozenset({Node("a")}), "provisioned"))
    engines: dict[str, Engine] = {}
    oracle = Oracle(world, store, engines)
    store.on_change = oracle.on_record
    nodes: dict[str, SimNode] = {}
    for name in ("a", "b"):
        engines[name] = Engine(world, name, oracle, lambda mirror, name=name: report(nodes, name, mirror))  # type: ignore[misc]
    engines["a"].peer, engines["b"].peer = engines["b"], engines["a"]
    for name, other in (("a", "b"), ("b", "a")):
        nodes[name] = SimNode(world, name, other, store, oracle, engines[name])
    nodes["a"].peer, nodes["b"].peer = nodes["b"], nodes["a"]
    return Pair(world, store, oracle, nodes)


def report(nodes: dict[str, SimNode], name: str, mirror: Mirror) -> None:
    node = nodes.get(name)
    if node is not None and node.alive:
        node.state = apply(node.state, MirrorReported(mirror), node.clock)


def workload(pair: Pair) -> None:
    """Unique writes to whichever application runs; acknowledgements are the engine's."""
    number = 0

    def write() -> None:
        nonlocal number
        for node in pair.nodes.values():
            if node.alive and not node.frozen and node.mounted and node.state.app in (App.STARTING, App.RUNNING):
                number += 1
                node.engine.write(number)
        pair.world.after(WRITE_EVERY_S * pair.world.random.uniform(0.2, 1.8), write)

    write()


def probes(pair: Pair) -> None:
    def look() -> None:
        pair.oracle.on_probe({name: node.probe() for name, node in pair.nodes.items()})
        pair.world.after(0.05, look)

    look()


def faults(pair: Pair, end_s: float) -> None:
    world, nodes = pair.world, pair.nodes
    draw = world.random
    world.loss = draw.choice((0.0, 0.0, 0.02, 0.1))
    world.witness_trouble = draw.choice((0.0, 0.0, 0.1, 0.4))
    for node in nodes.values():
        node.app_fails = draw.choice((0.0, 0.0, 0.0, 0.1))
    intensity = draw.choice((3.0, 6.0, 12.0))
    machines = draw.random() < 0.5

    def strike() -> None:
        if world.now >= end_s:
            return
        node = nodes[draw.choice("ab")]
        other = nodes["b" if node.name == "a" else "a"]
        seconds = draw.choice((0.3, 1.0, 3.0, 6.0, 12.0)) * draw.uniform(0.5, 1.5)
        kind = draw.randrange(12)
        a, b = node.name, other.name
        both = [(p, x, y) for p in ("hb", "mirror") for x, y in ((a, b), (b, a))]
        match kind:
            case 0:
                world.note(f"FAULT partition {seconds:.1f} s")
                world.sever(both, seconds)
            case 1:
                world.note(f"FAULT one-way {a}->{b} {seconds:.1f} s")
                world.sever([("hb", a, b), ("mirror", a, b)], seconds)
            case 2:
                path = draw.choice(("hb", "mirror"))
                world.note(f"FAULT {path} cut {seconds:.1f} s")
                world.sever([(path, a, b), (path, b, a)], seconds)
            case 3:
                world.note(f"FAULT witness cut from {a} {seconds:.1f} s")
                world.sever([("witness", a, "store"), ("witness", "store", a)], seconds)
            case 4:
                world.note(f"FAULT answers of the witness lost for {a} {seconds:.1f} s")
                world.sever([("witness", "store", a)], seconds)
            case 5:
                world.note(f"FAULT {a} isolated {seconds:.1f} s")
                world.sever([*both, ("witness", a, "store"), ("witness", "store", a)], seconds)
            case 6 | 7:
                machine = machines and draw.random() < 0.5
                node.crash(machine=machine)
                life = node.life
                back = draw.uniform(3.0, 15.0) if machine else draw.uniform(0.2, 5.0)
                world.after(back, lambda: node.boot() if node.life == life and not node.alive else None)
            case 8:
                node.freeze(seconds)
            case 9:
                node.app_crash()
            case 10:
                node.order(draw.choice(("swap", "swap", "restart")), f"o{world.counter}")
            case 11:
                node.wish(Wish.STOP)
                world.after(seconds, lambda: node.wish(Wish.RUN))
        world.after(draw.expovariate(1.0) * intensity, strike)

    world.after(draw.uniform(0.0, 20.0), strike)


def heal(pair: Pair) -> None:
    world = pair.world
    world.note("HEAL")
    world.loss = world.witness_trouble = 0.0
    for node in pair.nodes.values():
        node.app_fails = 0.0

    def up() -> None:
        for node in pair.nodes.values():
            if not node.alive:
                node.boot()
            node.wish(Wish.RUN)

    world.after(20.0, up)


def run(seed: int) -> Pair:
    """Raises `Violation` with the seed when an invariant does not hold."""
    pair = build(seed)
    workload(pair)
    probes(pair)
    faults(pair, FAULTS_S)
    try:
        pair.world.run_until(FAULTS_S)
        heal(pair)
        pair.world.run_until(FAULTS_S + 20.0 + LIVENESS_S)
        judge_end(pair)
    except AssertionError as error:
        raise Violation(f"seed {seed} at {pair.world.now:.3f}: {error}\n" + "\n".join(pair.world.trace)) from error
    return pair


def judge_end(pair: Pair) -> None:
    settled = {name: node.settled() for name, node in pair.nodes.items()}
    roles = sorted((node.state.role, node.phase) for node in pair.nodes.values())
    if roles != [(Role.PRIM, Phase.READY), (Role.SECOND, Phase.READY)]:
        raise Violation(f"liveness: the pair ends as {settled}")
    serving = next(name for name, node in pair.nodes.items() if node.state.role is Role.PRIM)
    if pair.nodes[serving].state.mirror.link is not Link.LIVE:
        raise Violation(f"liveness: the link is not live: {settled}")
    pair.oracle.at_end(serving)


@dataclass
class Tally:
    """What a range of seeds came to."""

    seeds: int = 0
    writes: int = 0
    promotions: int = 0
    rules: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.writes += other.writes
        self.promotions += other.promotions
        self.rules |= other.rules
        self.violations += other.violations


def run_range(first: int, count: int) -> Tally:
    tally = Tally()
    for seed in range(first, first + count):
        tally.seeds += 1
        try:
            pair = run(seed)
        except Violation as violation:
            tally.violations.append(str(violation))
            continue
        tally.writes += len(pair.oracle.acknowledged)
        tally.promotions += pair.oracle.promotions
        for node in pair.nodes.values():
            tally.rules |= node.rules
    return tally


def run_all(first: int, seeds: int, jobs: int) -> Tally:
    """Seeds in blocks over `jobs` processes; the outcome does not depend on how they are spread."""
    total = Tally()
    blocks = [(start, min(BLOCK, first + seeds - start)) for start in range(first, first + seeds, BLOCK)]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run_range, *block) for block in blocks]):
            before = len(total.violations)
            total.add(done.result())
            for violation in total.violations[before:]:
                print(violation if before == 0 else violation.split("\n", 1)[0], flush=True)
                before += 1
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    began = time.perf_counter()
    total = run_all(options.first, options.seeds, options.jobs)
    seconds = time.perf_counter() - began
    summary = {
        "seeds": total.seeds,
        "first": options.first,
        "violations": len(total.violations),
        "schedules_per_s": round(total.seeds / seconds, 2),
        "processes": options.jobs,
        "simulated_s_per_schedule": FAULTS_S + 20.0 + LIVENESS_S,
        "acknowledged_writes": total.writes,
        "promotions": total.promotions,
        "rules_seen": sorted(total.rules),
        "rules_never_seen": sorted(set(RULES) - total.rules),
    }
    print(json.dumps({key: value for key, value in summary.items() if not key.startswith("rules_s")}))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return 1 if total.violations else 0


if __name__ == "__main__":
    sys.exit(main())
