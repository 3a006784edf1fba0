"""States of one node drawn at random, the same ones in every run: any fact next to any other.

A state is drawn either with every fact free, or around one of the situations of the golden files with a few facts
changed, because some rules need a dozen facts to be right at once. Only what the node's own code excludes is left
out: serving without a record, a `required` peer on a stream that is not live.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import TypeVar

from mirror_agent.core.model import (
    NEVER,
    NOBODY,
    SERVING,
    Acknowledging,
    App,
    Durable,
    Epoch,
    Instant,
    Link,
    Mirror,
    Mode,
    Node,
    Order,
    Peer,
    Phase,
    Proposal,
    Record,
    Role,
    State,
    Timing,
    Unresolved,
    Wish,
    Witness,
)

from tests.golden.situation import NOW, files, state_of

T = TypeVar("T")
A, B = Node("a"), Node("b")
INSTANTS = (NEVER, *(Instant(NOW - age) for age in (0.0, 0.3, 1.9, 2.1, 4.4, 4.6, 60.0)))
DEADLINES = (NEVER, Instant(NOW - 1), Instant(NOW + 1), Instant(NOW + 4))
KINDS = ("BecomePrimary", "BecomeReplica", "RequirePeer", "Drain", "Seal", "StopApplication", "WriteWitness")
FREE = 0.5  # part of the states in which every fact is free


class Draw:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def of(self, values: Sequence[T]) -> T:
        return self.random.choice(values)

    def yes(self, probability: float = 0.5) -> bool:
        return self.random.random() < probability

    def epoch(self) -> Epoch:
        return Epoch(self.random.randrange(5))

    def members(self) -> frozenset[Node]:
        return self.of((frozenset({A}), frozenset({B}), frozenset({A, B})))

    def record(self) -> Record:
        members, epoch = self.members(), self.epoch()
        primary = self.of(sorted(members)) if epoch > 0 else NOBODY
        return Record(epoch, primary, members, self.of(("disk-a.1", "disk-b.1")))

    def unresolved(self, record: Record | None) -> Unresolved | None:
        if record is None or self.yes(0.7):
            return None
        members = self.members()
        return Unresolved(Proposal(Epoch(record.epoch + 1), self.of(sorted(members)), members, "x"), "disk-a.2", "7")

    def order(self) -> Order | None:
        return self.of((None, None, Order(self.of(("swap", "restart", "force")), "o1", "op", "why")))

    def failures(self) -> tuple[tuple[str, Instant, str], ...]:
        return ((self.of(KINDS), Instant(NOW - 0.1), "it failed"),) if self.yes(0.3) else ()

    def witness(self) -> Witness:
        record = None if self.yes(0.15) else self.record()
        failure = self.of(("", "timeout"))
        known_at, learnt_at, failed_at = (self.of(INSTANTS) for _ in range(3))
        return Witness(record, "7", known_at, learnt_at, self.unresolved(record), failure, failed_at)

    def mirror(self) -> Mirror:
        mirror = Mirror(
            self.of(list(Mode)),
            self.epoch(),
            self.of(list(Link)),
            self.of(list(Acknowledging)),
            self.of(INSTANTS),
            self.epoch(),
            self.yes(),
        )
        may = mirror.acknowledging is Acknowledging.PAIRED and mirror.link is Link.LIVE
        return replace(mirror, required=may and self.yes())

    def peer(self) -> Peer:
        told = self.record()
        return Peer(
            self.of(INSTANTS),
            self.of(INSTANTS),
            self.of(INSTANTS),
            self.of(list(Role)),
            self.of(list(Phase)),
            self.epoch(),
            self.yes(),
            self.yes(),
            self.epoch(),
            self.epoch(),
            told.epoch,
            told.primary,
            told.in_sync,
        )

    def durable(self) -> Durable:
        wish = self.of(list(Wish))
        return Durable(self.epoch(), self.yes(), self.epoch(), "disk-a", wish, trusted=self.yes())

    def loose(self) -> dict[str, object]:
        """The facts that belong to no part."""
        return {
            "epoch": self.epoch(),
            "started_at": self.of(INSTANTS[1:]),
            "role_since": self.of(INSTANTS),
            "app": self.of(list(App)),
            "failover": self.yes(),
            "order": self.order(),
            "order_since": self.of(INSTANTS),
            "held_until": self.of(DEADLINES),
            "granted_until": self.of(DEADLINES),
            "restarts": self.of(((), (NOW,) * 3, (NOW,) * 4)),
            "won": self.of(("", "disk-a.1")),
            "woke_at": self.of(INSTANTS),
            "drained_since": self.of(INSTANTS),
            "doing": self.of((frozenset[str](), frozenset({"witness"}), frozenset({"mirror"}))),
            "failures": self.failures(),
        }

    def free(self) -> State:
        state = State(A, B, Timing(), NOW).with_(
            role=self.of(list(Role)),
            witness=self.witness(),
            mirror=self.mirror(),
            peer=self.peer(),
            durable=self.durable(),
            **self.loose(),
        )
        if state.role in SERVING and state.record is None:
            return state.with_(role=Role.WAIT)
        return state.with_(epoch=state.record.epoch) if state.role in SERVING and state.record is not None else state

    def around(self, base: State) -> State:
        """A situation with up to two loose facts, and perhaps one field of each part, changed."""
        loose = self.loose()
        for fact in self.random.sample(sorted(loose), 13):
            del loose[fact]
        changes: dict[str, object] = dict(loose)
        parts: dict[str, Peer | Mirror | Durable | Witness] = {
            "peer": self.peer(),
            "mirror": self.mirror(),
            "durable": self.durable(),
            "witness": self.witness(),
        }
        for part, drawn in parts.items():
            if self.yes(0.3):
                field = self.of([field.name for field in fields(drawn)])
                changes[part] = replace(getattr(base, part), **{field: getattr(drawn, field)})
        state = base.with_(**changes)
        mirror = state.mirror
        if mirror.required and (mirror.acknowledging is not Acknowledging.PAIRED or mirror.link is not Link.LIVE):
            state = state.with_(mirror=replace(mirror, required=False))
        record = state.record
        if state.role in SERVING and (record is None or state.epoch > record.epoch):
            return self.around(base)
        return state


def states(count: int, seed: int = 1) -> Iterator[State]:
    draw = Draw(seed)
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in files()]
    situations = [state_of(content["base"], content["facts"]) for content in contents]
    for _ in range(count):
        yield draw.free() if draw.yes(FREE) else draw.around(draw.of(situations))
