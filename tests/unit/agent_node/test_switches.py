"""Failover and checkers, switched while the node runs: kept over restarts, shared where they must be."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirror_agent.eventlog import EventLog
from mirror_agent.net.peer_wire import Switch
from mirror_agent.node.switches import CONFIGURATION, Switches

from tests.agent_samples import settle


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    made = EventLog(tmp_path / "events.jsonl", stderr=io.StringIO())
    yield made
    made.close()


def switches(tmp_path: Path, log: EventLog, *, name: str = "a", configured: bool = True) -> Switches:
    return Switches(tmp_path / f"{name}.json", configured_failover=configured, log=log)


def exchange(one: Switches, other: Switches) -> None:
    """A heartbeat and its answer."""
    other.learn_failover(one.failover)
    one.learn_failover(other.failover)


async def saved() -> None:
    await asyncio.to_thread(lambda: None)
    for task in asyncio.all_tasks():
        if task.get_name() == "switches":
            await task


async def test_the_configuration_has_the_first_word(tmp_path: Path, log: EventLog) -> None:
    assert switches(tmp_path, log).failover == Switch(True)
    assert switches(tmp_path, log, configured=False).failover == Switch(False)


async def test_a_setting_survives_a_restart(tmp_path: Path, log: EventLog) -> None:
    before = switches(tmp_path, log)
    assert await before.set_failover(False, who="ann", why="patch day")
    assert await before.set_checkers(False, who="ann", why="patch day")
    after = switches(tmp_path, log)
    assert after.failover == Switch(False, 1, "ann", "patch day")
    assert after.checkers == Switch(False, 1, "ann", "patch day")


async def test_it_reaches_the_peer_and_its_disk(tmp_path: Path, log: EventLog) -> None:
    a, b = switches(tmp_path, log), switches(tmp_path, log, name="b")
    exchange(a, b)
    assert a.agreed
    assert b.agreed
    await a.set_failover(False, who="ann", why="patch day")
    assert not a.agreed
    exchange(a, b)
    assert a.agreed
    await saved()
    assert switches(tmp_path, log, name="b").failover.on is False


async def test_a_peer_that_was_away_learns_the_newest(tmp_path: Path, log: EventLog) -> None:
    a, b = switches(tmp_path, log), switches(tmp_path, log, name="b")
    await a.set_failover(False, who="ann", why="")
    await a.set_failover(True, who="ann", why="")
    await b.set_failover(False, who="bob", why="one click, older in serial")
    exchange(b, a)
    exchange(a, b)
    assert a.failover == b.failover == Switch(True, 2, "ann", "")
    await saved()


async def test_two_operators_at_once_end_with_one_setting(tmp_path: Path, log: EventLog) -> None:
    a, b = switches(tmp_path, log), switches(tmp_path, log, name="b")
    await a.set_failover(False, who="ann", why="")
    await b.set_failover(True, who="bob", why="")
    to_b, to_a = a.failover, b.failover
    b.learn_failover(to_b)
    a.learn_failover(to_a)
    assert a.failover == b.failover
    await saved()


async def test_a_changed_configuration_is_the_newest_word(tmp_path: Path, log: EventLog) -> None:
    a = switches(tmp_path, log)
    await a.set_failover(False, who="ann", why="")
    a.configured(True)
    assert a.failover.on is False, "the same configuration again says nothing new"
    a.configured(False)
    assert (a.failover.on, a.failover.who) == (False, CONFIGURATION)
    await saved()
    later = switches(tmp_path, log, configured=True)
    assert (later.failover.on, later.failover.who) == (True, CONFIGURATION), "changed while the agent was away"


async def test_watchers_hear_changes_here_and_at_the_peer(tmp_path: Path, log: EventLog) -> None:
    a = switches(tmp_path, log)
    heard: list[bool] = []
    stop = a.watch(lambda: heard.append(a.failover.on))
    a.learn_failover(Switch(True))
    assert heard == [True], "agreement is news"
    a.learn_failover(Switch(True))
    assert heard == [True], "the same again is not"
    a.learn_failover(Switch(False, 1, "bob"))
    assert heard == [True, False]
    stop()
    await a.set_failover(True, who="ann", why="")
    assert heard == [True, False]
    await saved()


async def test_a_disk_that_refuses_is_said(tmp_path: Path, log: EventLog) -> None:
    a = Switches(tmp_path / "file" / "below.json", configured_failover=True, log=log)
    (tmp_path / "file").touch()
    assert not await a.set_failover(False, who="ann", why="")
    assert a.failover.on is False, "it holds until the restart"
    assert log.tail(1)[0]["kind"] == "switches.not-written"


async def test_a_damaged_file_is_set_aside(tmp_path: Path, log: EventLog) -> None:
    (tmp_path / "a.json").write_text("{torn")
    assert switches(tmp_path, log).failover == Switch(True)
    assert (tmp_path / "a.json.damaged").exists()
    await settle()


async def test_names_and_reasons_are_cut_to_what_a_heartbeat_carries(tmp_path: Path, log: EventLog) -> None:
    a = switches(tmp_path, log)
    await a.set_failover(False, who="x" * 1000, why="y" * 1000)
    assert (len(a.failover.who), len(a.failover.why)) == (128, 200)
