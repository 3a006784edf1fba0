"""A node's turn in a rolling change: what it waits for and refuses, how it proves itself, what a crash leaves."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from mirror_agent.contract import AgentRelease, Phase, Role, RolloutOrder, RolloutStage
from mirror_agent.eventlog import EventLog
from mirror_agent.node.rollout import MAY_GO_DEADLINE_S, Rollout
from mirror_agent.node.rollout_note import RolloutNote, load_note, store_note
from mirror_agent.node.rollout_rules import RolloutFacts, mirror_healthy, mirror_hold
from mirror_agent.paths import Paths

from tests.agent_samples import eventually

GOOD = RolloutFacts(
    hold="", healthy=True, resyncing=False, delivered=True, stored=7, refused="", sentence="holds everything"
)
SERVES = replace(GOOD, hold="this node serves (PRIM); hand the role over first")
ORDER = RolloutOrder(id="op-1", configuration_version=7)


@dataclass
class JumpingClock:
    """Nobody waits: a sleep is over at once, and its time has passed."""

    now: float = 0.0
    slept: Callable[[float], None] = field(default=lambda now: None)

    def now_s(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept(self.now)
        await asyncio.sleep(0)


class Node:
    def __init__(self, root: Path) -> None:
        self.paths = Paths(root)
        self.facts = GOOD
        self.in_use = 6
        self.left = asyncio.Event()
        self.changed = asyncio.Event()
        self.clock = JumpingClock()
        self.log = EventLog(root / "events.jsonl", stderr=io.StringIO())
        self.rollout = self.begun()

    def begun(self) -> Rollout:
        """As after a start of the agent."""
        return Rollout(
            paths=self.paths,
            url="https://plane.example.org",
            credential=lambda: "secret",
            facts=lambda: self.facts,
            in_use_version=lambda: self.in_use,
            leave=self.left.set,
            changed=self.changed.set,
            log=self.log,
            clock=self.clock,
        )

    async def until(self, *stages: RolloutStage) -> None:
        async with asyncio.timeout(30):
            while self.rollout.report.stage not in stages:
                self.changed.clear()
                await self.changed.wait()

    @property
    def kept(self) -> RolloutNote:
        return load_note(self.paths, self.log.record)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_begins_anew_and_proves_itself(node: Node) -> None:
    node.rollout.take(ORDER)
    await asyncio.wait_for(node.left.wait(), 30)
    assert (node.kept.stage, node.kept.order) == (RolloutStage.RESTARTING, "op-1")
    node.in_use, node.facts = 7, replace(GOOD, healthy=False, resyncing=True)
    node.rollout = node.begun()
    node.clock.slept = lambda now: setattr(node, "facts", GOOD) if now > 1000 else None
    proving = asyncio.create_task(node.rollout.run())
    await node.until(RolloutStage.DONE)
    assert node.clock.now > 1000  # a resync takes as long as it takes
    proving.cancel()
    await asyncio.gather(proving, return_exceptions=True)
    node.left.clear()
    node.rollout.take(ORDER)  # repeated by the next answer
    await asyncio.sleep(0)
    assert not node.left.is_set()


async def test_a_configuration_that_was_taken_meanwhile_needs_nothing(node: Node) -> None:
    node.in_use = 7
    node.rollout.take(ORDER)
    await node.until(RolloutStage.DONE)
    assert not node.left.is_set()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (SERVES, "serves (PRIM)"),
        (replace(GOOD, stored=6, refused="configuration 7 is refused: too short"), "too short"),
    ],
)
async def test_waits_and_then_refuses_with_the_reason(node: Node, facts: RolloutFacts, words: str) -> None:
    node.facts = facts
    node.rollout.take(ORDER)
    await node.until(RolloutStage.REFUSED)
    assert node.clock.now >= MAY_GO_DEADLINE_S
    assert words in node.kept.reason
    assert not node.left.is_set()


async def test_goes_as_soon_as_it_may(node: Node) -> None:
    node.facts = SERVES
    node.clock.slept = lambda now: setattr(node, "facts", GOOD) if now > 5 else None
    node.rollout.take(ORDER)
    await asyncio.wait_for(node.left.wait(), 30)


async def test_an_order_that_is_taken_back_changes_nothing(node: Node) -> None:
    node.facts = SERVES
    taken_back = asyncio.Event()

    def take_back(now: float) -> None:
        if now > 2:
            node.rollout.take(None)
            taken_back.set()

    node.clock.slept = take_back
    node.rollout.take(ORDER)
    await asyncio.wait_for(taken_back.wait(), 30)
    for _ in range(5):  # the cancelled work ends
        await asyncio.sleep(0)
    node.facts = GOOD
    assert not node.left.is_set()
    node.clock.slept = lambda now: None
    node.rollout.take(ORDER)
    await asyncio.wait_for(node.left.wait(), 30)


async def test_a_node_whose_environment_is_no_link_says_so(node: Node) -> None:
    node.rollout.take(ORDER.model_copy(update={"agent": _release("0.1.1")}))
    await node.until(RolloutStage.REFUSED)
    assert "replace its VM" in node.kept.reason


async def test_a_release_too_far_away_is_refused_here_too(node: Node) -> None:
    node.rollout.take(ORDER.model_copy(update={"agent": _release("0.4.0")}))
    await node.until(RolloutStage.REFUSED)
    assert "0.4.0" in node.kept.reason
    assert "0.1.0" in node.kept.reason


async def test_a_new_agent_that_does_not_come_up_in_its_time_leaves(node: Node) -> None:
    note = RolloutNote(order="op-1", stage=RolloutStage.PROVING, version="0.1.0", candidate="/x", previous="/y")
    store_note(node.paths, note)
    node.facts = replace(GOOD, healthy=False, sentence="waits for the witness")
    node.rollout = node.begun()
    task = asyncio.create_task(node.rollout.run())
    await asyncio.wait_for(node.left.wait(), 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert node.kept.failed
    assert "waits for the witness" in node.kept.reason
    assert node.clock.now >= note.prove_within_s - 1


async def test_a_start_that_did_not_change_the_environment_is_told(node: Node) -> None:
    store_note(node.paths, RolloutNote(order="op-1", stage=RolloutStage.RESTARTING, candidate="/x", previous="/y"))
    node.rollout = node.begun()
    task = asyncio.create_task(node.rollout.run())
    await node.until(RolloutStage.REFUSED)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "bootstrap.py" in node.kept.reason


async def test_a_disk_that_takes_nothing_does_not_end_a_node_that_works(node: Node) -> None:
    store_note(node.paths, RolloutNote(order="op-1", stage=RolloutStage.RESTARTING, configuration_version=7))
    node.in_use = 7
    node.rollout = node.begun()
    node.paths.rollout_note.unlink()
    node.paths.rollout_note.mkdir()  # what is to be written cannot take its place
    running = asyncio.create_task(node.rollout.run())
    await node.until(RolloutStage.DONE)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    node.paths.rollout_note.rmdir()
    await eventually(lambda: node.kept.stage is RolloutStage.DONE, "it is on the disk after all")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not node.left.is_set()


async def test_what_was_being_written_when_the_order_was_taken_back_is_not_on_the_disk(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor when the agent ends before the disk has done it."""
    goes_on, written = threading.Event(), threading.Event()

    def slow(paths: Paths, note: RolloutNote) -> None:
        assert goes_on.wait(30)
        store_note(paths, note)
        written.set()

    monkeypatch.setattr("mirror_agent.node.rollout.store_note", slow)
    node.rollout.take(ORDER)
    await asyncio.sleep(0)  # it begins to write
    node.rollout.take(None)
    running = asyncio.create_task(node.rollout.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.sleep(0)
    goes_on.set()
    await asyncio.gather(running, return_exceptions=True)  # waits for the order's end
    await asyncio.to_thread(written.wait, 30)
    assert node.kept == RolloutNote()
    assert node.rollout.report.order == ""


async def test_connections_that_still_come_for_the_role_it_handed_over_are_passed_on_first(node: Node) -> None:
    """It would cut them off: the load balancer chooses this node until its next probe of it."""
    window_s = 2 * MAY_GO_DEADLINE_S  # whatever it is: not a reason to refuse
    node.facts = replace(GOOD, relaying=True)
    node.clock.slept = lambda now: setattr(node, "facts", GOOD) if now >= window_s else None
    node.rollout.take(ORDER)
    await asyncio.wait_for(node.left.wait(), 30)
    assert node.clock.now >= window_s


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("stopped", [False, True])
def test_only_a_replica_in_sync_or_a_stopped_node_may_go(role: Role, phase: Phase, stopped: bool) -> None:
    may = mirror_hold(role, phase, stopped=stopped) == ""
    assert may is ((role is Role.SECOND and phase is Phase.READY) or (stopped and role is Role.STOP))
    assert not (role in (Role.PRIM, Role.ALONE) and may)
    if mirror_healthy(role, phase, stopped=stopped):
        assert phase is Phase.READY or stopped


def _release(version: str) -> AgentRelease:
    return AgentRelease(version=version, wheel_name=f"mirror_agent-{version}-py3-none-any.whl", sha256="0" * 64)
