"""A whole agent on Windows: the process that the service runs, on a node of a farm (a farm needs no mirror engine)."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mirror_agent.contract import (
    CONSOLE_PORT,
    PROBE_PORT,
    Application,
    Checker,
    CheckerAction,
    CheckerKind,
    ModuleFile,
)

from tests.agent_samples import Authority
from tests.windows import agent_node
from tests.windows.facts import eventually

assert sys.platform == "win32"

NAME = "shop"
SERVER = """
import os, pathlib, time
number = pathlib.Path("server.pid")
number.with_suffix(".new").write_text(f"{os.getpid()} {time.time_ns()}")
number.with_suffix(".new").replace(number)
time.sleep(3600)
"""


def application() -> Application:
    return Application(
        name=NAME,
        start_prim=f'@echo off\nstart /b "" "{sys.executable}" server.py\nexit /b 0\n',
        stop_prim="@echo stopping\n@exit /b 0\n",
        stop_timeout_s=2.0,
        start_timeout_s=120.0,
        files=(ModuleFile(path="server.py", content=SERVER),),
        checkers=(
            Checker(
                name="server",
                kind=CheckerKind.PROCESS,
                match=r"server\.py",
                interval_s=1.0,
                timeout_s=30.0,
                threshold=1,
                action=CheckerAction.RESTART,
            ),
        ),
    )


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A node; whatever became of the test, nothing of it runs afterwards."""
    before = set(psutil.pids())
    yield tmp_path
    for pid in set(psutil.pids()) - before:
        try:
            process = psutil.Process(pid)
            if "python" in process.name().lower():
                process.kill()
        except (psutil.Error, OSError):  # it is ending, or just beginning
            continue


def probe() -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PROBE_PORT}/var/modules/{NAME}/ready.txt", timeout=10) as said:
            return int(said.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def console(context: ssl.SSLContext) -> int:
    url = f"https://127.0.0.1:{CONSOLE_PORT}/api/v1/status"
    with urllib.request.urlopen(url, context=context, timeout=60) as answer:
        assert json.load(answer)
        return int(answer.status)


def started(paths_dir: Path) -> tuple[int, int]:
    """Number of the server's process, and when it began: numbers are given again at once. (0, 0): not yet."""
    file = paths_dir / "server.pid"
    if not file.exists():
        return 0, 0
    number, _, began_ns = file.read_text().partition(" ")
    return int(number), int(began_ns)


def said_by(root: Path, output: Path) -> str:
    events = root / "Mirrorplane/state/events.jsonl"
    text = events.read_text(encoding="utf-8") if events.exists() else "no events"
    return f"{output.read_text(errors='replace')[-3000:]}\n{text[-6000:]}"


async def serves(agent: subprocess.Popen[bytes], root: Path, output: Path) -> None:
    def serving() -> bool:
        assert agent.poll() is None, said_by(root, output)
        return probe() == 200

    await eventually(serving, "the probe answers 200")


async def test_an_agent_serves_restarts_what_died_and_leaves_nothing(root: Path) -> None:
    authority = Authority(root / "ca")
    paths = agent_node.enrolled(root, authority, application())
    output = root / "output.txt"
    with agent_node.start(root, output) as agent:
        await serves(agent, root, output)
        await eventually(lambda: started(paths.module_dir) != (0, 0), "the server wrote its number")
        first = started(paths.module_dir)
        assert first[0] in psutil.pids()

        # The console shows the cluster's certificate and wants one of a person of the cluster.
        assert console(authority.client(authority.issue("operator", unit="Admin"))) == 200
        state = agent_node.mirrorctl(root, "status")
        assert state.returncode == 0, state.stdout + state.stderr
        assert "UP" in state.stdout

        psutil.Process(first[0]).kill()
        await eventually(lambda: started(paths.module_dir) != first, "the application was started again")
        await serves(agent, root, output)
        second, _ = started(paths.module_dir)
        assert second in psutil.pids()

        assert agent.stdin is not None
        agent.stdin.close()
        code = agent.wait(timeout=300)
        assert code == 0, said_by(root, output)
        assert second not in psutil.pids()
        assert probe() == 0
        kinds = [json.loads(line)["kind"] for line in paths.events.read_text(encoding="utf-8").splitlines()]
        assert "checker.tripped" in kinds
        assert "agent.stop" in kinds


async def test_an_agent_that_is_killed_takes_the_application_with_it(root: Path) -> None:
    paths = agent_node.enrolled(root, Authority(root / "ca"), application())
    output = root / "output.txt"
    with agent_node.start(root, output) as agent:
        await serves(agent, root, output)
        await eventually(lambda: started(paths.module_dir) != (0, 0), "the server wrote its number")
        served, _ = started(paths.module_dir)
        assert served in psutil.pids()
        agent.kill()
        agent.wait()
        await eventually(lambda: served not in psutil.pids(), "the application has ended")


def test_an_application_made_for_linux_is_refused_with_the_remedy(root: Path) -> None:
    unfit = application().model_copy(update={"packages": ("nginx",)})
    agent_node.enrolled(root, Authority(root / "ca"), unfit)
    with agent_node.start(root, root / "output.txt") as agent:
        assert agent.wait(timeout=300) == 78
        assert "is a package of a Linux distribution" in (root / "Mirrorplane/state/events.jsonl").read_text()
