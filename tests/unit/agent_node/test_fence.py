"""Self-fencing: when it is due, what is written down before, and what the machine is told. Nothing here restarts
anything: the strike is always given."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirror_agent.eventlog import EventLog
from mirror_agent.node import fence as fence_module
from mirror_agent.node.fence import UNDYING_S, SelfFence, Undying
from mirror_agent.platform import FenceFailed
from mirror_agent.platform.posix_reboot import fence_impediment, restart_machine

from tests.agent_samples import FakeClock


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    made = EventLog(tmp_path / "events.jsonl", stderr=io.StringIO())
    yield made
    made.close()


class Struck:
    """What was on the disk at the moment of the strike."""

    def __init__(self, log_file: Path, failure: str = "") -> None:
        self._log_file = log_file
        self._failure = failure
        self.recorded: list[list[str]] = []

    def __call__(self) -> None:
        events = [json.loads(line) for line in self._log_file.read_text().splitlines()]
        self.recorded.append([event["kind"] for event in events])
        if self._failure:
            raise FenceFailed(self._failure)


def test_the_rule() -> None:
    undying = Undying()
    assert not undying.seen(10.0, excused=False)
    assert not undying.seen(10.0 + UNDYING_S - 0.1, excused=False)
    assert undying.seen(10.0 + UNDYING_S, excused=False)
    undying.gone()
    assert not undying.seen(100.0, excused=False), "another application, another count"
    assert not undying.seen(200.0, excused=True), "excused: the mirror holds its calls, for one"
    assert not undying.seen(201.0, excused=False), "and counts anew afterwards"


async def test_it_is_written_down_before_it_strikes(log: EventLog, tmp_path: Path) -> None:
    clock, strike = FakeClock(), Struck(tmp_path / "events.jsonl")
    fence = SelfFence(log=log, strike=strike, sync=lambda: None, clock=clock)
    await fence.survived((17, 18), excused=False)
    assert strike.recorded == []
    clock.now += UNDYING_S
    await fence.survived((17,), excused=False)
    assert strike.recorded == [["fence.self"]]
    (event,) = (entry for entry in log.tail(10) if entry["kind"] == "fence.self")
    assert event["pids"] == [17]


async def test_disks_that_do_not_answer_do_not_hold_it_up(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence_module, "SYNC_S", 0.02)
    going_on = threading.Event()

    def hang() -> None:
        going_on.wait()

    clock, strike = FakeClock(), Struck(tmp_path / "events.jsonl")
    fence = SelfFence(log=log, strike=strike, sync=hang, clock=clock)
    try:
        await fence.survived((17,), excused=False)
        clock.now += UNDYING_S
        await fence.survived((17,), excused=False)
        assert len(strike.recorded) == 1
        assert "fence.not-flushed" in [event["kind"] for event in log.tail(10)]
    finally:
        going_on.set()


async def test_a_death_in_time_ends_the_matter(log: EventLog, tmp_path: Path) -> None:
    clock, strike = FakeClock(), Struck(tmp_path / "events.jsonl")
    fence = SelfFence(log=log, strike=strike, sync=lambda: None, clock=clock)
    await fence.survived((17,), excused=False)
    fence.died()
    clock.now += UNDYING_S
    await fence.survived((17,), excused=False)
    assert strike.recorded == []


async def test_a_machine_that_does_not_obey_is_told_again_later(log: EventLog, tmp_path: Path) -> None:
    clock, strike = FakeClock(), Struck(tmp_path / "events.jsonl", failure="not permitted")
    fence = SelfFence(log=log, strike=strike, sync=lambda: None, clock=clock)
    for _ in range(3):
        await fence.survived((17,), excused=False)
        clock.now += UNDYING_S
    assert len(strike.recorded) == 1
    assert "fence.failed" in [event["kind"] for event in log.tail(10)]
    await fence.survived((17,), excused=False)
    assert len(strike.recorded) == 2


def test_first_the_key_then_the_call(tmp_path: Path) -> None:
    trigger = tmp_path / "sysrq-trigger"
    trigger.touch()
    told: list[str] = []
    with pytest.raises(FenceFailed, match=r"had no effect.*reboot.2. had no effect"):
        restart_machine(trigger, lambda: told.append("reboot"), lambda _: told.append(f"waited, {trigger.read_text()}"))
    assert told == ["waited, b", "reboot", "waited, b"]


def test_without_the_key_the_call_is_tried(tmp_path: Path) -> None:
    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted")

    (tmp_path / "file").touch()
    with pytest.raises(FenceFailed, match=r"(Not a directory|No such file .*); reboot.2.: Operation not permitted"):
        restart_machine(tmp_path / "file/sysrq-trigger", refuse, lambda _: None)


@pytest.mark.parametrize(
    ("capabilities", "able"), [("000001ffffffffff", True), ("0000000000400000", True), ("0", False)]
)
def test_what_is_missing_is_said(tmp_path: Path, capabilities: str, able: bool) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tx\nCapEff:\t{capabilities}\n")
    assert (fence_impediment(tmp_path / "none", status) == "") is able


def test_a_writable_key_is_enough(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    (tmp_path / "status").write_text("CapEff:\t0\n")
    assert fence_impediment(tmp_path / "key", tmp_path / "status") == ""


async def test_waiting_that_is_its_right_does_not_count(log: EventLog, tmp_path: Path) -> None:
    clock, strike = FakeClock(), Struck(tmp_path / "events.jsonl")
    fence = SelfFence(log=log, strike=strike, sync=lambda: None, clock=clock)
    for _ in range(5):
        await fence.survived((17,), excused=True)
        clock.now += UNDYING_S
    assert strike.recorded == []
