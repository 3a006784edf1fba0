"""A simulated node: the production core, run as `mirror_agent.node` runs it, on simulated hands.

The order of things in `step` is that of `Node._step_once`: emergencies first, then the durable state is flushed before
anything that relies on it, then the role settles and the lanes start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mirror_agent.core.actions import (
    AbortMirror,
    Action,
    BecomePrimary,
    BecomeReplica,
    Drain,
    FinishOrder,
    KillApplication,
    Lane,
    Persist,
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
from mirror_agent.core.decide import decide
from mirror_agent.core.decision import Decision
from mirror_agent.core.events import (
    ActionFailed,
    AnswerArrived,
    AppReported,
    Beat,
    BeatArrived,
    Event,
    LanesBusy,
    MirrorReported,
    OrderFinished,
    OrderGiven,
    Persisted,
    PromiseGiven,
    RecordRead,
    Tick,
    WishGiven,
    WitnessUnknown,
    WriteBegan,
    WriteWon,
)
from mirror_agent.core.model import (
    App,
    Durable,
    Instant,
    Mode,
    Node,
    Order,
    Phase,
    Proposal,
    Record,
    State,
    Timing,
    Wish,
    grant_s,
    needs_promise,
    probe_ok,
    promise_holds,
)
from mirror_agent.core.reduce import apply, beat_of, settle

from tests.sim.engine import Engine
from tests.sim.oracle import Oracle
from tests.sim.world import Store, Violation, World

EMERGENCY = frozenset({Lane.MIRROR_ABORT, Lane.APP_KILL})
TICK_S = 0.2  # the agent ticks twice as often; a late tick is one more fault to live with


class SimNode:
    def __init__(self, world: World, name: str, peer: str, store: Store, oracle: Oracle, engine: Engine) -> None:
        self.world, self.name, self.peer_name = world, name, peer
        self.store, self.oracle, self.engine = store, oracle, engine
        self.peer: SimNode | None = None
        self.disk = Durable()
        self.orderly = False
        self.life = 0
        self.alive = False
        self.lost_power = False
        self.frozen_until = 0.0
        self.offset = world.random.uniform(0, 1e6)
        self.rate = world.random.uniform(0.997, 1.003)
        self.engine.clock = self.clock_at
        self.decision: Decision | None = None
        self.app_fails = 0.0
        self.finished: list[tuple[str, bool, str]] = []
        self.rules: set[str] = set()
        self.boot(first=True)

    # -- life -----------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> Instant:
        """This node's own clock: another origin, another rate."""
        return self.clock_at(self.world.now)

    def clock_at(self, at: float) -> Instant:
        return Instant(self.offset + at * self.rate)

    @property
    def frozen(self) -> bool:
        return self.world.now < self.frozen_until

    def boot(self, *, first: bool = False) -> None:
        durable = self.disk
        if first:
            durable = Durable(complete=self.name in self.store.record.in_sync, identity=f"disk-{self.name}")
        elif self.lost_power and not self.orderly:
            durable = replace(durable, trusted=False)
        self.life += 1
        self.alive = True
        self.lost_power = False
        self.disk = durable
        self.saved: Durable | None = durable
        self.flushing = False
        self.busy: dict[Lane, int] = {}
        self.token = 0
        self.engine.alive = True
        self.engine.reset()
        self.state = State(Node(self.name), Node(self.peer_name), Timing(), self.clock, durable=durable)
        self.every(TICK_S, lambda: self.post(Tick()))
        self.every(0.2, self.engine.poll)
        self.every(1.0, self.engine.flush)
        self.every(Timing().heartbeat_s, self.beat)
        self.note(f"boots, {durable}")

    def crash(self, *, machine: bool) -> None:
        if not self.alive:
            return
        self.note(f"crashes{' with its machine' if machine else ''}")
        self.alive = False
        self.lost_power = self.lost_power or machine
        self.engine.alive = False
        self.engine.generation += 1
        self.state = self.state.with_(app=App.STOPPED)
        if machine:
            self.engine.power_cut()
        peer = self.engine.peer
        assert peer is not None
        if not machine:
            peer.connection_reset()
        else:
            # A reset reaches the peer only when the kernel had time to send it; assume silence.
            pass

    def freeze(self, seconds: float) -> None:
        if not self.alive:
            return
        self.note(f"freezes for {seconds:.2f} s")
        self.frozen_until = self.engine.frozen_until = max(self.frozen_until, self.world.now + seconds)

    def every(self, seconds: float, work: Callable[[], None]) -> None:
        life = self.life

        def again() -> None:
            if life != self.life or not self.alive:
                return
            if self.frozen:
                self.world.after(self.frozen_until - self.world.now + 0.0005, again)
                return
            work()
            self.world.after(seconds * self.world.random.uniform(0.95, 1.1), again)

        self.world.after(self.world.random.uniform(0, seconds), again)

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """After a while, if this life lasts; a freeze puts it off."""
        life = self.life

        def run() -> None:
            if life != self.life or not self.alive:
                return
            if self.frozen:
                self.world.after(self.frozen_until - self.world.now + 0.0005, run)
                return
            work()

        self.world.after(seconds, run)

    def note(self, text: str) -> None:
        self.world.note(f"{self.name}: {text}")

    # -- heartbeats -----------------------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        return self.decision.phase if self.decision else Phase.NOT_READY

    def beat(self) -> None:
        peer, sent_at, life = self.peer, self.clock, self.life
        assert peer is not None
        mine = beat_of(self.state, self.phase)

        def answered(theirs: Beat, promise_s: float) -> None:
            if life != self.life or not self.alive:
                return
            self.later(0.0, lambda: self.post(AnswerArrived(theirs, sent_at, promise_s)))

        def arrive() -> None:
            if peer.alive:
                peer.later(0.0, lambda: peer.answer(mine, answered))

        self.world.send("hb", self.name, peer.name, arrive)

    def answer(self, beat: Beat, reply: Callable[[Beat, float], None]) -> None:
        self.post(BeatArrived(beat))
        promise_s = 0.0 if self.flushing else grant_s(self.state, beat_role=beat.role, beat_epoch=beat.epoch)
        if promise_s > 0:
            self.post(PromiseGiven(promise_s))
        mine = beat_of(self.state, self.phase)
        self.world.send("hb", self.name, self.peer_name, lambda: reply(mine, promise_s))

    # -- deciding -------------------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        self.state = apply(self.state, event, self.clock)
        self.step()

    def step(self) -> None:
        for _ in range(32):
            if not self.step_once():
                return
        raise Violation(f"{self.name} does not settle: {self.decision}")

    def step_once(self) -> bool:
        now = self.clock
        decision = decide(self.state, now)
        last, self.decision = self.decision, decision
        self.rules.add(decision.rule)
        if last is None or (last.rule, last.role, last.epoch) != (decision.rule, decision.role, decision.epoch):
            self.note(f"{decision.role.value}({decision.epoch}) {decision.rule} {decision.detail}")
        for action in decision.actions:
            if action.lane in EMERGENCY and action.lane not in self.busy:
                self.act(action)
        for action in decision.actions:
            if isinstance(action, Persist) and action.durable != self.state.durable:
                self.state = apply(self.state, Persisted(action.durable), now)
        if self.state.durable != self.saved:
            self.flush()
            return False
        before = self.state
        self.state = settle(self.state, decision, now)
        for action in decision.actions:
            if isinstance(action, FinishOrder):
                self.finished.append((action.id, action.succeeded, action.message))
                self.state = apply(self.state, OrderFinished(action.id), now)
            elif action.lane not in EMERGENCY and action.lane is not Lane.DISK and action.lane not in self.busy:
                self.act(action)
        return self.state is not before

    def flush(self) -> None:
        if self.flushing:
            return
        self.flushing = True
        durable = self.state.durable

        def done() -> None:
            self.disk = self.saved = durable
            self.orderly = False
            self.flushing = False
            self.step()

        self.later(self.world.random.uniform(0.001, 0.02), done)

    # -- hands ----------------------------------------------------------------------------------------------------

    def act(self, action: Action) -> None:
        self.token += 1
        token = self.token
        lane = action.lane
        self.busy[lane] = token
        self.mark()

        def free() -> None:
            if self.busy.get(lane) == token:
                del self.busy[lane]
                self.mark()

        def done(event: Event | None = None) -> None:
            free()
            if event is not None:
                self.post(event)
            else:
                self.step()

        name = type(action).__name__
        duration = self.world.random.uniform(0.005, 0.15)

        def on_engine(call: Callable[[], str]) -> None:
            def run() -> None:
                failure = "injected" if self.world.random.random() < 0.01 else call()
                self.state = apply(self.state, MirrorReported(self.engine.snapshot()), self.clock)
                done(ActionFailed(name, failure) if failure else None)

            self.later(duration, run)

        match action:
            case ReadWitness():
                self.read(done)
            case WriteWitness(proposal):
                self.write(proposal, done)
            case BecomePrimary(epoch, paired):
                on_engine(lambda: self.engine.become_primary(epoch, paired))
            case BecomeReplica(epoch):
                on_engine(lambda: self.engine.become_replica(epoch))
            case RequirePeer(epoch):

                def required(failure: str) -> None:
                    self.later(0.0, lambda: ended(failure))

                def ended(failure: str) -> None:
                    self.state = apply(self.state, MirrorReported(self.engine.snapshot()), self.clock)
                    done(ActionFailed(name, failure) if failure else None)

                self.later(duration, lambda: self.engine.require_peer(epoch, required))
            case Release(epoch):
                on_engine(lambda: self.engine.release(epoch))
            case RaiseEpoch(epoch):
                on_engine(lambda: self.engine.raise_epoch(epoch))
            case Seal(epoch):
                on_engine(lambda: self.engine.seal(epoch))
            case Drain():
                on_engine(self.engine.drain)
            case StopMirror():
                on_engine(self.engine.stop)
            case AbortMirror():
                # The front is gone at once; the rest takes a moment.
                self.engine.stop()
                self.busy.pop(Lane.MIRROR, None)
                self.mark()
                self.later(duration, lambda: done(MirrorReported(self.engine.snapshot())))
            case StartApplication(_):
                self.start_app(done)
            case StopApplication():
                self.state = apply(self.state, AppReported(App.STOPPING), self.clock)
                self.later(self.world.random.uniform(0.05, 1.5), lambda: done(AppReported(App.STOPPED)))
            case KillApplication():
                self.busy.pop(Lane.APP, None)
                self.mark()
                self.later(self.world.random.uniform(0.01, 0.2), lambda: done(AppReported(App.STOPPED)))
            case _:
                raise Violation(f"{name} has no hand")

    def mark(self) -> None:
        lanes = frozenset(lane.value for lane in self.busy)
        self.state = apply(self.state, LanesBusy(lanes), self.clock)

    def start_app(self, done: Callable[[Event | None], None]) -> None:
        if needs_promise(self.state) and not promise_holds(self.state, self.clock):
            self.later(0.01, lambda: done(None))
            return
        self.state = apply(self.state, AppReported(App.STARTING), self.clock)
        token = self.busy[Lane.APP]

        def started() -> None:
            if self.busy.get(Lane.APP) != token:
                return  # overtaken by a kill
            failed = self.world.random.random() < self.app_fails
            done(AppReported(App.FAILED, "injected") if failed else AppReported(App.RUNNING))

        self.later(self.world.random.uniform(0.2, 1.5), started)

    def read(self, done: Callable[[Event | None], None]) -> None:
        requested_at = self.clock
        token = self.busy[Lane.WITNESS]
        world = self.world

        def finish(event: Event) -> None:
            if self.busy.get(Lane.WITNESS) == token:
                done(event)

        def at_store() -> None:
            record, etag = self.store.record, str(self.store.version)
            if world.random.random() < world.witness_trouble:
                world.send(
                    "witness", "store", self.name, lambda: self.later(0.0, lambda: finish(WitnessUnknown("503")))
                )
                return
            event = RecordRead(record, etag, requested_at)
            world.send("witness", "store", self.name, lambda: self.later(0.0, lambda: finish(event)))

        world.send("witness", self.name, "store", at_store)
        self.later(Timing().witness_deadline_s, lambda: finish(WitnessUnknown("timeout")))

    def write(self, proposal: Proposal, done: Callable[[Event | None], None]) -> None:
        witness = self.state.witness
        unresolved = witness.unresolved
        again = unresolved is not None and unresolved.proposal == proposal and unresolved.base_etag == witness.etag
        nonce = unresolved.nonce if again and unresolved else f"{self.state.durable.identity}.{self.life}-{self.token}"
        etag = witness.etag
        token = self.busy[Lane.WITNESS]
        world = self.world
        record = Record(proposal.epoch, proposal.primary, proposal.in_sync, nonce, proposal.rule)
        self.state = apply(self.state, WriteBegan(proposal, nonce, etag), self.clock)
        requested_at, submitted_at = self.clock, world.now

        def finish(event: Event) -> None:
            if self.busy.get(Lane.WITNESS) == token:
                done(event)

        def at_store() -> None:
            landed = self.store.swap(record, etag, submitted_at)
            trouble = world.random.random() < world.witness_trouble
            current, version = self.store.record, str(self.store.version)

            def answer() -> None:
                if trouble:
                    finish(WitnessUnknown("500"))
                elif landed:
                    finish(WriteWon(record, version, requested_at))
                else:
                    finish(RecordRead(current, version, requested_at))

            world.send("witness", "store", self.name, lambda: self.later(0.0, answer))

        # A request may linger in the network and land long after it was given up.
        linger = world.random.uniform(0.0, 6.0) if world.random.random() < 0.05 else 0.0
        world.after(linger, lambda: world.send("witness", self.name, "store", at_store))
        self.later(Timing().witness_deadline_s, lambda: finish(WitnessUnknown("timeout")))

    # -- the outside ----------------------------------------------------------------------------------------------

    def probe(self) -> bool:
        return self.alive and not self.frozen and probe_ok(self.state, self.clock)[0]

    def order(self, action: str, id: str) -> None:
        if self.alive and self.state.order is None:
            self.note(f"order {action}")
            self.later(0.0, lambda: self.post(OrderGiven(Order(action, id, "operator", "test"))))

    def wish(self, wish: Wish) -> None:
        if self.alive:
            self.note(f"wish {wish.value}")
            self.later(0.0, lambda: self.post(WishGiven(wish, "operator")))

    def app_crash(self) -> None:
        if self.alive and self.state.app is App.RUNNING:
            self.note("application crashes")
            self.later(0.0, lambda: self.post(AppReported(App.FAILED, "injected")))

    def settled(self) -> str:
        return f"{self.state.role.value}/{self.phase.value}/{self.decision.rule if self.decision else ''}"

    @property
    def mounted(self) -> bool:
        return self.engine.mode is Mode.PRIMARY
