"""`mirrorctl mirror` on a real pair of engines: a corrupted replica is found, told everywhere, repaired, and kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from mirror_agent import cli
from mirror_agent.app.finding import Surroundings
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.core.model import Epoch
from mirror_agent.mirror.quarantine_store import entries
from mirror_agent.node.engine import Engine
from mirror_agent.node.mirror_operations import MirrorOperations
from mirror_agent.node.report import Reporter
from mirror_agent.node.switches import Switches
from mirror_agent.paths import Paths
from mirror_agent.web.local_api import LocalApi

from tests.agent_samples import Recorded, application, eventually
from tests.lab.mirror.pair import Pair
from tests.unit.agent_node.small_node import SmallNode
from tests.unit.agent_web.control import SampleControl

pytestmark = pytest.mark.lab


async def test_a_corrupted_replica(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = Pair(tmp_path / "pair", relayed=False)
    root = tmp_path / "node"
    small = SmallNode(root)
    replica = Engine(pair.b.config, on_report=lambda _: None, log=Recorded())
    primary = Engine(pair.a.config, on_report=lambda _: operations.observe(primary.status), log=Recorded())
    switches = Switches(root / "switches.json", configured_failover=True, log=small.log)
    checkers = NodeCheckers(application(), Surroundings(root, dict, list), on_trip=lambda *_: None, log=Recorded())
    reporter = Reporter(
        small.node, primary, checkers, switches=switches, peer_paths=dict, cluster="demo", name="a", boot_id="boot",
        start_id="start",
    )  # fmt: skip
    operations = MirrorOperations(
        primary,
        reporter,
        state=lambda: small.node.state,
        mirror_state_dir=pair.a.state_dir,
        quarantine_dir=Path(pair.a.config.quarantine_dir),
        replicated=(str(pair.a.root),),
        log=small.log,
    )
    api = LocalApi(SampleControl(), operations, socket_path=Paths(root).agent_socket, log=Recorded())

    async def mirrorctl(*words: str) -> tuple[int, str]:
        code = await asyncio.to_thread(cli.main, ["--root", str(root), *words])
        return code, capsys.readouterr().out

    try:
        small.start()
        await eventually(lambda: small.node.decision is not None and small.node.decision.rule == "serving-exposed", "")
        await api.start()
        assert await replica.become_replica(Epoch(1)) == ""
        assert await primary.become_primary(Epoch(1), paired=False) == ""
        await eventually(lambda: primary.status.link == "live", "the replica is live")
        await asyncio.to_thread((pair.a.root / "ledger").write_bytes, b"0123456789")
        assert (await mirrorctl("mirror", "verify"))[0] == 0
        (pair.b.root / "ledger").write_bytes(b"0123x56789")

        code, output = await mirrorctl("mirror", "verify", "--json", "--why", "weekly")
        found = [(one["path"], one["kind"]) for one in json.loads(output)["listed"]]
        assert (code, (str(pair.a.root / "ledger"), "content") in found) == (1, True)
        code, output = await mirrorctl("mirror", "status", "--json")
        assert (code, json.loads(output)["verify"]["outcome"]) == (0, "different")
        assert "mirrorplane_mirror_verify_differences{" in (await mirrorctl("metrics"))[1]
        ended = [event for event in small.log.tail(100) if event["kind"] == "mirror.verify-ended"]
        assert [event["outcome"] for event in ended] == ["identical", "different"]
        assert operations.doubt()
        await eventually(lambda: replica.status.verify.differences > 0, "the replica knows")

        assert (await mirrorctl("mirror", "verify", "--repair"))[0] == 0
        assert (pair.b.root / "ledger").read_bytes() == b"0123456789"
        assert operations.doubt() == ""
        kept = entries(pair.b.config.quarantine_dir)
        assert [(one.kind, Path(one.path).name, one.size_bytes) for one in kept] == [("range", "ledger", 10)]
    finally:
        await api.stop()
        await primary.stop()
        await replica.stop()
        await small.close()
