"""The application on Windows: started by scripts of cmd.exe, held by a job object, killed for certain."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest_asyncio
from mirror_agent.app import tcp_table
from mirror_agent.app.outcomes import Killed, Prepared, Started, StartFailed, StopFailed, Stopped
from mirror_agent.app.runner import RUN_MARK, ApplicationRunner
from mirror_agent.contract import Application, ApplicationState, ModuleFile
from mirror_agent.paths import Paths
from mirror_agent.platform import HOST, PROCESSES
from mirror_agent.platform.application import TREES

from tests.agent_samples import Recorded, application
from tests.windows.facts import eventually

assert sys.platform == "win32"

MakeRunner = Callable[[Application], ApplicationRunner]
PYTHON = f'"{sys.executable}"'
# Starts a child of its own and forgets it; both write their numbers.
SERVER = textwrap.dedent("""
    import os, subprocess, sys, time
    from pathlib import Path
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.DEVNULL)
    Path("numbers.new").write_text(f"{os.getpid()} {child.pid}")
    Path("numbers.new").replace("numbers")
    print("serving", flush=True)
    time.sleep(600)
    """)
STOP = "import os\nfor pid in open('numbers').read().split():\n    os.kill(int(pid), 15)\n"
START = f'@echo off\nset > environment.txt\nstart /b "" {PYTHON} server.py\necho started\nexit /b 0\n'


def app(start: str = START, stop: str = "@exit /b 0\n", stop_timeout_s: float = 60.0, **more: Any) -> Application:
    files = (ModuleFile(path="server.py", content=SERVER), ModuleFile(path="stop.py", content=STOP))
    return application(start_prim=start, stop_prim=stop, files=files, stop_timeout_s=stop_timeout_s, **more)


@pytest_asyncio.fixture
async def make(tmp_path: Path) -> AsyncIterator[MakeRunner]:
    runners: list[ApplicationRunner] = []

    def made(wanted: Application) -> ApplicationRunner:
        runner = ApplicationRunner(wanted, tmp_path / "module", "a", Recorded(), paths=Paths(tmp_path))
        runners.append(runner)
        return runner

    yield made
    for runner in runners:
        await runner.close()
        assert runner.processes() == []
    assert TREES.leftovers(RUN_MARK, str(tmp_path / "module")) == []


async def numbers(tmp_path: Path) -> list[int]:
    file = tmp_path / "module/numbers"
    await eventually(file.exists, "the server wrote its numbers")
    return [int(word) for word in file.read_text().split()]


def running(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdin=subprocess.DEVNULL)


def gone(pids: list[int]) -> bool:
    return not set(pids) & set(psutil.pids())


async def test_a_script_of_cmd_starts_the_application_and_what_it_leaves_running_is_known(
    make: MakeRunner, tmp_path: Path
) -> None:
    runner = make(app(environment={"GREETING": "hello"}))
    assert isinstance(await runner.prepare(), Prepared)
    assert isinstance(await runner.start(epoch=7, role="PRIM"), Started)
    pids = await numbers(tmp_path)
    assert set(pids) <= set(runner.processes())
    said = dict(line.partition("=")[::2] for line in (tmp_path / "module/environment.txt").read_text().splitlines())
    assert (said["MODULE_NODE"], said["MODULE_EPOCH"], said["MODULE_ROLE"]) == ("a", "7", "PRIM")
    assert said["GREETING"] == "hello"
    assert said["MODULE_DIR"] == str(tmp_path / "module")
    assert any(name.lower() == "systemroot" for name in said)
    logs = [entry for entry in (tmp_path / Paths().layout.log_dir).iterdir() if "start_prim" in entry.name]
    await eventually(lambda: "serving" in logs[0].read_text(), "what the server prints is in the log")
    assert isinstance(await runner.kill_now(deadline_s=10), Killed)
    assert gone(pids)


async def test_a_stop_script_that_ends_it_is_a_graceful_stop(make: MakeRunner, tmp_path: Path) -> None:
    runner = make(app(stop=f"@echo off\n{PYTHON} stop.py\n"))
    assert isinstance(await runner.start(epoch=1, role="PRIM"), Started)
    pids = await numbers(tmp_path)
    stopped = await runner.stop(force=False)
    assert isinstance(stopped, Stopped)
    assert stopped.graceful, stopped.reason
    assert gone(pids)
    assert runner.state is ApplicationState.STOPPED


async def test_what_a_stop_script_leaves_is_killed_at_the_deadline(make: MakeRunner, tmp_path: Path) -> None:
    runner = make(app(stop_timeout_s=1.0))
    assert isinstance(await runner.start(epoch=1, role="PRIM"), Started)
    pids = await numbers(tmp_path)
    stopped = await runner.stop(force=False)
    assert isinstance(stopped, Stopped)
    assert not stopped.graceful
    assert gone(pids)


async def test_a_stop_script_that_hangs_is_killed_with_the_application(make: MakeRunner, tmp_path: Path) -> None:
    hang = f'@{PYTHON} -c "import time; time.sleep(600)"\n'
    runner = make(app(stop=hang, stop_timeout_s=1.0))
    assert isinstance(await runner.start(epoch=1, role="PRIM"), Started)
    pids = await numbers(tmp_path)
    stopped = await runner.stop(force=False)
    assert not isinstance(stopped, StopFailed)
    assert "did not return in time" in stopped.reason
    assert gone(pids)


async def test_a_start_script_that_fails_leaves_nothing_and_says_what_it_printed(make: MakeRunner) -> None:
    runner = make(app(start=f'@echo off\nstart /b "" {PYTHON} server.py\necho the license has expired\nexit /b 3\n'))
    failed = await runner.start(epoch=1, role="PRIM")
    assert isinstance(failed, StartFailed)
    assert "start_prim exited with 3" in failed.reason
    assert "the license has expired" in failed.reason
    assert runner.processes() == []


async def test_a_start_under_way_is_broken_off(make: MakeRunner) -> None:
    runner = make(app(start=f'@{PYTHON} -c "import time; time.sleep(600)"\n'))
    starting = asyncio.create_task(runner.start(epoch=1, role="PRIM"))
    await eventually(lambda: len(runner.processes()) >= 2, "the script runs")
    stopped = await runner.stop(force=True)
    assert isinstance(stopped, Stopped)
    assert isinstance(await starting, StartFailed)
    assert runner.processes() == []


async def test_the_application_ends_with_the_agent_however_that_ends(tmp_path: Path) -> None:
    module = tmp_path / "module"
    module.mkdir()
    (module / "server.py").write_text(SERVER)
    (module / "start.cmd").write_bytes(HOST.script_bytes(START))
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from mirror_agent.platform import HOST
        from mirror_agent.platform.application import TREES

        async def main():
            here = Path(sys.argv[1])
            tree = await TREES.launch()
            environment = HOST.script_environment()
            await tree.run(here / "start.cmd", cwd=here, environment=environment, log=here / "log")
            await asyncio.sleep(600)

        asyncio.run(main())
        """)
    agent = running(program, str(module))
    try:
        pids = await numbers(tmp_path)
    finally:
        agent.kill()
        agent.wait()
    await eventually(lambda: gone(pids), "the system has ended what was in the job")


async def test_the_death_of_a_process_is_an_event() -> None:
    process = running("import time; time.sleep(600)")
    died = asyncio.Event()
    PROCESSES.watch_death(process.pid, died.set)
    assert not died.is_set()
    process.kill()
    async with asyncio.timeout(30):
        await died.wait()
    process.wait()


async def test_command_lines_and_descendants_are_seen() -> None:
    inner = "import time; time.sleep(600)  # the-inner-one"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    process = running(outer)
    try:
        await eventually(
            lambda: any("the-inner-one" in PROCESSES.command_line(pid) for pid in PROCESSES.below(process.pid)),
            "the inner process is seen below the outer one",
        )
        assert process.pid in PROCESSES.living()
        assert process.pid in PROCESSES.below(os.getpid())
    finally:
        PROCESSES.kill_below(process.pid)
        PROCESSES.kill_session(process.pid)
        process.wait()


def test_the_table_ofconnections_is_read_and_only_the_given_ports_are_meant() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            mine = tcp_table.connections({port}, "tcp4")
            assert [(entry.address, entry.peer_port) for entry in mine] == [("127.0.0.1", client.getsockname()[1])]
            assert tcp_table.connections({1}, "tcp4") == []
