"""`mirrorctl mirror …`: what is asked of the agent, what is printed, and the exit codes a script relies on."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from mirror_agent import cli, cli_mirror
from mirror_agent.mirror.quarantine_store import Kept
from mirror_agent.mirror.verify_record import Difference
from mirror_agent.paths import Paths
from mirror_agent.web.actions import RequestOutcome
from mirror_agent.web.local_api import LocalApi

from tests.agent_samples import Recorded
from tests.portable import CALLER
from tests.unit.agent_web.control import SampleControl, SampleMirror

TARGET = os.path.abspath("/tmp/x")
DIFFERENT: dict[str, object] = {
    "outcome": "different",
    "found": 2,
    "repaired": 0,
    "differences": 2,
    "entries": 9,
    "content_bytes": 123,
    "reason": "",
    "listed": [
        asdict(Difference("/data/x", "content", "", 65536, 65536)),
        asdict(Difference("/data/\u001b[31my", "mode", "0600 for 0644", repaired=True)),
    ],
}


@dataclass
class Agent:
    root: Path
    mirror: SampleMirror

    async def mirrorctl(self, *words: str) -> int:
        return await asyncio.to_thread(cli.main, ["--root", str(self.root), *words])


@pytest_asyncio.fixture
async def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Agent]:
    monkeypatch.setattr(cli_mirror, "_POLL_S", 0.001)
    made = Agent(tmp_path, SampleMirror())
    api = LocalApi(SampleControl(), made.mirror, socket_path=Paths(tmp_path).agent_socket, log=Recorded())
    await api.start()
    yield made
    await api.stop()


async def test_a_verify_is_waited_for_and_its_differences_are_an_exit_code(
    agent: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    agent.mirror.polls = 3
    agent.mirror.record = DIFFERENT
    assert await agent.mirrorctl("mirror", "verify", "--rate", "2", "--why", "weekly") == 1
    (asked,) = agent.mirror.requests
    assert (asked.op, asked.why, asked.rate_bytes_per_s) == ("mirror-verify", "weekly", 2 * 1024 * 1024)
    assert asked.who.startswith(f"mirrorctl ({CALLER}")
    assert agent.mirror.polls == 0
    assert capsys.readouterr().out.splitlines() == [
        "content    /data/x bytes 65536+65536",
        "mode       /data/\\x1b[31my (0600 for 0644), repaired",
        "different; 9 entries, 123 bytes compared; 2 differences found, 0 repaired, 2 stand",
    ]


async def test_a_clean_repair_is_fine_and_comes_as_json(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    agent.mirror.record = {**DIFFERENT, "outcome": "identical"}
    assert await agent.mirrorctl("mirror", "verify", "--repair", "--json") == 0
    assert agent.mirror.requests[0].op == "mirror-repair"
    assert json.loads(capsys.readouterr().out)["outcome"] == "identical"


async def test_not_waiting_and_stopping(agent: Agent) -> None:
    assert await agent.mirrorctl("mirror", "verify", "--no-wait") == 0
    assert await agent.mirrorctl("mirror", "verify", "--stop") == 0
    assert [asked.op for asked in agent.mirror.requests] == ["mirror-verify", "mirror-verify-stop"]


async def test_what_is_refused_is_an_exit_code(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    agent.mirror.outcome = RequestOutcome("refused", "this node is SECOND")
    assert await agent.mirrorctl("mirror", "resync", "--why", "disk was replaced") == 1
    assert await agent.mirrorctl("mirror", "verify") == 1
    assert "this node is SECOND" in capsys.readouterr().out


async def test_the_quarantine_is_listed_and_restored(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    agent.mirror.kept = [
        asdict(Kept("20261122T150000Z-epoch3-ab/0", "range", "/data/x", "2026-11-22T15:00:00+00:00", 65536, 131072))
    ]
    assert await agent.mirrorctl("mirror", "quarantine", "list") == 0
    line = capsys.readouterr().out
    assert line.startswith("20261122T150000Z-epoch3-ab/0")
    assert line.endswith("range         65536  /data/x at 131072\n")
    assert await agent.mirrorctl("mirror", "quarantine", "restore", "20261122T150000Z-epoch3-ab/0", "/tmp/x") == 0
    asked = agent.mirror.requests[0]
    assert (asked.op, asked.kept) == ("mirror-restore", "20261122T150000Z-epoch3-ab/0")
    assert asked.target == TARGET


async def test_status_and_metrics(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    assert await agent.mirrorctl("mirror", "status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["link"] == "live"
    assert await agent.mirrorctl("metrics") == 0
    assert capsys.readouterr().out.endswith("mirrorplane_node_epoch 4\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["mirror", "verfy"], "did you mean 'verify'"),
        (["mirror", "quarantine", "lst"], "did you mean 'list'"),
        (["miror"], "did you mean 'mirror'"),
        (["mirror", "verify", "--rate", "fast"], "no rate in MiB/s"),
        (["mirror"], "required: VERB"),
        (["mirror", "verify", "--repaired"], "did you mean '--repair'"),
    ],
)
async def test_wrong_words_get_the_nearest_valid_one(
    agent: Agent, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        await agent.mirrorctl(*words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
    assert agent.mirror.requests == []
