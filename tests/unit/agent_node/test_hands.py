"""What the hands report of a call whose answer came late, or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

from mirror_agent.core.actions import Lane, WriteWitness
from mirror_agent.core.events import RecordRead
from mirror_agent.core.model import (
    Acknowledging,
    Durable,
    Epoch,
    Instant,
    Link,
    Mirror,
    Mode,
    Node,
    Proposal,
    Record,
    Timing,
)
from mirror_agent.core.model import State as CoreState
from mirror_agent.core.reduce import apply
from mirror_agent.eventlog import EventLog
from mirror_agent.mirror.control import MirrorConfig, MirrorError, MirrorHandle, MirrorStatus
from mirror_agent.net.witness import Found, Lost, ReadOutcome, WriteOutcome
from mirror_agent.node.durable import DurableStore
from mirror_agent.node.engine import Engine
from mirror_agent.node.hands import Hands
from mirror_agent.node.node import Node as RunningNode

from tests.agent_samples import FakeClock, eventually

A, B = Node("a"), Node("b")
BASE = Record(Epoch(7), A, frozenset({A, B}), "disk-a.1")
NEWER = Record(Epoch(8), B, frozenset({B}), "disk-b.1")


class SlowWitness:
    """Refuses the write, 1.5 s after it was asked."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    async def read(self, *, deadline_s: float) -> ReadOutcome:
        return Found(NEWER, "etag-8")

    async def write(self, record: Record, *, etag: str, deadline_s: float) -> WriteOutcome:
        self._clock.now += 1.5
        return Lost(Found(NEWER, "etag-8"))

    async def close(self) -> None:
        return None


async def test_a_lost_write_brings_a_record_that_is_as_old_as_the_request(tmp_path: Path) -> None:
    clock, log = FakeClock(), EventLog(tmp_path / "events.jsonl", stderr=io.StringIO())
    state = CoreState(A, B, Timing(), Instant(clock.now), durable=Durable(identity="disk-a"))
    state = apply(state, RecordRead(BASE, "etag-7", Instant(clock.now)), Instant(clock.now))
    node = RunningNode(state, store=DurableStore(tmp_path, boot_id="boot"), log=log, clock=clock)
    parts: Any = None  # not touched by a write to the witness
    hands = Hands(
        node,
        witness=SlowWitness(clock),
        engine=parts,
        runner=parts,
        checkers=parts,
        service_ports=(),
        relay_ended=parts,
        fence=parts,
        start_id="1",
        log=log,
    )
    asked_at = clock.now
    hands.act(WriteWitness(Proposal(Epoch(8), A, frozenset({A}), "publish-alone")))
    await eventually(lambda: not node.lanes.busy(Lane.WITNESS), "the write has been answered")
    await node.close()
    log.close()
    assert clock.now == asked_at + 1.5
    assert node.state.record == NEWER
    assert node.state.witness.known_at == asked_at


class DeafHandle:
    """An engine that does what it is told, but whose answer to a release is lost."""

    status = MirrorStatus(mode="primary", epoch=7, link="live", acknowledging="paired")

    async def require_peer(self, *, epoch: int) -> None:
        return None

    async def release(self, *, epoch: int) -> None:
        raise MirrorError("no answer within 10 s")


async def test_a_release_whose_answer_is_lost_ends_the_requirement_of_the_peer_at_once() -> None:
    told: list[Mirror] = []
    engine = Engine(cast(MirrorConfig, None), on_report=told.append, log=lambda *_, **__: None)
    engine._handle = cast(MirrorHandle, DeafHandle())
    assert await engine.require_peer(Epoch(7)) == ""
    assert told[-1] == Mirror(
        Mode.PRIMARY, Epoch(7), Link.LIVE, Acknowledging.PAIRED, heard_at=told[-1].heard_at, required=True
    )
    assert await engine.release(Epoch(7)) == "no answer within 10 s"
    assert not told[-1].required
