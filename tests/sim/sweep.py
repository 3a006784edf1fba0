"""Between any two steps: each planned operation, struck after its 1st, 2nd, 3rd ... step, until there are no more.

A step is one decision of a node, or one change of the record. The operation runs once undisturbed to count its steps;
then it runs again for each of them, and exactly there one node, the other, or both crash, lose power, freeze or are cut
off. Afterwards the pair must be PRIM and SECOND again, with every acknowledged write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mirror_agent.core.model import Role, Wish

from tests.sim.faults import Pair
from tests.sim.node import SimNode
from tests.sim.run import boot, build, steady_within, unsettled, workload
from tests.sim.violation import Violation

SETTLE_S = 30.0
BACK_S = 2.0  # a struck node is back after this time, a struck machine after twice as long
STRUCK_S = 6.0  # a freeze or a cut: longer than a promise
RUN_AFTER_S = 9.0
LIVENESS_S = 60.0
STEADY_S = 3


def primary(pair: Pair) -> SimNode:
    return next(node for node in pair.nodes.values() if node.state.role is Role.PRIM)


def _second(pair: Pair) -> SimNode:
    return pair.other(primary(pair).name)


def _again(pair: Pair, node: SimNode, *, machine: bool, seconds: float) -> None:
    node.crash(machine=machine)
    pair.world.after(seconds, lambda: None if node.alive else node.boot())


def _restart_of_both(pair: Pair) -> None:
    for number, node in enumerate(pair.nodes.values()):
        _again(pair, node, machine=False, seconds=1.0 + number)


def _power_cut_of_both(pair: Pair) -> None:
    for number, node in enumerate(pair.nodes.values()):
        _again(pair, node, machine=True, seconds=2.0 + number)


def _cut(pair: Pair) -> None:
    pair.world.sever([(path, x, y) for path in ("hb", "mirror") for x, y in ("ab", "ba")], 4.0)


OPERATIONS: dict[str, Callable[[Pair], None]] = {
    "first-start": boot,
    "swap": lambda pair: primary(pair).order("swap", "sweep"),
    "stop-the-primary": lambda pair: primary(pair).wish(Wish.STOP),
    "stop-the-second": lambda pair: _second(pair).wish(Wish.STOP),
    "leave": lambda pair: primary(pair).leave(machine=False),
    "rejoin": lambda pair: _again(pair, _second(pair), machine=False, seconds=2.5),
    "takeover": lambda pair: _again(pair, primary(pair), machine=True, seconds=6.0),
    "link-cut": _cut,
    "restart-of-both": _restart_of_both,
    "power-cut-of-both": _power_cut_of_both,
}
VICTIMS = ("a", "b", "ab")
STRIKES = ("agent-crash", "machine-crash", "freeze", "isolated")


@dataclass(frozen=True)
class Blow:
    operation: str
    step: int
    victims: str
    strike: str

    def __str__(self) -> str:
        return f"{self.operation}, after step {self.step}: {self.strike} of {' and '.join(self.victims)}"


@dataclass
class SweepTally:
    runs: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


def begin(operation: str, seed: int, *, tracing: bool = False) -> Pair:
    """A settled pair (or one that has never run) at the moment the operation begins."""
    pair = build(seed, tracing=tracing)
    workload(pair)
    if operation != "first-start":
        boot(pair)
        steady_within(pair, SETTLE_S, STEADY_S)
    return pair


def steps_of(operation: str, seed: int) -> int:
    """How many steps the operation takes until the pair has come to rest, undisturbed."""
    pair = begin(operation, seed)
    before = pair.world.steps
    OPERATIONS[operation](pair)
    pair.world.run_until(pair.world.now + RUN_AFTER_S)
    return pair.world.steps - before


def strike(pair: Pair, blow: Blow) -> None:
    world = pair.world
    for name in blow.victims:
        node = pair.nodes[name]
        match blow.strike:
            case "agent-crash":
                _again(pair, node, machine=False, seconds=BACK_S)
            case "machine-crash":
                _again(pair, node, machine=True, seconds=2 * BACK_S)
            case "freeze":
                node.freeze(STRUCK_S)
            case "isolated":
                other = pair.other(name).name
                ways = [(path, *way) for path in ("hb", "mirror") for way in ((name, other), (other, name))]
                world.sever([*ways, ("witness", name, "store"), ("witness", "store", name)], STRUCK_S)


def run_blow(blow: Blow, seed: int, *, tracing: bool = False) -> Pair:
    """Raises `Violation`."""
    pair = begin(blow.operation, seed, tracing=tracing)
    world = pair.world
    at_step = world.steps + blow.step

    def struck() -> None:
        world.note(f"BLOW {blow}")
        strike(pair, blow)

    world.on_step = lambda number: world.after(0.0, struck) if number == at_step else None
    try:
        began = world.now
        OPERATIONS[blow.operation](pair)

        def run_again() -> None:
            for node in pair.nodes.values():
                if not node.alive:
                    node.boot()
                node.wish(Wish.RUN)

        world.after(RUN_AFTER_S, run_again)
        world.run_until(began + RUN_AFTER_S)
        steady_within(pair, LIVENESS_S, STEADY_S)
        reason = unsettled(pair)
        if reason:
            raise Violation(f"liveness: {reason}")
        pair.oracle.at_end(primary(pair).name)
    except AssertionError as error:
        raise Violation("\n".join([f"{blow}, seed {seed}: {error}", *world.trace])) from error
    return pair


def blows(seed: int, *, stride: int = 1, operations: tuple[str, ...] = tuple(OPERATIONS)) -> Iterator[Blow]:
    """Every blow, or every `stride`-th one."""
    number = 0
    for operation in operations:
        for step in range(1, steps_of(operation, seed) + 1):
            for victims in VICTIMS:
                for kind in STRIKES:
                    number += 1
                    if number % stride == 0:
                        yield Blow(operation, step, victims, kind)


def sweep(seed: int, *, stride: int = 1, operations: tuple[str, ...] = tuple(OPERATIONS)) -> SweepTally:
    tally = SweepTally()
    for blow in blows(seed, stride=stride, operations=operations):
        tally.runs += 1
        tally.steps[blow.operation] = max(blow.step, tally.steps.get(blow.operation, 0))
        try:
            run_blow(blow, seed)
        except Violation as violation:
            tally.violations.append(str(violation))
    return tally
