"""The node's view of a real engine: what is stopped on purpose is never reported as failed."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from mirror_agent.core.model import Epoch, Mirror, Mode
from mirror_agent.mirror import mounts
from mirror_agent.mirror.control import MirrorConfig, MirroredPath
from mirror_agent.node.engine import Engine

from tests.agent_samples import Recorded, eventually
from tests.lab.mirror.pair import CLUSTER, Authority

pytestmark = pytest.mark.lab


async def nobody() -> None:
    """No application runs."""


@dataclass
class Bench:
    root: Path
    reports: list[Mirror] = field(default_factory=list)

    def __post_init__(self) -> None:
        certificate, key = (authority := Authority(self.root / "ca")).issue("a")
        config = MirrorConfig(
            cluster_id=CLUSTER,
            node="a",
            peer="b",
            peer_addresses=("127.0.72.5",),
            listen_address="127.0.72.4",
            port=5600,
            paths=(MirroredPath(str(self.root / "data"), "strict", name="/data"),),
            state_dir=str(self.root / "state"),
            quarantine_dir=str(self.root / "quarantine"),
            runtime_dir=str(self.root / "run"),
            certificate_file=str(certificate),
            key_file=str(key),
            ca_file=str(authority.ca_file),
            peer_san=f"b.{CLUSTER}.mirror",
        )
        (self.root / "data").mkdir()
        self.engine = Engine(config, on_report=self.reports.append, log=Recorded())

    def modes(self) -> list[Mode]:
        return [report.mode for report in self.reports]


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.engine.stop()
    assert mounts.mounted(str(tmp_path / "data")) == []


async def test_an_engine_stopped_on_purpose_has_not_failed(bench: Bench) -> None:
    assert await bench.engine.become_replica(Epoch(3)) == ""
    assert bench.modes()[-1] is Mode.REPLICA
    assert await bench.engine.stop() == ""
    assert bench.modes()[-1] is Mode.STOPPED
    assert await bench.engine.become_primary(Epoch(4), paired=False) == ""
    assert await bench.engine.abort(nobody) == ""
    assert Mode.FAILED not in bench.modes()


async def test_an_abort_uncovers_the_directory_only_when_its_users_are_killed(bench: Bench) -> None:
    """Below the mount lies the directory itself: a process that opened its files anew would write there."""
    data = bench.root / "data"
    assert await bench.engine.become_primary(Epoch(4), paired=False) == ""
    (data / "before").write_text("x")
    found: list[int | None] = []

    async def users_killed() -> None:
        for path in ("before", "anew"):
            try:
                (data / path).write_text("past the mirror")
            except OSError as error:
                found.append(error.errno)

    assert await bench.engine.abort(users_killed) == ""
    assert found == [errno.ENOTCONN, errno.ENOTCONN]
    assert mounts.mounted(str(data)) == []
    assert [path.name for path in data.iterdir()] == ["before"]
    assert (data / "before").read_text() == "x"


async def test_an_engine_that_dies_has(bench: Bench) -> None:
    assert await bench.engine.become_replica(Epoch(3)) == ""
    handle = bench.engine._handle
    assert handle is not None
    assert handle._process is not None
    handle._process.kill()
    await eventually(lambda: bench.modes()[-1] is Mode.FAILED, "the death is reported")
    assert await bench.engine.become_replica(Epoch(3)) == ""
    assert bench.modes()[-1] is Mode.REPLICA


async def test_a_stop_in_the_middle_of_a_launch_leaves_no_engine(bench: Bench) -> None:
    becoming = asyncio.create_task(bench.engine.become_primary(Epoch(4), paired=False))
    await asyncio.sleep(0)
    assert await bench.engine.stop() == ""
    assert "stopped while" in await becoming
    assert bench.modes()[-1] is Mode.STOPPED
    assert mounts.mounted(str(bench.root / "data")) == []
