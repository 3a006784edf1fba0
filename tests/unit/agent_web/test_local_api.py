"""The Unix socket and mirrorctl: what they answer, to whom, and how they fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from mirror_agent import cli
from mirror_agent.paths import Paths
from mirror_agent.web.actions import RequestOutcome
from mirror_agent.web.local_api import LocalApi
from mirror_agent.web.local_client import AgentRefused, ask

from tests.agent_samples import Recorded
from tests.portable import CALLER, SERVICE_QUERY, assert_private, needs_terminal, needs_unix_sockets
from tests.unit.agent_web.control import SampleControl, SampleMirror

AGENT = Path(__file__).parents[3] / "agent"


@dataclass
class Agent:
    root: Path
    control: SampleControl
    log: Recorded

    @property
    def socket(self) -> Path:
        return Paths(self.root).agent_socket

    async def mirrorctl(self, *words: str) -> int:
        return await asyncio.to_thread(cli.main, ["--root", str(self.root), *words])


@pytest_asyncio.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    made = Agent(tmp_path, SampleControl(), Recorded())
    api = LocalApi(made.control, SampleMirror(), socket_path=made.socket, log=made.log)
    await api.start()
    yield made
    await api.stop()
    assert not made.socket.exists()


async def raw(agent: Agent, line: bytes) -> dict[str, object]:
    reader, writer = await asyncio.open_unix_connection(str(agent.socket))
    writer.write(line)
    await writer.drain()
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    decoded: dict[str, object] = json.loads(answer)
    return decoded


async def test_only_root_reaches_the_socket(agent: Agent) -> None:
    assert_private(agent.socket)
    assert_private(agent.socket.parent)


async def test_status_comes_without_secrets(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    assert await agent.mirrorctl("status", "-o", "json") == cli.OK
    shown = json.loads(capsys.readouterr().out)
    assert shown["role"] == "ALONE"
    assert shown["witness"] == {"sas": "[redacted]", "reachable": True}


async def test_tables_for_people(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    assert await agent.mirrorctl("status") == cli.OK
    assert "witness.reachable  yes" in capsys.readouterr().out
    assert await agent.mirrorctl("why") == cli.OK
    out = capsys.readouterr().out
    assert "peer-lost" in out
    assert "inputs[0].peer" in out
    assert await agent.mirrorctl("history", "-n", "3") == cli.OK
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("action", ["swap", "stop", "start", "restart", "stopstart"])
async def test_actions_carry_who_and_why(agent: Agent, action: str) -> None:
    assert await agent.mirrorctl(action, "--reason", "patch day") == cli.OK
    ((name, who, reason),) = agent.control.requests
    assert (name, reason) == (action, "patch day")
    assert who.startswith(f"mirrorctl ({CALLER}")


@pytest.mark.parametrize("switch", ["failover", "checkers"])
@pytest.mark.parametrize("setting", ["on", "off"])
async def test_switches(agent: Agent, switch: str, setting: str) -> None:
    assert await agent.mirrorctl(switch, setting, "--why", "patch day") == cli.OK
    ((name, _, reason),) = agent.control.requests
    assert (name, reason) == (f"{switch}-{setting}", "patch day")


async def test_a_forced_start_is_asked_for_in_full(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["prim"], ["prim", "--force"], ["prim", "--why", "b burnt"], ["prim", "--force", "--why", " "]):
        assert await agent.mirrorctl(*words) == cli.USAGE
        assert "prim --force --why" in capsys.readouterr().err
    assert await agent.mirrorctl("prim", "--force", "--why", "b burnt") == cli.USAGE, "no terminal and no --yes"
    assert "--yes" in capsys.readouterr().err
    assert agent.control.requests == []
    assert await agent.mirrorctl("prim", "--force", "--why", "b burnt", "--yes") == cli.OK
    ((name, _, reason),) = agent.control.requests
    assert (name, reason, agent.control.confirmations) == ("force", "b burnt", ["demo"])


@needs_terminal
async def test_on_a_terminal_a_forced_start_asks_for_the_clusters_name(
    agent: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    def typing(text: bytes) -> int:
        master, terminal = os.openpty()
        try:
            os.write(master, text)
            with open(terminal, closefd=True) as stdin, contextlib.ExitStack() as stack:
                stack.callback(setattr, sys, "stdin", sys.stdin)
                sys.stdin = stdin
                return cli.main(["--root", str(agent.root), "prim", "--force", "--why", "b burnt"])
        finally:
            os.close(master)

    assert await asyncio.to_thread(typing, b"prod\n") == cli.FAILED
    assert "nothing was done" in capsys.readouterr().err
    assert agent.control.requests == []
    assert await asyncio.to_thread(typing, b"demo\n") == cli.OK
    assert agent.control.confirmations == ["demo"]


async def test_a_drill_is_a_list_of_permissions(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    assert await agent.mirrorctl("drill") == cli.OK
    out = capsys.readouterr().out
    assert "promote       yes It would.  [takeover]" in out
    assert "supposing that silence" in out
    assert "\\x1b[31m need" in out, "a terminal command is shown, not obeyed"
    assert agent.control.requests == []


async def test_a_refused_action_is_a_failure(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    agent.control.outcome = RequestOutcome("refused", "no peer in sync")
    assert await agent.mirrorctl("swap") == cli.FAILED
    assert "no peer in sync" in capsys.readouterr().out


def test_mirrorctl_answers_at_once() -> None:
    """It imports neither the HTTP library nor the models: on a busy node an operator must not wait for them."""
    code = "import sys, mirror_agent.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=AGENT)
    heavy = {"aiohttp", "pydantic", "cryptography", "asyncio"} & set(done.stdout.split())
    assert heavy == set()


@needs_unix_sockets
async def test_requests_that_make_no_sense_are_answered(agent: Agent) -> None:
    assert "did you mean 'status'" in str(await raw(agent, b'{"op": "statsu"}\n'))
    assert "bad-request" in str(await raw(agent, b"not json\n"))
    assert "extra" in str(await raw(agent, b'{"op": "status", "extra": 1}\n'))
    assert "too-long" in str(await raw(agent, b"x" * 200_000 + b"\n"))
    assert (await raw(agent, b'{"op": "status"}\n'))["ok"] is True


async def test_an_inner_failure_is_recorded_and_the_server_goes_on(agent: Agent) -> None:
    agent.control.broken = True
    with pytest.raises(AgentRefused, match="RuntimeError"):
        await asyncio.to_thread(ask, agent.socket, "status")
    assert agent.log.kinds() == ["local-api.failed"]
    agent.control.broken = False
    assert (await asyncio.to_thread(ask, agent.socket, "status"))["node"] == "a"


async def test_a_second_agent_does_not_take_the_socket_of_a_living_one(agent: Agent) -> None:
    second = LocalApi(agent.control, SampleMirror(), socket_path=agent.socket, log=agent.log)
    with pytest.raises(RuntimeError, match="another agent answers"):
        await second.start()
    assert await agent.mirrorctl("status") == cli.OK


@needs_unix_sockets
async def test_a_socket_of_a_dead_agent_is_replaced(tmp_path: Path) -> None:
    path = Paths(tmp_path).agent_socket
    path.parent.mkdir(parents=True)
    dead = await asyncio.start_unix_server(lambda _reader, writer: writer.close(), path=str(path))
    dead.close()
    await dead.wait_closed()
    path.unlink(missing_ok=True)
    path.touch()
    api = LocalApi(SampleControl(), SampleMirror(), socket_path=path, log=Recorded())
    await api.start()
    assert (await asyncio.to_thread(ask, path, "status"))["node"] == "a"
    await api.stop()


def test_without_an_agent_the_code_and_the_sentence_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--root", str(tmp_path), "status"]) == cli.AGENT_AWAY
    assert SERVICE_QUERY in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["statsu"], "did you mean 'status'"),
        (["enroll"], "did you mean 'enrol'"),
        (["xyz"], "use one of status"),
        (["history", "--limti", "3"], "did you mean '--limit'"),
        (["prim", "--froce"], "did you mean '--force'"),
        (["failovr", "off"], "did you mean 'failover'"),
        (["failover", "of"], "neither 'on' nor 'off'"),
        (["checkers"], "on|off"),
        (["dril"], "did you mean 'drill'"),
        (["stopstrat"], "did you mean 'stopstart'"),
        ([], "COMMAND"),
    ],
)
def test_misspelt_words_name_the_nearest(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == cli.USAGE
    assert hint in capsys.readouterr().err
