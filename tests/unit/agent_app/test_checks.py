"""Each kind of test against real sockets, processes and commands of this machine's loopback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from mirror_agent.app.checks import agent_processes, make_check
from mirror_agent.app.finding import Surroundings
from mirror_agent.contract import Checker

from tests.agent_samples import eventually


def checker(kind: str, **more: object) -> Checker:
    return Checker.model_validate({"name": "sample", "kind": kind, "timeout_s": 10.0, **more})


def surroundings(directory: Path, application: tuple[int, ...] = ()) -> Surroundings:
    return Surroundings(directory, lambda: {"PATH": os.environ["PATH"], "GREETING": "hello"}, lambda: application)


@pytest_asyncio.fixture
async def web_port() -> AsyncIterator[int]:
    async def answer(request: web.Request) -> web.Response:
        status = int(request.match_info["status"])
        return web.Response(status=status, headers={"Location": "/200"} if status == 302 else {})

    application = web.Application()
    application.router.add_get("/{status}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_tcp_tells_a_listening_port_from_a_closed_one(web_port: int, tmp_path: Path) -> None:
    check = make_check(checker("tcp", port=web_port), surroundings(tmp_path))
    assert (await check()).healthy
    closed = make_check(checker("tcp", port=1), surroundings(tmp_path))
    finding = await closed()
    assert not finding.healthy
    assert "port 1" in finding.message


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (204, True), (302, False), (404, False), (500, False)])
async def test_http_is_healthy_for_2xx_only(web_port: int, tmp_path: Path, status: int, healthy: bool) -> None:
    check = make_check(checker("http", port=web_port, path=f"/{status}"), surroundings(tmp_path))
    finding = await check()
    assert finding.healthy is healthy
    assert str(status) in finding.message


async def test_http_on_a_closed_port_is_a_failure(tmp_path: Path) -> None:
    assert not (await make_check(checker("http", port=1, path="/"), surroundings(tmp_path))()).healthy


async def test_custom_runs_in_the_module_directory_with_its_environment(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    good = make_check(checker("custom", command='test -e here && test "$GREETING" = hello'), surroundings(tmp_path))
    assert (await good()).healthy
    bad = await make_check(checker("custom", command="echo token=abcdef broken; exit 4"), surroundings(tmp_path))()
    assert not bad.healthy
    assert bad.message.startswith("exit 4: ")
    assert "abcdef" not in bad.message


async def test_a_custom_command_that_hangs_is_killed_with_everything_below_it(tmp_path: Path) -> None:
    command = "/bin/sleep 600 & echo $! > below; wait"
    finding = await make_check(checker("custom", command=command, timeout_s=0.3), surroundings(tmp_path))()
    assert not finding.healthy
    assert "longer than 0.3 s" in finding.message
    below = int((tmp_path / "below").read_text())
    await eventually(lambda: not _alive(below), "the child is dead")


async def test_a_custom_command_without_its_directory_is_a_failure(tmp_path: Path) -> None:
    finding = await make_check(checker("custom", command="true"), surroundings(tmp_path / "missing"))()
    assert not finding.healthy
    assert "missing" in finding.message


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[Any], str]]:
    """A process with a command line of its own, and a pattern that matches it."""
    name = tmp_path / "odd-daemon-name"
    name.symlink_to("/bin/sleep")
    with subprocess.Popen([str(name), "600"]) as running:
        yield running, f"^{name} 600$"
        running.kill()


async def test_process_counts_what_matches(daemon: tuple[subprocess.Popen[Any], str], tmp_path: Path) -> None:
    running, pattern = daemon
    near = surroundings(tmp_path, application=(running.pid,))
    finding = await make_check(checker("process", match=pattern), near)()
    assert finding.healthy
    assert finding.matched == (running.pid,)
    assert not (await make_check(checker("process", match=pattern, at_least=2), near)()).healthy
    assert not (await make_check(checker("process", match=pattern, at_least=0, at_most=0), near)()).healthy
    running.kill()
    running.wait()
    gone = await make_check(checker("process", match=pattern), near)()
    assert not gone.healthy
    assert gone.message.startswith("0 processes match")


async def test_the_agents_own_processes_are_not_the_application(
    daemon: tuple[subprocess.Popen[Any], str], tmp_path: Path
) -> None:
    running, pattern = daemon
    # The daemon is a child of this process and not named as the application: it is the agent's own.
    assert not (await make_check(checker("process", match=pattern), surroundings(tmp_path))()).healthy
    assert running.pid in agent_processes(os.getpid(), ())
    assert running.pid not in agent_processes(os.getpid(), (running.pid,))


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
