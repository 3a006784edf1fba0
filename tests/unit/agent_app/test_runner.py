"""The application is started, stopped and killed for certain: real processes below a real runner child."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from mirror_agent.app.outcomes import Killed, Prepared, PrepareFailed, Started, StartFailed, Stopped
from mirror_agent.app.processes import ProcessStat, read_stat, send_signal, signal_all, tagged_processes
from mirror_agent.app.runner import RUN_MARK, ApplicationRunner
from mirror_agent.contract import Application, ApplicationState, ModuleFile
from mirror_agent.paths import Paths

from tests.agent_samples import Recorded, application, eventually

MakeRunner = Callable[[Application], ApplicationRunner]

# Forks twice with a session of its own, as daemons do; writes the number of the last child.
DAEMON = """
setsid /bin/sh -c '(/bin/sleep 600 & echo $! > daemon.pid) &' &
while [ ! -s daemon.pid ]; do sleep 0.02; done
"""
# Longer than any test, and not for ever: a run that is killed must leave nothing that works on.
FOR_A_WHILE = "i=0; while [ $i -lt 2400 ]; do i=$((i + 1)); sleep 0.05; done"


def is_dead(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is None or not stat.alive


async def reaper_of(pid: int) -> ProcessStat:
    """The reaper of a daemon, once the forks between the two have ended: the daemon tells its number before that."""

    def adopted() -> bool:
        stat = read_stat(pid)
        assert stat is not None, f"process {pid} is gone"
        try:
            return "reaper" in Path(f"/proc/{stat.parent}/cmdline").read_text()
        except FileNotFoundError:
            return False

    await eventually(adopted, "the reaper has the daemon")
    daemon = read_stat(pid)
    reaper = None if daemon is None else read_stat(daemon.parent)
    assert reaper is not None
    return reaper


def is_free(path: Path) -> bool:
    """No process holds the lock of this file."""
    with path.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def swept(tmp_path: Path) -> int:
    """How many processes of the test's applications were left; they are gone now."""
    return signal_all(tagged_processes(RUN_MARK, str(tmp_path / "module")), signal.SIGKILL)


@pytest_asyncio.fixture
async def make(tmp_path: Path) -> AsyncIterator[MakeRunner]:
    runners: list[ApplicationRunner] = []

    def made(app: Application) -> ApplicationRunner:
        runner = ApplicationRunner(app, tmp_path / "module", "a", Recorded(), paths=Paths(tmp_path))
        runners.append(runner)
        return runner

    yield made
    for runner in runners:
        await runner.close()
        assert runner.processes() == []
    assert swept(tmp_path) == 0


async def daemon_pid(tmp_path: Path) -> int:
    file = tmp_path / "module/daemon.pid"
    await eventually(lambda: file.exists() and file.read_text().strip().isdigit(), "the daemon wrote its number")
    return int(file.read_text())


async def test_start_gives_the_script_its_environment_and_keeps_its_output(make: MakeRunner, tmp_path: Path) -> None:
    script = 'echo "$MODULE_NODE $MODULE_EPOCH $MODULE_ROLE $GREETING $(pwd)" > seen; echo said; /bin/sleep 600 &\n'
    runner = make(application(start_prim=script, environment={"GREETING": "hello"}))
    assert isinstance(await runner.start(epoch=7, role="ALONE"), Started)
    assert runner.state is ApplicationState.RUNNING
    assert (tmp_path / "module/seen").read_text() == f"a 7 ALONE hello {tmp_path}/module\n"
    assert len(runner.processes()) == 1
    (log,) = (tmp_path / "var/log/mirrorplane").glob("sample-*-start_prim.log")
    await eventually(lambda: log.read_text() == "said\n", "the output is in the log")
    assert log.stat().st_mode & 0o777 == 0o600


async def test_the_supervisors_environment_does_not_reach_the_application(
    make: MakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_SUPERVISOR", "x")
    runner = make(application(start_prim="env > seen\n"))
    assert isinstance(await runner.start(epoch=1, role="ALONE"), Started)
    assert "A_SECRET_OF_THE_SUPERVISOR" not in (tmp_path / "module/seen").read_text()


async def test_a_failed_start_leaves_nothing_running_and_says_why(make: MakeRunner, tmp_path: Path) -> None:
    runner = make(application(start_prim=DAEMON + "echo the disk is missing >&2; exit 3\n"))
    outcome = await runner.start(epoch=1, role="ALONE")
    assert isinstance(outcome, StartFailed)
    assert outcome.reason == "start_prim exited with 3: the disk is missing"
    assert runner.state is ApplicationState.FAILED
    assert is_dead(await daemon_pid(tmp_path))


async def test_a_command_that_fails_inside_the_script_fails_the_start(make: MakeRunner) -> None:
    outcome = await make(application(start_prim="false\ntrue\n")).start(epoch=1, role="ALONE")
    assert isinstance(outcome, StartFailed)


async def test_a_start_that_takes_too_long_is_killed(make: MakeRunner) -> None:
    runner = make(application(start_prim="/bin/sleep 600\n", start_timeout_s=0.3))
    outcome = await runner.start(epoch=1, role="ALONE")
    assert isinstance(outcome, StartFailed)
    assert "did not return in time" in outcome.reason
    assert runner.processes() == []


async def test_stop_runs_the_stop_script_and_is_graceful(make: MakeRunner, tmp_path: Path) -> None:
    stop = 'kill "$(cat daemon.pid)"; echo stopped > seen\n'
    runner = make(application(start_prim=DAEMON, stop_prim=stop))
    assert isinstance(await runner.start(epoch=1, role="ALONE"), Started)
    pid = await daemon_pid(tmp_path)
    outcome = await runner.stop(force=False)
    assert isinstance(outcome, Stopped)
    assert outcome.graceful, outcome
    assert (tmp_path / "module/seen").read_text() == "stopped\n"
    assert is_dead(pid)
    assert runner.state is ApplicationState.STOPPED


async def test_what_the_stop_script_leaves_gets_sigterm_and_may_end_in_order(make: MakeRunner, tmp_path: Path) -> None:
    start = f"/bin/sh -c 'trap \"echo bye > seen; exit 0\" TERM; touch up; {FOR_A_WHILE}' &\n"
    start += "while [ ! -e up ]; do sleep 0.02; done\n"
    runner = make(application(start_prim=start))
    assert isinstance(await runner.start(epoch=1, role="ALONE"), Started)
    outcome = await runner.stop(force=False)
    assert outcome == Stopped(graceful=True, reason="stop_prim returned 0; no process is left")
    assert (tmp_path / "module/seen").read_text() == "bye\n"


async def test_what_ignores_sigterm_is_killed_at_the_stop_timeout(make: MakeRunner) -> None:
    start = f"/bin/sh -c 'trap \"\" TERM; touch up; {FOR_A_WHILE}' &\n"
    start += "while [ ! -e up ]; do sleep 0.02; done\n"
    runner = make(application(start_prim=start, stop_timeout_s=0.3))
    assert isinstance(await runner.start(epoch=1, role="ALONE"), Started)
    outcome = await runner.stop(force=False)
    assert isinstance(outcome, Stopped)
    assert not outcome.graceful
    assert "killed" in outcome.reason
    assert runner.processes() == []


async def test_a_stop_script_that_hangs_does_not_hold_up_the_stop(make: MakeRunner) -> None:
    runner = make(application(start_prim="/bin/sleep 600 &\n", stop_prim="/bin/sleep 600\n", stop_timeout_s=0.2))
    assert isinstance(await runner.start(epoch=1, role="ALONE"), Started)
    outcome = await runner.stop(force=False)
    assert isinstance(outcome, Stopped)
    assert not outcome.graceful


async def test_a_daemon_that_forked_twice_and_left_its_session_is_killed(make: MakeRunner, tmp_path: Path) -> None:
    runner = make(application(start_prim=DAEMON))
    assert isinstance(await runner.start(epoch=1, role="ALONE"), Started)
    pid = await daemon_pid(tmp_path)
    assert pid in runner.processes()
    assert os.getsid(pid) != os.getsid(0)
    outcome = await runner.kill_now()
    assert isinstance(outcome, Killed)
    assert outcome.count >= 1
    assert is_dead(pid)
    assert runner.state is ApplicationState.STOPPED


async def test_processes_that_keep_forking_are_killed_all_the_same(make: MakeRunner, tmp_path: Path) -> None:
    # Four chains, each a process that is replaced by a child of a child, again and again; a chain ends by itself after
    # 2,000 links (more than ten seconds), so that a test run that is killed leaves nothing that forks for ever.
    link = '(/bin/sleep 0.005; exec /bin/sh "$MODULE_DIR/chain.sh" $(($1 - 1))) &\n'
    chain = '#!/bin/sh\n[ "$1" -gt 0 ] || exit 0\n' + link
    # A lock that every link inherits, since no look at /proc sees processes of five milliseconds for certain.
    start = 'exec 9>"$MODULE_DIR/held"; flock 9\n'
    start += "for i in 1 2 3 4; do setsid /bin/sh $MODULE_DIR/chain.sh 2000 & done\n"
    runner = make(application(start_prim=start, files=(ModuleFile(path="chain.sh", content=chain),)))
    assert isinstance(await runner.start(epoch=1, role="ALONE"), Started)
    held = tmp_path / "module/held"
    assert not is_free(held), "the chains run"
    assert isinstance(await runner.kill_now(deadline_s=30.0), Killed)
    assert is_free(held), "a link lives on"
    assert runner.processes() == []


async def test_a_kill_breaks_off_a_start(make: MakeRunner) -> None:
    runner = make(application(start_prim="touch begun; /bin/sleep 600\n"))
    starting = asyncio.create_task(runner.start(epoch=1, role="ALONE"))
    await eventually(lambda: len(runner.processes()) >= 1, "the start script runs")
    assert isinstance(await runner.kill_now(), Killed)
    outcome = await starting
    assert isinstance(outcome, StartFailed)
    assert outcome.reason == "start_prim: killed on request"
    assert runner.processes() == []
    assert runner.state is ApplicationState.STOPPED


async def test_a_forced_stop_does_not_ask_the_stop_script(make: MakeRunner, tmp_path: Path) -> None:
    runner = make(application(start_prim="/bin/sleep 600 &\n", stop_prim="touch asked\n"))
    assert isinstance(await runner.start(epoch=1, role="ALONE"), Started)
    assert isinstance(await runner.stop(force=True), Stopped)
    assert not (tmp_path / "module/asked").exists()


async def test_stopping_what_does_not_run_is_no_error(make: MakeRunner) -> None:
    runner = make(application())
    assert isinstance(await runner.stop(force=False), Stopped)
    assert isinstance(await runner.stop(force=True), Stopped)
    assert isinstance(await runner.kill_now(), Killed)


async def test_a_second_start_is_refused_and_a_start_after_a_stop_works(make: MakeRunner) -> None:
    runner = make(application(start_prim="/bin/sleep 600 &\n"))
    assert isinstance(await runner.start(epoch=1, role="ALONE"), Started)
    assert isinstance(await runner.start(epoch=2, role="ALONE"), StartFailed)
    assert runner.state is ApplicationState.RUNNING
    await runner.stop(force=False)
    assert isinstance(await runner.start(epoch=2, role="PRIM"), Started)


async def test_prepare_runs_once_per_content(make: MakeRunner, tmp_path: Path) -> None:
    app = application(prepare="echo run >> prepared.txt\n")
    assert await make(app).prepare() == Prepared(ran=True)
    assert await make(app).prepare() == Prepared(ran=False)
    changed = app.model_copy(update={"environment": {"LEVEL": "2"}})
    assert await make(changed).prepare() == Prepared(ran=True)
    assert (tmp_path / "module/prepared.txt").read_text() == "run\nrun\n"


async def test_a_failed_prepare_is_run_again(make: MakeRunner, tmp_path: Path) -> None:
    app = application(prepare="echo run >> prepared.txt; test -e allowed\n")
    outcome = await make(app).prepare()
    assert isinstance(outcome, PrepareFailed)
    assert "prepare exited with 1" in outcome.reason
    (tmp_path / "module/allowed").touch()
    assert await make(app).prepare() == Prepared(ran=True)


async def test_module_files_follow_the_configuration(make: MakeRunner, tmp_path: Path) -> None:
    first = application(files=(ModuleFile(path="etc/a.conf", content="1"), ModuleFile(path="run.sh", content="x")))
    await make(first).prepare()
    (tmp_path / "module/of-the-application").write_text("stays")
    second = application(files=(ModuleFile(path="etc/a.conf", content="2", mode="0600"),))
    await make(second).prepare()
    assert (tmp_path / "module/etc/a.conf").read_text() == "2"
    assert (tmp_path / "module/etc/a.conf").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "module/run.sh").exists()
    assert (tmp_path / "module/of-the-application").read_text() == "stays"


async def test_secrets_in_the_output_do_not_reach_the_reason(make: MakeRunner) -> None:
    outcome = await make(application(start_prim="echo password=hunter22 wrong; exit 1\n")).start(epoch=1, role="ALONE")
    assert isinstance(outcome, StartFailed)
    assert "hunter22" not in outcome.reason


async def test_a_flood_of_output_is_bounded_and_does_not_block_the_application(
    make: MakeRunner, tmp_path: Path
) -> None:
    runner = make(application(start_prim="head -c 5000000 /dev/zero | tr '\\0' 'x'; touch written\n"))
    assert isinstance(await runner.start(epoch=1, role="ALONE"), Started)
    assert (tmp_path / "module/written").exists()
    sizes = [file.stat().st_size for file in (tmp_path / "var/log/mirrorplane").iterdir()]
    assert sum(sizes) <= 2 * 1024 * 1024


async def test_the_death_of_the_runner_child_is_noticed_and_its_orphans_are_killed(tmp_path: Path) -> None:
    lost: list[str] = []
    runner = ApplicationRunner(
        application(start_prim=DAEMON), tmp_path / "module", "a", Recorded(), paths=Paths(tmp_path), on_lost=lost.append
    )
    try:
        assert isinstance(await runner.start(epoch=1, role="ALONE"), Started)
        pid = await daemon_pid(tmp_path)
        send_signal(await reaper_of(pid), signal.SIGKILL)
        await eventually(lambda: bool(lost), "the loss was reported")
        await eventually(lambda: is_dead(pid), "the orphan is dead")
        assert runner.state is ApplicationState.FAILED
        assert isinstance(await runner.start(epoch=2, role="ALONE"), Started)
    finally:
        await runner.close()


@pytest.mark.parametrize("reaper_is", ["running", "held"])
async def test_a_supervisor_killed_hard_takes_the_application_with_it(tmp_path: Path, reaper_is: str) -> None:
    """Also when it dies in the middle of a kill, while it holds the runner child still."""
    program = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from mirror_agent.app.runner import ApplicationRunner
        from mirror_agent.paths import Paths
        from tests.agent_samples import Recorded, application
        async def main():
            root = Path({str(tmp_path)!r})
            app = application(start_prim={DAEMON!r})
            runner = ApplicationRunner(app, root / "module", "a", Recorded(), paths=Paths(root))
            await runner.start(epoch=1, role="ALONE")
            await asyncio.sleep(600)
        asyncio.run(main())
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    reapers: list[ProcessStat] = []
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=environment)
    try:
        pid = await daemon_pid(tmp_path)
        reaper = await reaper_of(pid)
        reapers.append(reaper)
        if reaper_is == "held":
            send_signal(reaper, signal.SIGSTOP)
        supervisor.kill()
        await eventually(lambda: is_dead(pid), "the daemon died with the supervisor")
        await eventually(lambda: not tagged_processes(RUN_MARK, str(tmp_path / "module")), "nothing is left")
    finally:
        if supervisor.returncode is None:
            supervisor.kill()
        await supervisor.wait()
        for reaper in reapers:
            send_signal(reaper, signal.SIGKILL)
        swept(tmp_path)
