"""Orders given on a node wait for the control plane: each once, in order, over restarts and outages, within a bound."""

from __future__ import annotations

from pathlib import Path

import pytest
from mirror_agent.contract import MAX_ORDERS_PER_POST
from mirror_agent.eventlog import Event
from mirror_agent.net import order_outbox
from mirror_agent.net.order_outbox import LOST_MESSAGE, OrderOutbox
from mirror_agent.web.actions import CONTROL_PLANE

from tests.agent_samples import Recorded

WHO = {"who": "ann (Admin)", "principal": "certificate:3F", "utc": "2026-11-22T12:00:00.000Z", "why": "patch day"}


class Bench:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = Recorded()
        self.poked = 0
        self.outbox = self.again()

    def again(self) -> OrderOutbox:
        """As after a restart of the agent."""
        self.outbox = OrderOutbox(self.path, self.log, changed=self.poke)
        return self.outbox

    def poke(self) -> None:
        self.poked += 1

    def order(self, action: str = "swap", status: str = "succeeded", order: str = "o1") -> None:
        self.outbox.hear(began(action, order))
        self.outbox.hear(ended(action, status, order))


def began(action: str, order: str, **changes: object) -> Event:
    return {"kind": "command.begun", "action": action, "order": order, **WHO, **changes}


def ended(action: str, status: str, order: str, **changes: object) -> Event:
    return {**began(action, order), "kind": "command.ended", "status": status, "message": "as told", **changes}


def refused(action: str) -> Event:
    return {"kind": "console.refused", "action": action, "status": 403, "code": "Forbidden", "message": "no", **WHO}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "orders.json")


def test_an_order_that_ended_is_one_note(bench: Bench) -> None:
    bench.order()
    (note,) = bench.outbox.pending()
    assert (note.number, note.action, note.outcome, note.message) == (1, "swap", "succeeded", "as told")
    assert (note.who, note.principal, note.reason) == (WHO["who"], WHO["principal"], WHO["why"])
    assert bench.poked == 1


@pytest.mark.parametrize("kind", ["agent.start", "witness.write", "command.other"])
def test_other_events_are_none(bench: Bench, kind: str) -> None:
    bench.outbox.hear({"kind": kind, **WHO})
    assert bench.outbox.pending() == ()


def test_orders_of_the_control_plane_are_in_its_journal_already(bench: Bench) -> None:
    bench.outbox.hear(began("stop", "o1", principal=CONTROL_PLANE))
    bench.outbox.hear(ended("stop", "succeeded", "o1", principal=CONTROL_PLANE))
    assert bench.outbox.pending() == ()


def test_a_refusal_is_noted_with_its_code_and_a_question_is_not(bench: Bench) -> None:
    bench.outbox.hear(refused("force"))
    bench.outbox.hear({"kind": "console.refused", "path": "/api/v1/status", "status": 403, "code": "Forbidden", **WHO})
    (note,) = bench.outbox.pending()
    assert (note.action, note.outcome, note.code) == ("force", "refused", "Forbidden")


async def test_half_a_surrogate_pair_in_a_reason_is_kept_as_a_question_mark(bench: Bench) -> None:
    bench.outbox.hear({**refused("force"), "why": "a\ud800b" + "x" * 600})
    (note,) = bench.outbox.pending()
    assert (note.reason[:3], len(note.reason)) == ("a?b", 500)
    assert await bench.outbox.save()


def test_what_was_passed_on_is_told_by_the_node_that_did_it_unless_it_did_not_answer(bench: Bench) -> None:
    passed_on = {"kind": "console.passed-on", "action": "swap", "node": "b", **WHO}
    bench.outbox.hear({**passed_on, "status": 200, "noted": True, "message": "done"})
    bench.outbox.hear({**passed_on, "status": 502, "noted": False, "message": "node b does not answer"})
    (note,) = bench.outbox.pending()
    assert (note.outcome, note.message) == ("unknown", "node b does not answer")


async def test_notes_outlive_a_restart_and_their_numbers_go_on(bench: Bench) -> None:
    bench.order("swap")
    bench.order("verify")
    assert await bench.outbox.save()
    series = bench.outbox.series
    bench.again()
    bench.order("stop")
    assert [(note.number, note.action) for note in bench.outbox.pending()] == [(1, "swap"), (2, "verify"), (3, "stop")]
    assert bench.outbox.series == series


async def test_an_order_the_agent_did_not_survive_has_an_unknown_outcome(bench: Bench) -> None:
    bench.outbox.hear(began("force", "o1"))
    assert await bench.outbox.save()
    bench.again()
    (note,) = bench.outbox.pending()
    assert (note.action, note.outcome, note.message) == ("force", "unknown", LOST_MESSAGE)


async def test_what_is_recorded_goes_and_a_restart_then_begins_a_new_series(bench: Bench) -> None:
    bench.order("swap")
    bench.order("stop")
    bench.outbox.recorded(1)
    assert [note.action for note in bench.outbox.pending()] == ["stop"]
    bench.outbox.recorded(2)
    assert await bench.outbox.save()
    series = bench.outbox.series
    assert bench.again().series != series
    assert bench.outbox.pending() == ()


def test_a_post_takes_the_oldest(bench: Bench) -> None:
    for number in range(MAX_ORDERS_PER_POST + 3):
        bench.order(f"action-{number}")
    assert [note.number for note in bench.outbox.pending()] == list(range(1, MAX_ORDERS_PER_POST + 1))


def test_when_there_are_too_many_a_refused_one_makes_room_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_outbox, "MAX_KEPT", 3)
    bench.order("swap")
    bench.outbox.hear(refused("force"))
    bench.order("stop")
    bench.order("start")
    assert [note.number for note in bench.outbox.pending()] == [1, 3, 4]
    bench.order("verify")
    assert [note.number for note in bench.outbox.pending()] == [3, 4, 5]
    assert bench.log.kinds() == ["orders.given-up"] * 2


async def test_a_disk_that_refuses_is_told_once_and_the_notes_are_sent_all_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "file" / "orders.json")
    (tmp_path / "file").write_text("no directory")
    bench.order()
    assert not await bench.outbox.save()
    assert not await bench.outbox.save()
    assert bench.log.kinds() == ["orders.not-written"]
    assert len(bench.outbox.pending()) == 1


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "orders.json"
    path.write_text("{")
    bench = Bench(path)
    assert bench.log.kinds() == ["orders.damaged"]
    assert (tmp_path / "orders.json.damaged").exists()
    bench.order()
    assert len(bench.outbox.pending()) == 1
