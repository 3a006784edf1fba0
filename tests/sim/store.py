"""The witness row as the store has it, and the service in front of it with its faults.

Faults: busy answers (429, 503: nothing was done), an error after the write was done (500), a write that is carried out
and whose repetition by the network is answered 412, a 412 after which the record cannot be read, requests that linger
and land long after they were given up, lost answers. What must never happen is checked where the record changes.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from mirror_agent.core.events import Event, RecordRead, WitnessUnknown, WriteWon
from mirror_agent.core.model import Instant, Record

from tests.sim.world import World

LINGER_S = 8.0
ARRIVAL_S = 5.0  # more than a message takes when the network crawls


class Store:
    def __init__(self, world: World, record: Record) -> None:
        self.world = world
        self.record = record
        self.version = 1
        self.random: random.Random = world.stream("store")
        self.trouble = 0.0  # part of the requests that fail in one of the ways above
        self.linger = 0.05  # part of the writes that stay in the network for a while
        self.linger_next: list[float] = []
        self.last_arrival_s = 0.0  # of the writes that are on their way
        self.busy_until = 0.0
        # (old record, new record, who wrote it, when it was sent)
        self.on_change: Callable[[Record, Record, str, float], None] = lambda old, new, writer, sent_at: None

    def swap(self, record: Record, etag: str, writer: str, sent_at: float) -> bool:
        """The conditional write; true when it landed."""
        if etag != str(self.version):
            return False
        old, self.record = self.record, record
        self.version += 1
        if self.world.tracing:
            members = " ".join(sorted(record.in_sync))
            self.world.note(f"STORE {record.epoch} primary={record.primary} in_sync={members} {record.rule}")
        self.on_change(old, record, writer, sent_at)
        self.world.stepped()
        return True

    def busy(self) -> bool:
        return self.world.now < self.busy_until

    def read(self, node: str, requested_at: Instant, answer: Callable[[Event], None]) -> None:
        """A request to read; `answer` may be called once, later, or never."""
        world = self.world

        def at_store() -> None:
            if self.busy() or self.random.random() < self.trouble:
                world.count("witness: a read is answered 429 or 503")
                event: Event = WitnessUnknown(self.random.choice(("HttpResponseError 503", "HttpResponseError 429")))
            else:
                event = RecordRead(self.record, str(self.version), requested_at)
            world.send("witness", "store", node, lambda: answer(event))

        world.send("witness", node, "store", at_store)

    def write(
        self, node: str, record: Record, etag: str, requested_at: Instant, answer: Callable[[Event], None]
    ) -> None:
        """A conditional write; it may land long after `answer` was given up, or without one."""
        world, sent_at = self.world, self.world.now

        def reply(event: Event) -> None:
            world.send("witness", "store", node, lambda: answer(event))

        def at_store() -> None:
            if self.busy():
                world.count("witness: a write is answered 429")
                reply(WitnessUnknown("HttpResponseError 429"))
                return
            trouble = self.random.random() < self.trouble
            kind = self.random.randrange(5) if trouble else -1
            if kind == 0:
                world.count("witness: a write is answered 409 or 503")
                reply(WitnessUnknown(self.random.choice(("HttpResponseError 503", "HttpResponseError 409"))))
                return
            landed = self.swap(record, etag, node, sent_at)
            if kind == 1:
                world.count("witness: a write is answered 500 after it was done")
                reply(WitnessUnknown("HttpResponseError 500"))
            elif kind == 2:
                world.count("witness: the answer to a write is lost")
            elif kind == 3 and not landed:
                world.count("witness: a write is answered 412, and the record cannot be read")
                reply(WitnessUnknown("the conditional write did not match, and the record could not be read"))
            elif landed and kind != 4:
                reply(WriteWon(record, str(self.version), requested_at))
            else:  # 412, also when the network delivered the request twice and this is the answer to the second
                world.count(f"witness: a write is answered 412{' although it was done' if landed else ''}")
                reply(RecordRead(self.record, str(self.version), requested_at))

        linger = self.random.uniform(0.0, LINGER_S) if self.random.random() < self.linger else 0.0
        if self.linger_next:
            linger = self.linger_next.pop()
        if linger > 2.0:
            world.count("witness: a write arrives after it was given up")
        self.last_arrival_s = max(self.last_arrival_s, world.now + linger + ARRIVAL_S)
        world.after(linger, lambda: world.send("witness", node, "store", at_store))
