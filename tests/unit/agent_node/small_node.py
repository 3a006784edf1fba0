"""A node with the production core whose witness, engine and application do at once what they are told."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror_agent.core.actions import (
    AbortMirror,
    Action,
    BecomePrimary,
    BecomeReplica,
    KillApplication,
    ReadWitness,
    Release,
    Seal,
    StartApplication,
    StopApplication,
    StopMirror,
    WriteWitness,
)
from mirror_agent.core.events import AppReported, Event, MirrorReported, RecordRead, WriteBegan, WriteWon
from mirror_agent.core.model import (
    NOBODY,
    Acknowledging,
    App,
    Durable,
    Epoch,
    Instant,
    Mirror,
    Mode,
    Node,
    Record,
    State,
    Timing,
)
from mirror_agent.eventlog import EventLog
from mirror_agent.node.durable import DurableStore
from mirror_agent.node.node import Node as RunningNode

A, B = Node("a"), Node("b")


@dataclass
class SmallNode:
    """`with_record` says how the witness record begins; nobody is heard unless a test posts it."""

    directory: Path
    record: Record = field(default_factory=lambda: Record(Epoch(0), NOBODY, frozenset({A}), "provisioned"))
    durable: Durable = field(default_factory=lambda: Durable(identity="id-a"))
    app_starts: bool = True

    def __post_init__(self) -> None:
        self.log = EventLog(self.directory / "events.jsonl", stderr=io.StringIO())
        state = State(A, B, Timing(), Instant(0.0), durable=self.durable)
        self.node = RunningNode(state, store=DurableStore(self.directory, boot_id="boot"), log=self.log)
        self.node.connect(self._act)
        self._mirror = Mirror()
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._ticking = asyncio.create_task(self.node.tick(0.005))

    async def close(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        await self.node.close()
        self.log.close()

    def _act(self, action: Action) -> None:
        asyncio.get_running_loop().call_soon(self._carry_out, action)

    def _carry_out(self, action: Action) -> None:
        for event in self._events(action):
            self.node.post(event)

    def _events(self, action: Action) -> list[Event]:
        now = self.node.now
        match action:
            case ReadWitness():
                return [RecordRead(self.record, str(self.record.epoch), now)]
            case WriteWitness(proposal):
                base = str(self.record.epoch)
                if proposal.epoch != self.record.epoch + 1:
                    return [RecordRead(self.record, base, now)]
                nonce = f"id-a.{proposal.epoch}"
                self.record = Record(proposal.epoch, proposal.primary, proposal.in_sync, nonce, proposal.rule)
                return [WriteBegan(proposal, nonce, base), WriteWon(self.record, str(proposal.epoch), now)]
            case BecomePrimary(epoch):
                return [self.engine_reports(mode=Mode.PRIMARY, epoch=epoch, acknowledging=Acknowledging.SOLO)]
            case BecomeReplica(epoch):
                return [self.engine_reports(mode=Mode.REPLICA, epoch=epoch, acknowledging=Acknowledging.NONE)]
            case Seal(epoch):
                return [self.engine_reports(sealed=epoch)]
            case Release(epoch):
                return [self.engine_reports(epoch=epoch, acknowledging=Acknowledging.SOLO)]
            case StopMirror() | AbortMirror():
                self._mirror = Mirror()
                return [MirrorReported(self._mirror)]
            case StartApplication():
                return [AppReported(App.RUNNING if self.app_starts else App.STARTING)]
            case StopApplication() | KillApplication():
                return [AppReported(App.STOPPED)]
            case _:
                return [self.engine_reports(drained=True, mode=Mode.STOPPED)]

    def engine_reports(self, **changes: object) -> MirrorReported:
        self._mirror = replace(self._mirror, **changes)  # type: ignore[arg-type]  # checked at run time
        return MirrorReported(self._mirror)
