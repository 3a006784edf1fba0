"""What a farm node does, told as stories: what happened on the left, what it decides on the right."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from mirror_agent.contract import Phase, Role
from mirror_agent.core.model import App, Wish
from mirror_agent.farm.decide import RULES
from mirror_agent.farm.events import (
    ApplicationFailed,
    AwayOrdered,
    BackOrdered,
    Event,
    PrepareEnded,
    ProbeRefused,
    RestartOrdered,
    StartEnded,
    StopEnded,
    Tick,
    WishGiven,
)
from mirror_agent.farm.model import LINGER_S, MAX_AWAY_S, RETRY_S, Action, Limits

from tests.unit.farm.play import Play

STOP = WishGiven(Wish.STOP, "ada: maintenance")
RUN = WishGiven(Wish.RUN, "ada")


def test_a_node_prepares_starts_and_serves_once_it_is_found_healthy() -> None:
    play = Play()
    assert (play.decision.rule, play.decision.role, play.decision.phase) == ("preparing", Role.WAIT, Phase.TRANSIENT)
    assert play.tell(PrepareEnded()).rule == "starting"
    assert play.tell(StartEnded()).rule == "warming-up"
    assert not play.decision.serves
    up = play.wait(1.0, proven=True)
    assert (up.rule, up.role, up.phase, up.serves) == ("up", Role.UP, Phase.READY, True)
    assert play.begun == [Action.PREPARE, Action.START]


def test_a_checker_that_fails_once_does_not_take_a_serving_node_out() -> None:
    play = Play()
    play.to_up()
    assert play.wait(1.0, proven=False).serves


def test_a_module_that_cannot_be_prepared_is_tried_again() -> None:
    play = Play()
    refused = play.tell(PrepareEnded("disk full"))
    assert (refused.rule, refused.role, refused.phase) == ("prepare-failed", Role.WAIT, Phase.NOT_READY)
    assert "disk full" in refused.sentence
    play.wait(RETRY_S)
    assert play.begun == [Action.PREPARE, Action.PREPARE]


def test_a_stop_drains_first_until_the_load_balancer_was_told_often_enough() -> None:
    play = Play(limits=Limits(drain_probes=2, drain_s=30.0))
    play.to_up()
    assert play.tell(STOP).rule == "draining"
    assert not play.decision.serves, "the probe says no at once"
    assert play.heard_no(1).rule == "draining"
    play.tell(ProbeRefused())
    assert play.decision.rule == "draining", "connections on their way still get through"
    assert play.wait(LINGER_S).rule == "stopping"
    stopped = play.tell(StopEnded())
    assert (stopped.rule, stopped.role) == ("stopped", Role.STOP)
    assert "ada: maintenance" in stopped.sentence


def test_a_stop_nobody_probes_for_takes_the_longest_time_and_no_more() -> None:
    play = Play(limits=Limits(drain_s=6.0))
    play.to_up()
    play.tell(STOP)
    assert play.wait(5.9).rule == "draining"
    assert play.wait(0.1).rule == "stopping"


def test_a_node_that_never_served_stops_at_once() -> None:
    play = Play()
    play.tell(PrepareEnded(), StartEnded())
    assert play.tell(STOP).rule == "stopping"


def test_a_start_under_way_is_broken_off_and_its_late_end_says_nothing() -> None:
    play = Play()
    play.tell(PrepareEnded())
    assert play.tell(STOP).rule == "stopping"
    assert play.tell(StartEnded("killed on request")).rule == "stopping"
    assert play.tell(StopEnded()).rule == "stopped"
    assert not play.state.failures


def test_a_stop_that_is_taken_back_in_time_costs_nothing() -> None:
    play = Play()
    play.to_up()
    play.tell(STOP)
    assert play.tell(RUN).serves
    assert play.begun == [Action.PREPARE, Action.START]


def test_a_second_stop_drains_anew() -> None:
    play = Play()
    play.to_up()
    play.tell(STOP, ProbeRefused(), RUN)
    assert play.decision.serves
    play.tell(STOP)
    assert play.wait(LINGER_S).rule == "draining", "what was heard before it served again does not count"


def test_a_failed_application_is_stopped_without_draining_and_started_anew() -> None:
    play = Play()
    play.to_up()
    failed = play.tell(ApplicationFailed("checker answers failed 3 times"))
    assert (failed.role, failed.phase, failed.serves) == (Role.UP, Phase.TRANSIENT, False)
    assert play.begun[-1] is Action.STOP
    assert play.tell(StopEnded()).rule == "starting"
    assert play.restarted().serves


def test_the_restart_budget_ends_in_a_stop_that_says_why() -> None:
    play = Play(limits=Limits(restart_limit=3))
    play.to_up()
    for _ in range(3):
        play.tell(ApplicationFailed("it died"))
        assert play.restarted().serves
        play.wait(60.0)
    gone = play.tell(ApplicationFailed("it died again"))
    assert play.state.wish is Wish.STOP
    assert gone.rule == "stopping"
    stopped = play.tell(StopEnded())
    assert (stopped.rule, stopped.role) == ("stopped", Role.STOP)
    assert "4 failures" in stopped.sentence
    assert "it died again" in stopped.sentence
    assert play.tell(RUN).rule == "starting", "a start by somebody is a fresh start"
    assert not play.state.failures


def test_old_failures_leave_the_budget() -> None:
    play = Play(limits=Limits(restart_limit=1, restart_window_s=100.0))
    play.to_up()
    for _ in range(4):
        play.tell(ApplicationFailed("now and then"))
        assert play.restarted().serves
        play.wait(101.0)


def test_a_limit_of_none_restarts_nothing() -> None:
    play = Play(limits=Limits(restart_limit=0))
    play.to_up()
    play.tell(ApplicationFailed("once"))
    assert play.state.wish is Wish.STOP


def test_a_start_that_fails_is_tried_again_after_a_pause() -> None:
    play = Play()
    play.tell(PrepareEnded())
    play.tell(StartEnded("exited with 1"))
    waiting = play.tell(StopEnded())
    assert (waiting.rule, waiting.phase) == ("retry-later", Phase.NOT_READY)
    assert "exited with 1" in waiting.sentence
    assert play.wait(RETRY_S).rule == "starting"


def test_a_stop_that_fails_is_tried_again_and_is_no_failure_of_the_application() -> None:
    play = Play()
    play.to_up()
    play.tell(STOP)
    play.wait(10.0)
    assert play.tell(StopEnded("the kernel still holds [69]")).rule == "stop-failed"
    assert play.wait(RETRY_S).rule == "stopping"
    assert not play.state.failures


def test_an_application_that_cannot_be_stopped_is_not_started_beside_itself() -> None:
    play = Play()
    play.to_up()
    play.tell(ApplicationFailed("it hangs"), StopEnded("the kernel still holds [69]"))
    play.wait(RETRY_S)
    assert play.begun.count(Action.START) == 1
    assert play.begun[-1] is Action.STOP


def test_a_planned_restart_drains_and_is_no_failure() -> None:
    play = Play()
    play.to_up()
    assert play.tell(RestartOrdered()).rule == "draining-for-restart"
    assert play.heard_no().rule == "restarting"
    assert play.tell(StopEnded()).rule == "starting"
    assert play.tell(StartEnded(), Tick(proven=True)).serves
    assert not play.state.failures


def test_away_takes_no_clients_and_keeps_the_application() -> None:
    play = Play()
    play.to_up()
    away = play.tell(AwayOrdered("Reboot of demo-a is announced"))
    assert (away.rule, away.serves) == ("away", False)
    play.heard_no()
    assert play.state.app is App.RUNNING
    assert play.tell(BackOrdered()).serves


def test_a_node_that_was_forgotten_comes_back_by_itself() -> None:
    play = Play()
    play.to_up()
    play.tell(AwayOrdered("Freeze of demo-a is announced"))
    assert play.wait(MAX_AWAY_S - 1).rule == "away"
    assert play.wait(1.0).serves


def every_event(luck: random.Random) -> Event:
    events: list[Event] = [
        Tick(proven=luck.random() < 0.5),
        ProbeRefused(),
        STOP,
        RUN,
        RestartOrdered(),
        AwayOrdered("away"),
        BackOrdered(),
        PrepareEnded(luck.choice(["", "", "no"])),
        StartEnded(luck.choice(["", "", "no"])),
        StopEnded(luck.choice(["", "", "no"])),
        ApplicationFailed("it died"),
    ]
    return luck.choice(events)


def possible(play: Play, event: Event) -> bool:
    """Hands say the end of what they have begun only."""
    match event:
        case PrepareEnded():
            return play.begun.count(Action.PREPARE) > 0 and play.decision.rule == "preparing"
        case StartEnded():
            return play.state.app in (App.STARTING, App.STOPPING)
        case StopEnded():
            return play.state.app is App.STOPPING
        case RestartOrdered():
            return play.state.app is App.RUNNING
        case _:
            return True


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_the_rules_of_the_play_hold(seed: int) -> None:
    luck = random.Random(seed)
    play = Play(limits=Limits(restart_limit=luck.randrange(4), drain_probes=luck.randrange(1, 3)))
    for _ in range(120):
        event = every_event(luck)
        if possible(play, event):
            play.tell(event)
        play.wait(luck.choice([0.0, 0.1, 1.0, 7.0]))
    # Left alone with an application that works, every node ends where it is wanted.
    play.tell(RUN, BackOrdered())
    for _ in range(12):
        match play.state.app:
            case App.STARTING:
                play.tell(StartEnded())
            case App.STOPPING:
                play.tell(StopEnded())
            case _ if play.decision.rule == "preparing":
                play.tell(PrepareEnded())
        play.wait(RETRY_S, proven=True)
    assert play.decision.serves, play.decision


def test_every_rule_is_explained_in_the_documentation() -> None:
    told = (Path(__file__).parents[3] / "docs/farm.md").read_text()
    assert [rule for rule in RULES if f"`{rule}`" not in told] == []
