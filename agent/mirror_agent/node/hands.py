"""The node's hands: runs the core's actions against the witness, the engine and the application.

One method an action; each ends by posting what became of it. An outcome that is not known is posted as such. No
decision is taken here, with one exception that every hand has: an act that needs the promise checks it once more at the
moment of acting, because the loop may have slept since the decision (I4: deadline before each externally visible act).
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Coroutine

from mirror_agent.app.connections import reset_connections
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.app.outcomes import Killed, Started, StartFailed, StopFailed, Stopped, Survived
from mirror_agent.app.runner import ApplicationRunner
from mirror_agent.core.actions import (
    AbortMirror,
    Action,
    BecomePrimary,
    BecomeReplica,
    Drain,
    KillApplication,
    RaiseEpoch,
    ReadWitness,
    Release,
    RequirePeer,
    Seal,
    StartApplication,
    StopApplication,
    StopMirror,
    WriteWitness,
)
from mirror_agent.core.events import (
    ActionFailed,
    AppReported,
    RecordRead,
    WitnessUnknown,
    WriteBegan,
    WriteWon,
)
from mirror_agent.core.model import Acknowledging, App, Proposal, Record, Role, needs_promise, promise_holds
from mirror_agent.eventlog import EventLog
from mirror_agent.net.witness import Found, Lost, Missing, Unknown, Witness, Won
from mirror_agent.node.engine import Engine
from mirror_agent.node.fence import SelfFence
from mirror_agent.node.node import Node


class Hands:
    def __init__(
        self,
        node: Node,
        *,
        witness: Witness,
        engine: Engine,
        runner: ApplicationRunner,
        checkers: NodeCheckers,
        service_ports: tuple[int, ...],
        relay_ended: Callable[[], Awaitable[None]],
        fence: SelfFence,
        start_id: str,
        log: EventLog,
    ) -> None:
        """`relay_ended`: returns when nothing but the application may hold its service ports."""
        self._node = node
        self._witness = witness
        self._engine = engine
        self._runner = runner
        self._checkers = checkers
        self._service_ports = service_ports
        self._relay_ended = relay_ended
        self._fence = fence
        self._start_id = start_id
        self._counter = itertools.count(1)
        self._log = log

    def act(self, action: Action) -> None:
        """Start the action on its lane; the lane is free."""
        self._node.lanes.run(action.lane, type(action).__name__, self._work(action))

    def _work(self, action: Action) -> Coroutine[None, None, None]:
        engine = self._engine
        match action:
            case ReadWitness():
                return self._read()
            case WriteWitness(proposal):
                return self._write(proposal)
            case BecomePrimary(epoch, paired):
                return self._on_engine(action, engine.become_primary(epoch, paired=paired))
            case BecomeReplica(epoch):
                return self._on_engine(action, engine.become_replica(epoch))
            case RequirePeer(epoch):
                return self._on_engine(action, engine.require_peer(epoch))
            case Release(epoch):
                return self._on_engine(action, engine.release(epoch))
            case RaiseEpoch(epoch):
                return self._on_engine(action, engine.raise_epoch(epoch))
            case Seal(epoch):
                return self._on_engine(action, engine.seal(epoch))
            case Drain():
                return self._on_engine(action, engine.drain())
            case StopMirror():
                return self._on_engine(action, engine.stop())
            case AbortMirror():
                return self._on_engine(action, engine.abort(self._runner.kill_now))
            case StartApplication(epoch):
                return self._start(epoch)
            case StopApplication():
                return self._stop()
            case KillApplication():
                return self._kill()
            case _:
                raise AssertionError(f"{type(action).__name__} is not for the hands")

    # -- witness --------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        node = self._node
        requested_at = node.now
        outcome = await self._witness.read(deadline_s=node.state.timing.witness_deadline_s)
        match outcome:
            case Found(record, etag):
                node.post(RecordRead(record, etag, requested_at))
            case Missing():
                node.post(WitnessUnknown("the witness record does not exist"))
            case Unknown(reason):
                node.post(WitnessUnknown(reason))

    async def _write(self, proposal: Proposal) -> None:
        node = self._node
        witness = node.state.witness
        unresolved = witness.unresolved
        again = unresolved is not None and unresolved.proposal == proposal and unresolved.base_etag == witness.etag
        nonce = unresolved.nonce if again and unresolved is not None else self._nonce()
        etag = witness.etag
        record = Record(proposal.epoch, proposal.primary, proposal.in_sync, nonce, proposal.rule)
        node.post(WriteBegan(proposal, nonce, etag))
        requested_at = node.now
        outcome = await self._witness.write(record, etag=etag, deadline_s=node.state.timing.witness_deadline_s)
        self._log.record_decision(
            "witness.write",
            outcome=type(outcome).__name__.lower(),
            epoch=int(proposal.epoch),
            primary=proposal.primary,
            in_sync=sorted(proposal.in_sync),
            rule=proposal.rule,
        )
        match outcome:
            case Won(new_etag):
                node.post(WriteWon(record, new_etag, requested_at))
            case Lost(Found(current, current_etag)):
                # Read after the request began, so that much is sure; how long the answer took is not known.
                node.post(RecordRead(current, current_etag, requested_at))
            case Lost(None):
                node.post(WitnessUnknown("the conditional write did not match, and the record could not be read"))
            case Unknown(reason):
                node.post(WitnessUnknown(reason))

    def _nonce(self) -> str:
        identity = self._node.state.durable.identity
        assert identity, "a node without an identity must not write the record"
        return f"{identity}.{self._start_id}.{next(self._counter)}"

    # -- engine ---------------------------------------------------------------------------------------------------

    async def _on_engine(self, action: Action, call: Coroutine[None, None, str]) -> None:
        failure = await call
        if failure:
            self._log.record("mirror.action-failed", action=type(action).__name__, reason=failure)
            self._node.post(ActionFailed(type(action).__name__, failure))

    # -- application ----------------------------------------------------------------------------------------------

    async def _start(self, epoch: int) -> None:
        node = self._node
        await self._relay_ended()
        if needs_promise(node.state) and not promise_holds(node.state, node.now):
            return  # slept since the decision; the next one starts from the new facts
        node.post(AppReported(App.STARTING))
        outcome = await self._runner.start(epoch=epoch, role=node.state.role.value)
        match outcome:
            case Started():
                self._fence.died()
                self._checkers.start()
                node.post(AppReported(App.RUNNING))
            case StartFailed(reason, survivors):
                await self._undying(survivors)
                node.post(AppReported(App.FAILED, reason))

    async def _stop(self) -> None:
        node = self._node
        await self._checkers.stop()
        node.post(AppReported(App.STOPPING))
        outcome = await self._runner.stop(force=False)
        await reset_connections(self._service_ports)
        match outcome:
            case Stopped():
                self._fence.died()
                node.post(AppReported(App.STOPPED))
            case StopFailed(reason, survivors):
                await self._undying(survivors)
                node.post(AppReported(App.FAILED, reason))

    async def _kill(self) -> None:
        node = self._node
        from mirror_agent.core.actions import Lane

        node.lanes.cancel(Lane.APP)
        await self._checkers.stop()
        outcome = await self._runner.kill_now()
        reset = await reset_connections(self._service_ports)
        self._log.record("connections.reset", outcome=str(reset))
        match outcome:
            case Killed():
                self._fence.died()
                node.post(AppReported(App.STOPPED))
            case Survived(pids):
                # The mount is being aborted at the same time: whoever waited for it is let go and dies.
                await self._fence.survived(pids, excused=False)
                node.post(ActionFailed("KillApplication", f"processes survived: {pids}"))

    async def _undying(self, pids: tuple[int, ...]) -> None:
        """Survivors of a stop or start in the middle of service: the mirror may rightly hold their calls, and a node
        that serves alone has data nobody else has."""
        if not pids:
            self._fence.died()
            return
        state = self._node.state
        excused = state.mirror.acknowledging is Acknowledging.PARKED or state.role is Role.ALONE
        await self._fence.survived(pids, excused=excused)
