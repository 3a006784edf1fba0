"""One schedule: the pair, a workload, the faults; then everything heals and the pair must come back and stay.

`run(seed)` draws the schedule of a seed, `replay` runs a given one. Many of them: `python -m tests.sim`.
"""

from __future__ import annotations

from mirror_agent.core.budget import budget
from mirror_agent.core.model import App, Epoch, Link, Mode, Node, Phase, Record, Role, Wish

from tests.sim.engine import Engine
from tests.sim.faults import Pair, arm, impose
from tests.sim.node import TIMING, SimNode
from tests.sim.oracle import Oracle
from tests.sim.schedule import FAULTS_S, Schedule, generate
from tests.sim.store import Store
from tests.sim.violation import Violation
from tests.sim.world import World

# A node that is down is started, and a stopped one is asked to run, this long after the last fault.
BOOT_AFTER_S = 6.0
# An operator looks at a pair that does not serve.
OPERATOR_AFTER_S = 30.0
# From then: restart, promise, takeover, resync, join, each with its own time-outs, and some slack.
LIVENESS_S = 60.0
# The pair must be PRIM and SECOND for this long before a run ends early.
STEADY_S = 8
WRITE_EVERY_S = 0.25
# One seed in so many ends with the loss of the primary's machine, and the time until the other one answers is checked.
EPILOGUE_EVERY = 4
BUDGET = budget(TIMING)
# Mounting and starting the application, which the budget does not count; each has its own limits in `hands`.
START_S = 3.0
NEVER_S = float("inf")
SERVING = (Role.PRIM, Role.ALONE)
OPERATORS_RULES = {"recorded-without-data", "untrusted-refused", "untrusted-defers", "not-in-sync"}


def build(seed: int, *, tracing: bool = False) -> Pair:
    world = World(seed, tracing)
    store = Store(world, Record(Epoch(0), Node(""), frozenset({Node("a")}), "provisioned"))
    engines: dict[str, Engine] = {}
    oracle = Oracle(world, store, engines)
    store.on_change = oracle.on_record
    nodes: dict[str, SimNode] = {}
    for name in ("a", "b"):
        engines[name] = Engine(world, name, oracle)
    engines["a"].peer, engines["b"].peer = engines["b"], engines["a"]
    for name, other in (("a", "b"), ("b", "a")):
        nodes[name] = SimNode(world, name, other, store, oracle, engines[name])
    pair = Pair(world, store, oracle, nodes)
    a, b = nodes["a"], nodes["b"]
    a.peer, b.peer = b, a

    both_since = NEVER_S  # since when the application runs on both nodes

    def look() -> None:
        """Whenever anything changed: could the load balancer find two nodes answering OK? (Time alone adds none.)"""
        nonlocal both_since
        both_run = a.alive and b.alive and a.state.app is App.RUNNING and b.state.app is App.RUNNING
        if not both_run or a.frozen or b.frozen:
            both_since = NEVER_S
            return
        epochs = {"a": a.state.epoch, "b": b.state.epoch}
        if oracle.overridden(epochs):
            both_since = NEVER_S
            return
        both_since = min(both_since, world.now)
        oracle.on_both_run(epochs, both_since)
        if a.probe() and b.probe():
            oracle.on_both_ok(epochs)

    for node in nodes.values():
        node.on_change = look
    return pair


def boot(pair: Pair) -> None:
    for node in pair.nodes.values():
        node.boot()


def workload(pair: Pair) -> None:
    """Unique writes to whichever application runs; acknowledgements are the engine's."""
    number = 0
    draw = pair.world.stream("workload").random

    def write() -> None:
        nonlocal number
        for node in pair.nodes.values():
            running = node.alive and node.state.app in (App.STARTING, App.RUNNING)
            if running and node.engine.mode is Mode.PRIMARY:
                number += 1
                node.engine.write(number)
        pair.world.after(WRITE_EVERY_S * (0.2 + 1.6 * draw()), write)

    write()


def heal(pair: Pair) -> None:
    """No more faults. Nodes come back, an operator makes them run, and decides what only an operator may decide."""
    world = pair.world
    world.note("HEAL")
    world.loss = world.crawl = world.twice = 0.0
    world.cut.clear()
    pair.armed.clear()
    pair.store.linger_next.clear()
    pair.store.trouble = pair.store.linger = pair.store.busy_until = 0.0
    for node in pair.nodes.values():
        node.app_fails = node.call_fails = 0.0
        node.disk_full_until = node.disk_slow_until = node.stuck_until = 0.0
        node.set_clock(rate=1.0 + (node.clock_rate - 1.0) * 0.005)

    def up() -> None:
        for node in pair.nodes.values():
            node.set_failover(True)
            if not node.alive:
                node.boot()
            node.wish(Wish.RUN)

    def operator() -> None:
        """Two disasters at once leave decisions that no rule may take; the rules say so, and the operator forces."""
        rules = {name: node.decision.rule for name, node in pair.nodes.items() if node.decision is not None}
        stuck = all(node.state.role is Role.WAIT for node in pair.nodes.values())
        if not (stuck and pair.disaster and set(rules.values()) <= OPERATORS_RULES):
            return
        chosen = max(pair.nodes.values(), key=lambda node: (node.state.durable.complete, len(node.engine.data)))
        chosen.order("force", "force-at-the-end")

    world.after(BOOT_AFTER_S, up)
    world.after(OPERATOR_AFTER_S, operator)


def replay(schedule: Schedule, *, tracing: bool = False) -> Pair:
    """Run a schedule; raises `Violation` when an invariant does not hold, with the trace if `tracing`."""
    pair = build(schedule.seed, tracing=tracing)
    pair.disaster = any(fault.kind in ("disk-replaced", "force") for fault in schedule.faults)
    try:
        impose(pair, schedule.conditions)
        boot(pair)
        workload(pair)
        arm(pair, schedule)
        pair.world.run_until(FAULTS_S)
        heal(pair)
        recover(pair)
        if schedule.seed % EPILOGUE_EVERY == 0:
            lose_the_primary(pair)
    except AssertionError as error:
        where = f"seed {schedule.seed} at {pair.world.now:.3f}: {error}"
        raise Violation("\n".join([where, *pair.world.trace])) from error
    return pair


def run(seed: int) -> Pair:
    """The schedule of a seed; a violation is run a second time for its trace."""
    schedule = generate(seed)
    try:
        return replay(schedule)
    except Violation:
        return replay(schedule, tracing=True)


def recover(pair: Pair) -> None:
    """Once the faults have stopped the pair reaches PRIM and SECOND in bounded time, and stays there."""
    began = pair.world.now
    pair.world.run_until(began + BOOT_AFTER_S + 1.0)
    steady_s = steady_within(pair, LIVENESS_S, STEADY_S)
    pair.recovered_s = max(0.0, pair.world.now - began - BOOT_AFTER_S - steady_s)
    reason = unsettled(pair)
    if reason:
        raise Violation(f"liveness: {reason}")
    serving = next(name for name, node in pair.nodes.items() if node.state.role is Role.PRIM)
    pair.oracle.at_end(serving)


def steady_within(pair: Pair, seconds: float, for_s: int) -> int:
    """Run until the pair has been as it should be for `for_s` seconds, at most `seconds`; how long it has been so."""
    steady = 0

    def is_steady() -> bool:
        nonlocal steady
        steady = steady + 1 if not unsettled(pair) else 0
        return steady >= for_s

    pair.world.run_until(pair.world.now + seconds, is_steady)
    return steady


def lose_the_primary(pair: Pair) -> None:
    """A settled pair loses its primary: the other node answers the probe within the time the budget promises."""
    lost = next(node for node in pair.nodes.values() if node.state.role is Role.PRIM)
    heir = pair.other(lost.name)
    # What the primary has given up must not land after its death: nobody may take over then (docs/safety.md).
    pair.world.run_until(max(pair.world.now, pair.store.last_arrival_s))
    if heir.name not in pair.store.record.in_sync:
        # One has landed just now. The primary reads the record every few seconds.
        steady_within(pair, LIVENESS_S, STEADY_S)
    began = pair.world.now
    lost.crash(machine=True)
    bound_s = BUDGET.worst_s - TIMING.probe_interval_s * TIMING.probe_threshold + START_S
    pair.world.run_until(began + bound_s, heir.probe)
    pair.outage_s = pair.world.now - began
    if not heir.probe():
        raise Violation(f"liveness: {heir.name} has not taken over after {bound_s:.1f} s: {heir.settled()}")
    pair.oracle.at_end(heir.name)


def unsettled(pair: Pair) -> str:
    """Why the pair is not as it should be; empty when it is."""
    nodes = pair.nodes.values()
    roles = sorted((node.state.role, node.phase) for node in nodes)
    if roles != [(Role.PRIM, Phase.READY), (Role.SECOND, Phase.READY)] or not all(node.alive for node in nodes):
        return f"the pair ends as { {node.name: node.settled() for node in nodes} }"
    if any(node.state.mirror.link is not Link.LIVE for node in nodes):
        return "the stream is not live"
    if any(node.state.order is not None for node in nodes):
        return f"an order never ends: {[node.state.order for node in nodes]}"
    return ""
