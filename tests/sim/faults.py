"""What each kind of fault does to the simulated pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from mirror_agent.core.model import Wish

from tests.sim.node import SimNode
from tests.sim.oracle import Oracle
from tests.sim.schedule import Conditions, Fault, Schedule
from tests.sim.store import Store
from tests.sim.world import Path, World

ARMED_S = 15.0  # a fault that waits for a rule strikes within this time or not at all
FLAPS = 5  # failures in a row: more than the restart budget allows


@dataclass
class Pair:
    world: World
    store: Store
    oracle: Oracle
    nodes: dict[str, SimNode]
    # The schedule takes data away or overrides the rules: afterwards an operator may have to decide.
    disaster: bool = False
    recovered_s: float = 0.0
    outage_s: float = 0.0
    armed: list[Fault] = field(default_factory=list)

    def other(self, name: str) -> SimNode:
        return self.nodes["b" if name == "a" else "a"]


def _both_ways(path: str, a: str, b: str) -> list[Path]:
    return [(path, a, b), (path, b, a)]


def _witness(name: str) -> list[Path]:
    return _both_ways("witness", name, "store")


def _sever(pair: Pair, fault: Fault) -> None:
    a, b = fault.node, pair.other(fault.node).name
    paths: dict[str, list[Path]] = {
        "partition": [*_both_ways("hb", a, b), *_both_ways("mirror", a, b)],
        "one-way": [("hb", a, b), ("mirror", a, b)],
        "heartbeats-cut": _both_ways("hb", a, b),
        "stream-cut": _both_ways("mirror", a, b),
        "witness-cut": _witness(a),
        "witness-answers-lost": [("witness", "store", a)],
        "isolated": [*_both_ways("hb", a, b), *_both_ways("mirror", a, b), *_witness(a)],
    }
    pair.world.sever(paths[fault.kind], fault.seconds)


def _witness_busy(pair: Pair, fault: Fault) -> None:
    pair.store.busy_until = max(pair.store.busy_until, pair.world.now + fault.seconds)


def _writes_linger(pair: Pair, fault: Fault) -> None:
    """The next conditional write of any node stays in the network for this long; its answer is not waited for."""
    pair.store.linger_next.append(fault.seconds)
    pair.world.after(ARMED_S, pair.store.linger_next.clear)


def _network_crawls(pair: Pair, fault: Fault) -> None:
    world = pair.world
    world.crawl += 0.3
    world.after(fault.seconds, lambda: setattr(world, "crawl", max(0.0, world.crawl - 0.3)))


def _back_later(pair: Pair, node: SimNode, seconds: float, *, empty: bool = False) -> None:
    """The node boots again after a while, unless something else started it meanwhile."""
    life = node.life

    def boot() -> None:
        if node.life == life and not node.alive:
            if empty:
                node.replace_disk()
            node.boot()

    pair.world.after(seconds, boot)


def _crash(pair: Pair, fault: Fault) -> None:
    machine = "machine" in fault.kind
    both = fault.kind.startswith("both")
    struck = [pair.nodes[fault.node], pair.other(fault.node)] if both else [pair.nodes[fault.node]]
    for number, node in enumerate(struck):
        node.crash(machine=machine)
        _back_later(pair, node, fault.seconds * (1.0 if number == 0 else 0.6) + (3.0 if machine else 0.2))


def _leave(pair: Pair, fault: Fault) -> None:
    node = pair.nodes[fault.node]
    life = node.life
    node.leave(machine=fault.kind == "reboot")

    def back() -> None:
        if node.life == life:
            if node.alive:
                pair.world.after(1.0, back)
            else:
                node.boot()

    pair.world.after(2.0 + fault.seconds, back)


def _disk_replaced(pair: Pair, fault: Fault) -> None:
    node = pair.nodes[fault.node]
    node.crash(machine=True)
    _back_later(pair, node, fault.seconds + 3.0, empty=True)


def _freeze(pair: Pair, fault: Fault) -> None:
    agent, engine = fault.kind != "engine-freeze", fault.kind != "agent-freeze"
    pair.nodes[fault.node].freeze(fault.seconds, agent=agent, engine=engine)


def _until(name: str) -> Callable[[Pair, Fault], None]:
    def strike(pair: Pair, fault: Fault) -> None:
        node = pair.nodes[fault.node]
        setattr(node, name, max(getattr(node, name), pair.world.now + fault.seconds))

    return strike


def _flaps(pair: Pair, fault: Fault) -> None:
    node = pair.nodes[fault.node]
    for number in range(FLAPS):
        pair.world.after(number * 3.5, node.app_crash)


def _order(pair: Pair, fault: Fault) -> None:
    pair.nodes[fault.node].order(fault.kind, f"{fault.kind}-{pair.world.counter}")


def _stop(pair: Pair, fault: Fault) -> None:
    node = pair.nodes[fault.node]
    node.wish(Wish.STOP)
    pair.world.after(fault.seconds, lambda: node.wish(Wish.RUN))


def _failover_off(pair: Pair, fault: Fault) -> None:
    def switch(on: bool) -> None:
        for node in pair.nodes.values():
            node.set_failover(on)

    switch(False)
    pair.world.after(fault.seconds, lambda: switch(True))


def _clock_jump(pair: Pair, fault: Fault) -> None:
    node = pair.nodes[fault.node]
    node.set_clock(rate=node.clock_rate, jump_s=fault.seconds * (1.0 if pair.world.draw() < 0.7 else -0.5))


KINDS: dict[str, Callable[[Pair, Fault], None]] = {
    **dict.fromkeys(
        ("partition", "one-way", "heartbeats-cut", "stream-cut", "witness-cut", "witness-answers-lost", "isolated"),
        _sever,
    ),
    "witness-busy": _witness_busy,
    "network-crawls": _network_crawls,
    **dict.fromkeys(("agent-crash", "machine-crash", "both-agents-crash", "both-machines-crash"), _crash),
    **dict.fromkeys(("leave", "reboot"), _leave),
    "disk-replaced": _disk_replaced,
    **dict.fromkeys(("freeze", "agent-freeze", "engine-freeze"), _freeze),
    "engine-crash": lambda pair, fault: pair.nodes[fault.node].engine.crash(),
    "engine-stuck": _until("stuck_until"),
    "writes-linger": _writes_linger,
    "disk-full": _until("disk_full_until"),
    "disk-slow": _until("disk_slow_until"),
    "application-crash": lambda pair, fault: pair.nodes[fault.node].app_crash(),
    "application-flaps": _flaps,
    **dict.fromkeys(("swap", "restart", "force"), _order),
    "stop": _stop,
    "failover-off": _failover_off,
    "clock-jump": _clock_jump,
}


def impose(pair: Pair, conditions: Conditions) -> None:
    """What the whole schedule goes through."""
    pair.world.loss, pair.world.twice, pair.world.crawl = conditions.loss, conditions.twice, conditions.crawl
    pair.store.trouble, pair.store.linger = conditions.witness_trouble, conditions.linger
    pair.oracle.clocks_are_sane = not conditions.wild_clocks
    for name, holds in (
        ("schedule: messages are lost", conditions.loss > 0),
        ("schedule: messages arrive twice", conditions.twice > 0),
        ("schedule: messages overtake each other", conditions.crawl > 0),
        ("schedule: engine calls fail or lose their answer", conditions.call_fails > 0),
        ("schedule: starts of the application fail", any(part > 0 for part in conditions.app_fails.values())),
        ("schedule: clocks drift", any(rate != 1.0 for rate in conditions.rates.values())),
        ("schedule: clocks run wild", conditions.wild_clocks),
    ):
        if holds:
            pair.world.count(name)
    for name, node in pair.nodes.items():
        node.app_fails, node.call_fails = conditions.app_fails[name], conditions.call_fails
        node.set_clock(rate=conditions.rates[name])


def arm(pair: Pair, schedule: Schedule) -> None:
    """Put every fault of the schedule in its place."""
    waiting = pair.armed

    def strike(fault: Fault) -> None:
        pair.world.count(fault.kind)
        pair.world.note(f"FAULT {fault.kind} {fault.node} {fault.seconds:g} s")
        KINDS[fault.kind](pair, fault)

    def due(fault: Fault) -> None:
        if fault.when:
            waiting.append(fault)
            pair.world.after(ARMED_S, lambda: waiting.remove(fault) if fault in waiting else None)
        else:
            strike(fault)

    def on_rule(node: SimNode, rule: str) -> None:
        if not waiting:
            return
        for fault in [fault for fault in waiting if fault.when == rule and fault.by in ("", node.name)]:
            waiting.remove(fault)
            pair.world.after(pair.world.draw() ** 4 * 0.3, partial(strike, fault))

    for node in pair.nodes.values():
        node.on_rule = on_rule
    for fault in schedule.faults:
        pair.world.after(fault.at_s, partial(due, fault))
