"""A farm node without a machine: the production rules, a clock that moves when told, and hands that only note."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirror_agent.core.model import App, Instant, Wish
from mirror_agent.farm.decide import decide
from mirror_agent.farm.events import Event, PrepareEnded, ProbeRefused, StartEnded, StopEnded, Tick, WishGiven
from mirror_agent.farm.model import MAX_AWAY_S, Action, Decision, Limits, State, drained, recent_failures
from mirror_agent.farm.reduce import apply, settle

MAX_STEPS = 8
NOON = Instant(1000.0)


@dataclass
class Play:
    """`begun` are the actions in the order they were decided; every step is checked against what must always hold."""

    limits: Limits = field(default_factory=Limits)
    now: Instant = NOON
    begun: list[Action] = field(default_factory=list)
    decision: Decision = field(init=False)
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.state = State(limits=self.limits)
        self._step()

    def tell(self, *events: Event) -> Decision:
        for event in events:
            self.state = apply(self.state, event, self.now)
            self._step()
        return self.decision

    def wait(self, seconds: float, *, proven: bool = False) -> Decision:
        self.now = Instant(self.now + seconds)
        return self.tell(Tick(proven))

    def to_up(self) -> Decision:
        """Prepared, started, found healthy."""
        return self.tell(PrepareEnded(), StartEnded(), Tick(proven=True))

    def restarted(self) -> Decision:
        """What follows a failure, up to the next healthy test."""
        return self.tell(StopEnded(), StartEnded(), Tick(proven=True))

    def heard_no(self, times: int = 1) -> Decision:
        for _ in range(times):
            self.tell(ProbeRefused())
        return self.wait(1.0)

    def _step(self) -> None:
        for _ in range(MAX_STEPS):
            before = self.state
            self.decision = decide(self.state, self.now)
            self._check(before)
            self.state = settle(self.state, self.decision, self.now)
            if self.decision.action is Action.NOTHING:
                return
            self.begun.append(self.decision.action)
            if self.decision.action is Action.GIVE_UP:
                self.state = apply(self.state, WishGiven(Wish.STOP, self.decision.sentence), self.now)
        raise AssertionError(f"unsettled: {self.begun[-MAX_STEPS:]}")

    def _check(self, state: State) -> None:
        """What no sequence of events may break."""
        decision, now = self.decision, self.now
        if decision.serves:
            assert state.app is App.RUNNING, state
            assert state.proven, state
            assert state.wish is Wish.RUN, state
            assert not state.restart, state
            assert not state.away or now - state.away_since >= MAX_AWAY_S, state
        match decision.action:
            case Action.START:
                assert state.app is App.STOPPED, state
                assert state.wish is Wish.RUN, state
                assert recent_failures(state, now) <= state.limits.restart_limit, state
            case Action.STOP:
                assert state.app in (App.STARTING, App.RUNNING, App.FAILED), state
                assert state.app is not App.RUNNING or drained(state, now), "clients are still being sent here"
            case Action.PREPARE:
                assert state.app is App.STOPPED, state
            case Action.GIVE_UP | Action.NOTHING:
                pass
