"""The hands of a simulated node: what `mirror_agent.node.hands` and `mirror_agent.node.engine` do, on simulated parts.

Faults: calls that fail without having done anything, calls that were carried out and are reported as failed, calls
that take seconds, kills that do not succeed at once, applications that do not start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from mirror_agent.core.actions import (
    AbortMirror,
    Action,
    BecomePrimary,
    BecomeReplica,
    Drain,
    KillApplication,
    Lane,
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
    Event,
    MirrorReported,
    WitnessUnknown,
    WriteBegan,
)
from mirror_agent.core.model import (
    NEVER,
    NO_EPOCH,
    Acknowledging,
    App,
    Epoch,
    Link,
    Mirror,
    Mode,
    Proposal,
    Record,
    State,
    needs_promise,
    promise_holds,
)
from mirror_agent.core.reduce import apply

from tests.sim.violation import Violation

if TYPE_CHECKING:
    from tests.sim.node import SimNode

Done = Callable[[Event | None], None]
NAMES = {lane: lane.value for lane in Lane}


class Hands:
    """The lanes of one life of the agent, and what it remembers of its engine (`mirror_agent.node.engine._Kept`)."""

    def __init__(self, node: SimNode) -> None:
        self.node, self.world, self.engine = node, node.world, node.engine
        self.random = node.random
        self.busy: dict[Lane, int] = {}
        self.token = 0
        self.sealed, self.drained, self.required = NO_EPOCH, False, False

    # -- lanes ----------------------------------------------------------------------------------------------------

    def act(self, action: Action) -> None:
        self.token += 1
        token, lane, node = self.token, action.lane, self.node
        self.busy[lane] = token
        self.mark()

        def done(event: Event | None = None) -> None:
            if node.hands is not self:
                return  # an answer for an earlier life of the agent
            if self.busy.get(lane) == token:
                del self.busy[lane]
                self.mark()
            if event is not None:
                node.post(event)
            else:
                node.step()

        name = type(action).__name__
        match action:
            case ReadWitness():
                self.read(done)
            case WriteWitness(proposal):
                self.write(proposal, done)
            case BecomePrimary(epoch, paired):
                self.forget()
                self.call(name, lambda: self.engine.become_primary(epoch, paired), done)
            case BecomeReplica(epoch):
                self.forget()
                self.call(name, lambda: self.engine.become_replica(epoch), done)
            case RequirePeer(epoch):
                self.require(name, epoch, done)
            case Release(epoch):
                self.required = False
                node.state = apply_mirror(node, replace(node.state.mirror, required=False))
                self.call(name, lambda: self.engine.release(epoch), done)
            case RaiseEpoch(epoch):
                self.call(name, lambda: self.engine.raise_epoch(epoch), done)
            case Seal(epoch):
                self.call(name, lambda: self.keep(self.engine.seal(epoch), sealed=epoch), done)
            case Drain():
                self.call(name, lambda: self.keep(self.engine.drain(), drained=True), done)
            case StopMirror():
                self.call(name, self.stop_engine, done)
            case AbortMirror():
                # The front is gone at once; the rest takes a moment.
                self.stop_engine()
                self.busy.pop(Lane.MIRROR, None)
                self.mark()
                node.later(self.duration(), lambda: done(MirrorReported(self.mirror())))
            case StartApplication(_):
                self.start_app(done)
            case StopApplication():
                node.state = replace_app(node, App.STOPPING)
                failed = self.random.random() < node.call_fails
                stopped = AppReported(App.FAILED, "processes survived") if failed else AppReported(App.STOPPED)
                node.later(0.05 + 1.45 * self.random.random(), lambda: done(stopped))
            case KillApplication():
                self.busy.pop(Lane.APP, None)
                self.mark()
                survived = self.random.random() < 0.03
                event = ActionFailed(name, "processes survived") if survived else AppReported(App.STOPPED)
                node.later(0.01 + 0.2 * self.random.random(), lambda: done(event))
            case _:
                raise Violation(f"{name} has no hand")

    def mark(self) -> None:
        self.node.lanes_busy(frozenset([NAMES[lane] for lane in self.busy]))

    # -- engine ---------------------------------------------------------------------------------------------------

    def duration(self) -> float:
        if self.world.now < self.node.stuck_until:
            return STUCK_S * self.random.random()
        return 0.005 + 0.145 * self.random.random()

    def call(self, name: str, work: Callable[[], str], done: Done) -> None:
        """A call to the engine's process; a dead one is launched again first, as `Engine._running` does."""
        kept = self.random.random()

        def run() -> None:
            if kept < self.node.call_fails:
                self.world.count("engine call that fails, or whose answer is lost")
            if kept < self.node.call_fails / 2:
                done(ActionFailed(name, "injected: nothing was done"))
                return
            if self.engine.mode is Mode.FAILED:
                self.stop_engine()
            if kept < self.node.call_fails:
                before = (self.sealed, self.drained, self.required)
                work()
                self.sealed, self.drained, self.required = before
                done(ActionFailed(name, "injected: done, but the answer was lost"))
                return
            self.ended(name, work(), done)

        self.node.later(self.duration(), run)

    def ended(self, name: str, failure: str, done: Done) -> None:
        node = self.node
        node.state = apply_mirror(node, self.mirror())
        done(ActionFailed(name, failure) if failure else None)

    def require(self, name: str, epoch: Epoch, done: Done) -> None:
        def answered(failure: str) -> None:
            self.node.later(0.0, lambda: self.ended(name, self.keep(failure, required=True), done))

        self.node.later(self.duration(), lambda: self.engine.require_peer(epoch, answered))

    def keep(self, failure: str, *, sealed: Epoch = NO_EPOCH, drained: bool = False, required: bool = False) -> str:
        if not failure:
            self.sealed = sealed or self.sealed
            self.drained = drained or self.drained
            self.required = required or self.required
        return failure

    def forget(self) -> None:
        """Before a call that ends what is remembered: it may be carried out although its answer is lost."""
        self.sealed, self.drained, self.required = NO_EPOCH, False, False
        mirror = replace(self.node.state.mirror, sealed=NO_EPOCH, drained=False, required=False)
        self.node.state = apply_mirror(self.node, mirror)

    def stop_engine(self) -> str:
        self.engine.stop()
        self.sealed, self.required = NO_EPOCH, False
        return ""

    def mirror(self) -> Mirror:
        """The engine as the agent sees it: its status, and what the agent remembers of its own calls."""
        engine = self.engine
        if engine.ack is not Acknowledging.PAIRED or engine.link is not Link.LIVE:
            self.required = False
        heard = self.node.clock_at(engine.heard_at) if engine.heard_at > NEVER else NEVER
        drained = self.drained and engine.mode is Mode.STOPPED
        return Mirror(
            engine.mode, engine.epoch, engine.link, engine.ack, heard, self.sealed, drained, self.required, engine.error
        )

    def mirror_reported(self) -> None:
        node = self.node
        if not node.alive or node.frozen:
            return
        mirror = self.mirror()
        if same_but_for_time(mirror, node.state.mirror):
            node.state = apply_mirror(node, mirror)  # nothing new: the next tick will do
        else:
            node.later(0.0, lambda: node.post(MirrorReported(self.mirror())))

    # -- application ----------------------------------------------------------------------------------------------

    def start_app(self, done: Done) -> None:
        node = self.node
        if needs_promise(node.state) and not promise_holds(node.state, node.clock):
            node.later(0.01, lambda: done(None))
            return
        node.state = replace_app(node, App.STARTING)
        token = self.busy[Lane.APP]

        def started() -> None:
            if self.busy.get(Lane.APP) != token:
                return  # overtaken by a kill
            failed = self.random.random() < self.node.app_fails
            done(AppReported(App.FAILED, "injected") if failed else AppReported(App.RUNNING))

        node.later(0.2 + 1.3 * self.random.random(), started)

    # -- witness --------------------------------------------------------------------------------------------------

    def read(self, done: Done) -> None:
        node, token = self.node, self.busy[Lane.WITNESS]

        def finish(event: Event) -> None:
            if self.busy.get(Lane.WITNESS) == token:
                done(event)

        node.store.read(node.name, node.clock, lambda event: node.later(0.0, lambda: finish(event)))
        node.later(node.state.timing.witness_deadline_s, lambda: finish(WitnessUnknown("timeout")))

    def write(self, proposal: Proposal, done: Done) -> None:
        node = self.node
        witness = node.state.witness
        unresolved = witness.unresolved
        again = unresolved is not None and unresolved.proposal == proposal and unresolved.base_etag == witness.etag
        nonce = unresolved.nonce if again and unresolved else f"{node.state.durable.identity}.{node.life}-{self.token}"
        etag, token = witness.etag, self.busy[Lane.WITNESS]
        record = Record(proposal.epoch, proposal.primary, proposal.in_sync, nonce, proposal.rule)
        node.state = apply(node.state, WriteBegan(proposal, nonce, etag), node.clock)

        def finish(event: Event) -> None:
            if self.busy.get(Lane.WITNESS) == token:
                done(event)

        node.store.write(node.name, record, etag, node.clock, lambda event: node.later(0.0, lambda: finish(event)))
        node.later(node.state.timing.witness_deadline_s, lambda: finish(WitnessUnknown("timeout")))


STUCK_S = 9.0  # below the deadline of a call, mirror_agent.mirror.control


def same_but_for_time(one: Mirror, other: Mirror) -> bool:
    return (
        one.mode is other.mode
        and one.epoch == other.epoch
        and one.link is other.link
        and one.acknowledging is other.acknowledging
        and one.sealed == other.sealed
        and one.drained == other.drained
        and one.required == other.required
        and one.error == other.error
    )


def replace_app(node: SimNode, app: App) -> State:
    return apply(node.state, AppReported(app), node.clock)


def apply_mirror(node: SimNode, mirror: Mirror) -> State:
    return apply(node.state, MirrorReported(mirror), node.clock)
