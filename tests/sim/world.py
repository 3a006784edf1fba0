"""The simulated world: one clock, one heap of events, a network with faults, and the witness store.

Deterministic: everything random comes from one seeded generator, events at the same time run in the order they were
scheduled. A seed replays exactly.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from mirror_agent.core.model import Record


class Violation(AssertionError):
    """An invariant does not hold; the message says which and where."""


@dataclass
class World:
    """`cut` holds the directed paths that lose everything: ("hb"|"mirror"|"witness", from, to)."""

    seed: int
    now: float = 0.0
    heap: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    counter: int = 0
    cut: dict[tuple[str, str, str], int] = field(default_factory=dict)
    loss: float = 0.0
    witness_trouble: float = 0.0
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def after(self, delay_s: float, work: Callable[[], None]) -> None:
        self.counter += 1
        heapq.heappush(self.heap, (self.now + delay_s, self.counter, work))

    def run_until(self, end_s: float) -> None:
        while self.heap and self.heap[0][0] <= end_s:
            at, _, work = heapq.heappop(self.heap)
            self.now = max(self.now, at)
            work()
        self.now = max(self.now, end_s)

    def up(self, path: str, source: str, target: str) -> bool:
        return self.cut.get((path, source, target), 0) == 0

    def sever(self, paths: list[tuple[str, str, str]], seconds: float) -> None:
        """Cut these paths and heal them later; overlapping cuts add up."""
        for path in paths:
            self.cut[path] = self.cut.get(path, 0) + 1

        def heal() -> None:
            for path in paths:
                self.cut[path] -= 1

        self.after(seconds, heal)

    def delay(self) -> float:
        """One way through the network, seconds: mostly fast, sometimes slow."""
        if self.random.random() < 0.02:
            return self.random.uniform(0.05, 1.0)
        return self.random.uniform(0.0002, 0.003)

    def send(self, path: str, source: str, target: str, deliver: Callable[[], None]) -> None:
        """A message that may be lost: on a cut path at sending or at arrival, or by chance."""
        if not self.up(path, source, target) or self.random.random() < self.loss:
            return

        def arrive() -> None:
            if self.up(path, source, target):
                deliver()

        self.after(self.delay(), arrive)

    def note(self, text: str) -> None:
        self.trace.append(f"{self.now:9.3f} {text}")


class Store:
    """The witness row as the store has it."""

    def __init__(self, world: World, record: Record) -> None:
        self.world = world
        self.record = record
        self.version = 1
        self.history: list[Record] = [record]
        self.on_change: Callable[[float], None] = lambda submitted_at: None

    def swap(self, record: Record, etag: str, submitted_at: float) -> bool:
        """The conditional write, sent at `submitted_at`; true when it landed."""
        if etag != str(self.version):
            return False
        if record.epoch <= self.record.epoch:
            raise Violation(f"the record's epoch does not grow: {self.record} -> {record}")
        self.record = record
        self.version += 1
        self.history.append(record)
        self.world.note(f"STORE {record.epoch} primary={record.primary} in_sync={sorted(record.in_sync)} {record.rule}")
        self.on_change(submitted_at)
        return True
