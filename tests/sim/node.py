"""A simulated node: the production core, run as `mirror_agent.node` runs it, on a simulated machine.

The order of things in `step` is that of `Node._step_once`: emergencies first, then the durable state is flushed before
anything that relies on it, then the role settles and the lanes start. What the lanes do is in `hands`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mirror_agent.core.actions import FinishOrder, Lane, Persist
from mirror_agent.core.decide import decide
from mirror_agent.core.decision import Decision
from mirror_agent.core.events import (
    AnswerArrived,
    AppReported,
    Beat,
    BeatArrived,
    Event,
    FailoverSet,
    LanesBusy,
    OrderFinished,
    OrderGiven,
    Persisted,
    PromiseGiven,
    Tick,
    WishGiven,
)
from mirror_agent.core.model import (
    App,
    Durable,
    Instant,
    Node,
    Order,
    Phase,
    Role,
    State,
    Timing,
    Wish,
    grant_s,
    probe_ok,
)
from mirror_agent.core.reduce import apply, beat_of, settle

from tests.sim.engine import POLL_S, Engine
from tests.sim.hands import Hands
from tests.sim.oracle import Oracle
from tests.sim.store import Store
from tests.sim.violation import Violation
from tests.sim.world import World

EMERGENCY = frozenset({Lane.MIRROR_ABORT, Lane.APP_KILL})
TICK_S = 0.2  # the agent ticks twice as often; a late tick is one more fault to live with
RECENTLY_S = 0.15  # a node that has just decided needs no tick
TIMING = Timing()
LEAVE_DEADLINE_S = 60.0


class Sent:
    """A heartbeat on its way: whose it is, and when it was sent by that node's clock and by the world's."""

    def __init__(self, node: SimNode, at: Instant, life: int, world_s: float) -> None:
        self.node, self.at, self.life, self.world_s = node, at, life, world_s


class Again:
    """Something a node does again and again in one life; a freeze of the agent puts off what is the agent's."""

    def __init__(self, node: SimNode, seconds: float, work: Callable[[], None], *, of_engine: bool) -> None:
        self.node, self.seconds, self.work, self.of_engine = node, seconds, work, of_engine
        self.life, self.draw = node.life, node.random.random

    def __call__(self) -> None:
        node = self.node
        if self.life != node.life or not node.alive:
            return
        world = node.world
        if world.now < node.frozen_until and not self.of_engine:
            world.after(node.frozen_until - world.now + 0.0005, self)
            return
        self.work()  # an engine that is frozen itself does nothing
        world.after(self.seconds * (0.95 + 0.15 * self.draw()), self)


class SimNode:
    def __init__(self, world: World, name: str, peer: str, store: Store, oracle: Oracle, engine: Engine) -> None:
        self.world, self.name, self.peer_name = world, name, peer
        self.store, self.oracle, self.engine = store, oracle, engine
        self.random = world.stream(f"node-{name}")
        self.peer: SimNode | None = None
        self.disk = Durable(identity=f"disk-{name}")
        self.disks = 1
        self.orderly = False
        self.life = 0
        self.alive = False
        self.lost_power = False
        self.frozen_until = 0.0
        # Its own clock: another origin, another rate, and whatever jumps a schedule asks for.
        self.clock_zero = self.random.uniform(0, 1e6)
        self.clock_from = 0.0
        self.clock_rate = self.random.uniform(0.997, 1.003)
        self.decision: Decision | None = None
        self.failover = True
        self.wanted = Wish.RUN  # what an operator wants of it after an orderly stop of the agent
        # Faults: saves of the durable state fail, or are slow, until then; engine calls take seconds until then; part
        # of the engine calls fail, half of them after they were carried out; part of the application's starts fail.
        self.disk_full_until = self.disk_slow_until = self.stuck_until = 0.0
        self.call_fails = 0.01
        self.app_fails = 0.0
        self.orders: dict[str, tuple[bool, str] | None] = {}
        self.rules: set[str] = set()
        self.on_rule: Callable[[SimNode, str], None] = lambda node, rule: None
        self.on_change: Callable[[], None] = lambda: None
        self.hands = Hands(self)

    # -- clock ----------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> Instant:
        return Instant(self.clock_zero + (self.world.now - self.clock_from) * self.clock_rate)

    def clock_at(self, at: float) -> Instant:
        return Instant(self.clock_zero + (at - self.clock_from) * self.clock_rate)

    def set_clock(self, *, rate: float, jump_s: float = 0.0) -> None:
        """From now on another rate; `jump_s` is added at once. A real CLOCK_BOOTTIME does not jump."""
        self.clock_zero, self.clock_from = self.clock + jump_s, self.world.now
        self.clock_rate = rate

    @property
    def frozen(self) -> bool:
        return self.world.now < self.frozen_until

    # -- life -----------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        durable = self.disk
        if self.lost_power and not self.orderly:
            durable = replace(durable, trusted=False)
        self.life += 1
        self.oracle.on_boot(self.name)
        self.alive = True
        self.saved: Durable | None = None
        self.flushing = False
        self.poked = False
        self.stepped_at = 0.0
        self.ticked_at = self.clock
        self.hands = Hands(self)
        self.engine.alive = True
        self.engine.reset()
        self.engine.on_report = self.hands.mirror_reported
        self.state = State(
            Node(self.name), Node(self.peer_name), TIMING, self.clock, durable=durable, failover=self.failover
        )
        self.every(TICK_S, self.tick)
        self.every(POLL_S, self.engine.poll, of_engine=True)
        self.every(1.0, self.engine.flush, of_engine=True)
        self.every(TIMING.heartbeat_s, self.beat)
        if self.world.tracing:
            self.note(f"boots, {durable}")

    def crash(self, *, machine: bool) -> None:
        if not self.alive:
            return
        self.note(f"crashes{' with its machine' if machine else ''}")
        if self.flushing:
            self.world.count("crash during a save of the state")
        if self.flushing and self.random.random() < 0.5 and not self.disk_fails():
            # Torn the other way: it was on the disk already.
            self.world.count("crash during a save of the state that is found done")
            self.disk, self.orderly, self.lost_power = self.state.durable, False, False
        self.alive = False
        self.lost_power = self.lost_power or machine
        self.engine.alive = False
        self.engine.generation += 1
        self.state = self.state.with_(app=App.STOPPED)
        if machine:
            self.engine.power_cut()  # a reset reaches the peer only from a living kernel: here there is silence
        else:
            assert self.engine.peer is not None
            self.engine.peer.connection_reset()

    def leave(self, *, machine: bool) -> None:
        """An orderly stop of the agent, and of the machine: SIGTERM, as `Supervisor._leave` goes through it."""
        if not self.alive:
            return
        life, began = self.life, self.world.now
        self.wanted = self.state.durable.wish
        self.note("is asked to leave")
        self.later(0.0, lambda: self.post(WishGiven(Wish.STOP, "service: the agent is being stopped")))

        def look() -> None:
            if life != self.life or not self.alive:
                return
            stopped = self.state.role is Role.STOP and self.state.app is App.STOPPED
            if not stopped and self.world.now - began < LEAVE_DEADLINE_S:
                self.world.after(0.1, look)
                return
            self.engine.stop()
            self.engine.flush()
            self.note("leaves")
            self.alive = False
            self.engine.alive = False
            self.disk = replace(self.state.durable, wish=self.wanted, stop_reason="")
            self.orderly = stopped
            self.lost_power = machine

        self.world.after(0.1, look)

    def replace_disk(self) -> None:
        """The machine comes back with an empty data disk and no state: provisioned again from nothing."""
        self.disks += 1
        self.disk, self.orderly = Durable(identity=f"disk-{self.name}{self.disks}"), True
        self.engine.new_disk()
        self.note("has an empty disk")

    def freeze(self, seconds: float, *, agent: bool = True, engine: bool = True) -> None:
        if not self.alive:
            return
        until = self.world.now + seconds
        self.note(
            f"freezes for {seconds:.2f} s{'' if agent else ', only its engine'}{'' if engine else ', not its engine'}"
        )
        if agent:
            self.frozen_until = max(self.frozen_until, until)
            self.world.after(self.frozen_until - self.world.now + 0.0001, self.on_change)
        if engine:
            self.engine.frozen_until = max(self.engine.frozen_until, until)

    def every(self, seconds: float, work: Callable[[], None], *, of_engine: bool = False) -> None:
        self.world.after(seconds * self.random.random(), Again(self, seconds, work, of_engine=of_engine))

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """After a while, if this life lasts; a freeze puts it off."""
        self.world.after(seconds, partial(self._later, self.life, work))

    def _later(self, life: int, work: Callable[[], None]) -> None:
        if life != self.life or not self.alive:
            return
        if self.world.now < self.frozen_until:
            self.world.after(self.frozen_until - self.world.now + 0.0005, partial(self._later, life, work))
            return
        work()

    def note(self, text: str) -> None:
        if self.world.tracing:
            self.world.note(f"{self.name}: {text}")

    # -- heartbeats -----------------------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        return self.decision.phase if self.decision else Phase.NOT_READY

    def poke(self) -> None:
        """Something changed that the peer should know at once."""
        if not self.poked:
            self.poked = True
            self.later(0.001, self._poked)

    def _poked(self) -> None:
        self.poked = False
        self.beat()

    def beat(self) -> None:
        peer = self.peer
        assert peer is not None
        mine = beat_of(self.state, self.phase, flushed=self.saved)
        sent = Sent(self, self.clock, self.life, self.world.now)
        self.world.send("hb", self.name, peer.name, partial(peer.hear_beat, mine, sent))

    def hear_beat(self, beat: Beat, sent: Sent) -> None:
        if not self.alive:
            return
        if self.frozen:
            self.later(0.0, partial(self.answer, beat, sent))
        else:
            self.answer(beat, sent)

    def answer(self, beat: Beat, sent: Sent) -> None:
        self.post(BeatArrived(beat))
        promise_s = 0.0 if self.flushing else grant_s(self.state, beat_role=beat.role, beat_epoch=beat.epoch)
        if promise_s > 0:
            self.post(PromiseGiven(promise_s))
        mine = beat_of(self.state, self.phase, flushed=self.saved)
        self.world.send("hb", self.name, self.peer_name, partial(sent.node.answered, sent, mine, promise_s))

    def answered(self, sent: Sent, theirs: Beat, promise_s: float) -> None:
        if sent.life != self.life or not self.alive:
            return
        if promise_s > 0:
            self.oracle.on_promise(self.peer_name, sent.world_s + promise_s / self.clock_rate)
        answer = AnswerArrived(theirs, sent.at, promise_s)
        if self.frozen:
            self.later(0.0, partial(self.post, answer))
        else:
            self.post(answer)

    # -- deciding -------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        late_s = max(0.0, self.clock - self.ticked_at - TICK_S)
        self.ticked_at = self.clock
        if late_s > TICK_S or self.world.now - self.stepped_at >= RECENTLY_S:
            self.post(Tick(late_s))

    def post(self, event: Event) -> None:
        self.state = apply(self.state, event, self.clock)
        self.step()

    def step(self) -> None:
        self.stepped_at = self.world.now
        life, world = self.life, self.world
        for _ in range(32):
            going = self._step_once()
            world.stepped()
            if not going or life != self.life or not self.alive:
                self.on_change()
                return
        raise Violation(f"{self.name} does not settle: {self.decision}")

    def _step_once(self) -> bool:
        now, hands = self.clock, self.hands
        decision = decide(self.state, now)
        last, self.decision = self.decision, decision
        if last is None or (last.rule, last.role, last.epoch) != (decision.rule, decision.role, decision.epoch):
            self.rules.add(decision.rule)
            if self.world.tracing:
                self.note(f"{decision.role.value}({decision.epoch}) {decision.rule} {decision.detail}")
            self.on_rule(self, decision.rule)
            self.poke()
        for action in decision.actions:
            if action.lane in EMERGENCY and action.lane not in hands.busy:
                hands.act(action)
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
                self.orders[action.id] = (action.succeeded, action.message)
                self.state = apply(self.state, OrderFinished(action.id), now)
            elif action.lane not in EMERGENCY and action.lane is not Lane.DISK and action.lane not in hands.busy:
                hands.act(action)
        return self.state is not before

    def lanes_busy(self, lanes: frozenset[str]) -> None:
        self.state = apply(self.state, LanesBusy(lanes), self.clock)

    # -- the durable state ----------------------------------------------------------------------------------------

    def disk_fails(self) -> bool:
        return self.world.now < self.disk_full_until

    def flush(self) -> None:
        if self.flushing:
            return
        self.flushing = True
        durable = self.state.durable

        def done() -> None:
            if self.disk_fails():
                self.world.count("save of the state that fails")
                self.later(0.5, tried)
                return
            self.disk = self.saved = durable
            self.orderly = self.lost_power = False  # the slot of the state carries the boot it was written in
            tried()

        def tried() -> None:
            self.flushing = False
            self.step()

        slow = self.world.now < self.disk_slow_until
        self.later(self.random.uniform(0.5, 3.0) if slow else 0.001 + 0.02 * self.random.random(), done)

    # -- the outside ----------------------------------------------------------------------------------------------

    def probe(self) -> bool:
        return self.alive and not self.frozen and probe_ok(self.state, self.clock)[0]

    def order(self, action: str, id: str) -> None:
        if self.alive and self.state.order is None:
            self.note(f"order {action}")
            self.orders[id] = None
            self.later(0.0, lambda: self.post(OrderGiven(Order(action, id, "operator", "test"))))

    def wish(self, wish: Wish) -> None:
        if self.alive:
            self.note(f"wish {wish.value}")
            self.wanted = wish
            self.later(0.0, lambda: self.post(WishGiven(wish, "operator")))

    def set_failover(self, on: bool) -> None:
        self.failover = on
        if self.alive:
            self.note(f"failover {'on' if on else 'off'}")
            self.later(0.0, lambda: self.post(FailoverSet(on, "operator: test")))

    def app_crash(self) -> None:
        if self.alive and self.state.app is App.RUNNING:
            self.note("application crashes")
            self.later(0.0, lambda: self.post(AppReported(App.FAILED, "injected")))

    def settled(self) -> str:
        return f"{self.state.role.value}/{self.phase.value}/{self.decision.rule if self.decision else ''}"
