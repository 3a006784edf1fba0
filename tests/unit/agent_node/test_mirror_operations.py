"""Orders about the copies: refused with the reason, written down with who and why; what a verify found is told."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest_asyncio
from mirror_agent.app.finding import Surroundings
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.core.model import Durable, Epoch, Record
from mirror_agent.mirror.quarantine import Quarantine
from mirror_agent.mirror.status import MirrorStatus, VerifyStatus
from mirror_agent.mirror.verify_record import Difference, VerifyRecord, VerifyStore
from mirror_agent.node.build import mirror_config
from mirror_agent.node.commands import Commands
from mirror_agent.node.engine import Engine
from mirror_agent.node.mirror_operations import MirrorOperations
from mirror_agent.node.probe_rhythm import ProbeRhythm
from mirror_agent.node.report import Reporter
from mirror_agent.node.switches import Switches
from mirror_agent.paths import Paths
from mirror_agent.web import mirror_control
from mirror_agent.web.actions import NodeAction, NodeRequest
from mirror_agent.web.mirror_control import MirrorRequest

from tests.agent_samples import Recorded, application, configuration, eventually
from tests.unit.agent_node.small_node import B, SmallNode

REPLICATED = os.path.abspath("/data/app")

PRIMARY = MirrorStatus(mode="primary", link="live", acknowledging="paired")


@dataclass
class Bench:
    small: SmallNode
    engine: Engine
    operations: MirrorOperations
    commands: Commands
    paths: Paths

    async def order(self, op: str, kept: str = "", target: str = "") -> tuple[str, str]:
        outcome = await self.operations.operate(MirrorRequest(op, "ann", "patch day", kept=kept, target=target))
        return outcome.status, outcome.message

    def events(self, kind: str) -> list[dict[str, object]]:
        return [event for event in self.small.log.tail(1000) if event["kind"] == kind]


def bench_on(small: SmallNode, tmp_path: Path) -> Bench:
    paths = Paths(tmp_path)
    switches = Switches(tmp_path / "switches.json", configured_failover=True, log=small.log)
    checkers = NodeCheckers(application(), Surroundings(tmp_path, dict, list), on_trip=lambda *_: None, log=Recorded())
    config = mirror_config(configuration(), paths)
    engine = Engine(config, on_report=lambda _: None, log=Recorded())
    reporter = Reporter(
        small.node, engine, checkers, switches=switches, peer_paths=dict, cluster="demo", name="a", boot_id="boot",
        start_id="start",
    )  # fmt: skip
    operations = MirrorOperations(
        engine,
        reporter,
        state=lambda: small.node.state,
        mirror_state_dir=Path(config.state_dir),
        quarantine_dir=paths.quarantine_dir,
        replicated=(REPLICATED,),
        log=small.log,
    )
    commands = Commands(
        small.node,
        reporter,
        cluster="demo",
        switches=switches,
        rhythm=ProbeRhythm(interval_s=5.0, slack_s=0.5),
        self_fence=lambda: "",
        log=small.log,
        doubt=operations.doubt,
    )
    return Bench(small, engine, operations, commands, paths)


@pytest_asyncio.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Bench]:
    small = SmallNode(tmp_path)
    small.start()
    await eventually(lambda: small.node.decision is not None and small.node.decision.rule == "serving-exposed", "ALONE")
    yield bench_on(small, tmp_path)
    await small.close()


@pytest_asyncio.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[Bench]:
    small = SmallNode(tmp_path, record=Record(Epoch(8), B, frozenset({B}), "id-b.1"), durable=Durable(identity="id-a"))
    small.start()
    await eventually(lambda: small.node.decision is not None and small.node.decision.rule == "not-in-sync", "WAIT")
    yield bench_on(small, tmp_path)
    await small.close()


async def test_only_the_serving_node_verifies_and_resynchronises(waiting: Bench) -> None:
    for op in (mirror_control.VERIFY, mirror_control.REPAIR, mirror_control.RESYNC):
        status, message = await waiting.order(op)
        assert status == "refused"
        assert "this node is WAIT" in message
    begun = [(event["action"], event["who"], event["why"]) for event in waiting.events("command.begun")]
    assert begun[0] == ("mirror-verify", "ann", "patch day")
    assert [event["status"] for event in waiting.events("command.ended")] == ["refused"] * 3


async def test_a_resync_is_refused_where_it_would_cost_something(serving: Bench) -> None:
    assert await serving.order(mirror_control.VERIFY) == ("refused", "the mirror engine is not running")
    assert "there is no complete replica" in (await serving.order(mirror_control.RESYNC))[1]
    serving.engine._status = replace(PRIMARY, verify=VerifyStatus(running=True))
    assert "a verify is under way" in (await serving.order(mirror_control.RESYNC))[1]
    serving.engine._status = PRIMARY
    assert "heartbeats are not heard" in (await serving.order(mirror_control.RESYNC))[1]


async def test_what_a_verify_found_is_told_once_on_every_node(serving: Bench) -> None:
    operations = serving.operations
    clean = VerifyStatus(outcome="identical", ended_utc="2026-11-22T15:00:00+00:00")
    differs = VerifyStatus(outcome="different", ended_utc="2026-11-22T15:10:00+00:00", differences=3)
    replica = MirrorStatus(mode="replica", link="live")
    for status in (replica, replace(replica, verify=clean), *[replace(replica, verify=differs)] * 3):
        operations.observe(status)
    told = [(event["outcome"], event["differences"]) for event in serving.events("mirror.verify-ended")]
    assert told == [("identical", 0), ("different", 3)]
    operations.observe(replace(PRIMARY, verify=differs))
    operations.observe(replace(PRIMARY, verify=differs))
    operations.observe(MirrorStatus())
    operations.observe(replace(replica, verify=differs))
    assert [event["differences"] for event in serving.events("mirror.serves-a-different-copy")] == [3]
    assert len(serving.events("mirror.verify-ended")) == 2, "not told again because the engine was restarted"


async def test_differences_of_an_earlier_life_are_told_again(serving: Bench) -> None:
    differs = VerifyStatus(outcome="different", ended_utc="2026-11-22T15:10:00+00:00", differences=1)
    serving.operations.observe(MirrorStatus())
    serving.operations.observe(MirrorStatus(mode="replica", verify=differs))
    assert len(serving.events("mirror.verify-ended")) == 1


async def test_a_planned_exchange_waits_for_the_repair(serving: Bench) -> None:
    differs = VerifyStatus(outcome="different", ended_utc="2026-11-22T15:10:00+00:00", differences=2)
    serving.engine._status = replace(PRIMARY, verify=differs)
    outcome = await serving.commands.request(NodeRequest(NodeAction.SWAP, "ann", "patch day"))
    assert outcome.status == "refused"
    assert "2 differences" in outcome.message
    assert "mirror verify --repair" in outcome.message


def something_known(serving: Bench, tmp_path: Path) -> None:
    """A verify found a difference, and a resync kept eight bytes."""
    state_dir = Path(mirror_config(configuration(), serving.paths).state_dir)
    state_dir.mkdir(parents=True)
    listed = (Difference("/data/app/x", "content", "", 0, 65536),)
    VerifyStore(state_dir).save(VerifyRecord("different", "then", "now", 3, found=1, differences=1, listed=listed))
    (tmp_path / "precious").write_bytes(b"precious")
    quarantine = Quarantine(str(serving.paths.quarantine_dir), "20261122T150000Z-epoch3-ab")
    with open(tmp_path / "precious", "rb") as stream:
        quarantine.keep_range("/data/app/x", stream.fileno(), 0, 8)
    quarantine.close()


async def test_the_last_verify_and_the_quarantine_are_read(serving: Bench, tmp_path: Path) -> None:
    operations = serving.operations
    assert await operations.verified() == {}
    assert await operations.quarantine() == []
    something_known(serving, tmp_path)
    verified = await operations.verified()
    difference = Difference("/data/app/x", "content", "", 0, 65536)
    assert (verified["differences"], verified["listed"]) == (1, (asdict(difference),))
    (kept,) = await operations.quarantine()
    target = tmp_path / "back"
    restored = await serving.order(mirror_control.RESTORE, kept=str(kept["id"]), target=str(target))
    assert restored == ("succeeded", f"range of /data/app/x is at {target}")
    assert target.read_bytes() == b"precious"
    again = await serving.order(mirror_control.RESTORE, kept=str(kept["id"]), target=str(target))
    assert again[0] == "failed"
    assert "nothing is overwritten" in again[1]
    assert (await serving.order(mirror_control.RESTORE, kept="x", target="relative"))[0] == "refused"


async def test_nothing_is_restored_into_a_replica(waiting: Bench) -> None:
    name = os.path.basename(REPLICATED)
    for target in (os.path.join(REPLICATED, "sub", "file"), REPLICATED, os.path.join(REPLICATED, "..", name, "file")):
        status, message = await waiting.order(mirror_control.RESTORE, kept="x/0", target=target)
        assert status == "refused"
        assert "on the serving node only" in message
