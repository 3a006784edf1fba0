"""Who reads the next request."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from mirror_agent.mirror.turns import Turns

_DEADLINE_S = 30.0


@dataclass(eq=False)
class Worker:
    unique: int = 0


def test_giving_the_turn_away_adds_a_thread_only_if_nobody_waits_for_it() -> None:
    added: list[str] = []
    turns = Turns(lambda: added.append("thread"))
    first, second = Worker(), Worker()
    turns.take(first)
    turns.leave(second)
    assert turns.holder is first
    turns.leave(first)
    assert turns.holder is None
    assert added == ["thread"]

    turns.take(first)
    waiting = threading.Thread(target=turns.take, args=(second,))
    waiting.start()
    _until_waiting(turns)
    turns.leave(first)
    waiting.join(_DEADLINE_S)
    assert turns.holder is second
    assert added == ["thread"]


def _until_waiting(turns: Turns) -> None:
    """No event tells that somebody waits: looks until it is so."""
    looked = threading.Event()
    for _ in range(int(_DEADLINE_S / 0.01)):
        if turns._waiting:
            return
        looked.wait(0.01)
    raise AssertionError("nobody waits for the turn")


def test_a_thread_is_relieved_at_the_second_look_at_the_same_request() -> None:
    turns = Turns(lambda: None)
    worker = Worker()
    turns.take(worker)
    for _ in range(3):
        turns.relieve()
    assert turns.holder is worker, "it waits for a request, which is what it should do"

    worker.unique = 8
    turns.relieve()
    worker.unique = 10
    turns.relieve()
    assert turns.holder is worker, "it gets on with its work"
    turns.relieve()
    assert turns.holder is None


def test_after_the_end_nobody_is_added() -> None:
    added: list[str] = []
    turns = Turns(lambda: added.append("thread"))
    first, second = Worker(), Worker()
    turns.take(first)
    turns.end(first)
    turns.take(second)
    turns.end(second)
    assert added == []
