"""The simulated world: one clock, one heap of events, and a network with faults.

Deterministic: everything random comes from seeded generators, events at the same time run in the order they were
scheduled. A seed replays exactly. Each part of the world draws from a stream of its own, so that leaving a fault out
of a schedule (`minimise`) disturbs the rest as little as possible.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.sim.agenda import Agenda

Path = tuple[str, str, str]  # ("hb"|"mirror"|"witness", from, to)


@dataclass
class World:
    """`cut` holds the directed paths that lose everything. The other faults of the network are probabilities."""

    seed: int
    tracing: bool = False
    now: float = 0.0
    agenda: Agenda = field(default_factory=Agenda)
    steps: int = 0
    cut: dict[Path, int] = field(default_factory=dict)
    loss: float = 0.0
    slow: float = 0.02  # part of the messages that take up to a second
    crawl: float = 0.0  # part of the messages that take up to CRAWL_S, so that later ones overtake them
    twice: float = 0.0  # part of the heartbeats that arrive a second time, later
    trace: list[str] = field(default_factory=list)
    # How often each kind of fault has struck.
    struck: dict[str, int] = field(default_factory=dict)
    # Called after every step of a node and every change of the record, with the number of the step.
    on_step: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.draw = self.random.random

    @property
    def counter(self) -> int:
        """How much has been put in so far: a number that no two moments share."""
        return self.agenda.number

    def stream(self, name: str) -> random.Random:
        """A generator of its own for one part of the world."""
        return random.Random(f"{self.seed}/{name}")

    def after(self, delay_s: float, work: Callable[[], None]) -> None:
        self.agenda.put(self.now + delay_s, work)

    def run_until(self, end_s: float, done: Callable[[], bool] = lambda: False) -> None:
        """Until the time has come, or `done` says so; it is asked once a second."""
        agenda = self.agenda
        ask_at = self.now + 1.0
        while agenda.due(end_s):
            self.now, work = agenda.take()
            work()
            if self.now >= ask_at:
                ask_at += 1.0
                if done():
                    return
        self.now = max(self.now, end_s)

    def stepped(self) -> None:
        """Something that another order of events could separate from the next thing has happened."""
        self.steps += 1
        if self.on_step is not None:
            self.on_step(self.steps)

    def up(self, path: str, source: str, target: str) -> bool:
        return not self.cut or self.cut.get((path, source, target), 0) == 0

    def sever(self, paths: list[Path], seconds: float) -> None:
        """Cut these paths and heal them later; overlapping cuts add up."""
        for path in paths:
            self.cut[path] = self.cut.get(path, 0) + 1

        def heal() -> None:
            for path in paths:
                left = self.cut.pop(path, 0) - 1
                if left > 0:
                    self.cut[path] = left

        self.after(seconds, heal)

    def delay(self) -> float:
        """One way through the network, seconds: mostly fast, sometimes slow."""
        drawn = self.draw()
        if drawn < self.crawl:
            return CRAWL_S * self.draw()
        if drawn < self.slow + self.crawl:
            return 0.05 + 0.95 * self.draw()
        return 0.0002 + 0.0028 * drawn

    def send(self, path: str, source: str, target: str, deliver: Callable[[], None]) -> None:
        """A message that may be lost: on a cut path at sending or at arrival, or by chance; or arrive twice."""
        if not self.up(path, source, target) or (self.loss and self.draw() < self.loss):
            return
        arrive = partial(self._arrive, (path, source, target), deliver)
        self.after(self.delay(), arrive)
        if self.twice and path == "hb" and self.draw() < self.twice:
            self.after(self.delay() + CRAWL_S * self.draw(), arrive)

    def _arrive(self, way: Path, deliver: Callable[[], None]) -> None:
        if not self.cut or self.cut.get(way, 0) == 0:
            deliver()

    def count(self, fault: str) -> None:
        self.struck[fault] = self.struck.get(fault, 0) + 1

    def note(self, text: str) -> None:
        if self.tracing:
            self.trace.append(f"{self.now:9.3f} {text}")


CRAWL_S = 4.0
