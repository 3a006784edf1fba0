"""The lab as a whole: up, down, and the crash of its daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import registry
from lab.info import LabInfo, LabNotFound, find_lab
from lab.paths import REPOSITORY

pytestmark = [pytest.mark.lab, pytest.mark.azurite]
TIMEOUT_S = 300  # a busy machine is slow, and no finding


def lab(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab", "--state", str(state), *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state directory of its own; whatever a test leaves there is ended."""
    yield tmp_path
    lab(tmp_path, "down")


def up(state: Path) -> LabInfo:
    done = lab(state, "up", "--detach", "--no-functions")
    assert done.returncode == 0, done.stdout + done.stderr
    return find_lab(state)


def alive(pid: int) -> bool:
    """False too for a process that ended and only waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_gone(pid: int) -> None:
    end = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < end, f"process {pid} still lives"
        time.sleep(0.02)


def test_down_leaves_nothing_and_two_labs_live_side_by_side(state: Path, tmp_path: Path) -> None:
    first = up(state)
    second = up(tmp_path / "other")
    assert first.id != second.id
    status = lab(state, "status")
    assert f"lab {first.id} is up" in status.stdout
    assert lab(tmp_path / "other", "down").returncode == 0
    assert alive(first.pid)
    assert registry.traces(second.id) == []
    done = lab(state, "down")
    assert (done.returncode, done.stdout) == (0, f"lab {first.id} is gone\n")
    assert registry.traces(first.id) == []
    assert not first.directory.exists()
    assert not alive(first.pid)


def test_ctrl_c_takes_everything_away(state: Path) -> None:
    info = up(state)
    os.kill(info.pid, signal.SIGINT)
    wait_gone(info.pid)
    assert registry.traces(info.id) == []
    with pytest.raises(LabNotFound, match="no lab runs below"):
        find_lab(state)


def test_a_lab_ends_with_the_process_it_is_for(state: Path) -> None:
    owner = subprocess.Popen(["sleep", "600"])
    try:
        done = lab(state, "up", "--detach", "--no-functions", "--while", str(owner.pid))
        assert done.returncode == 0, done.stdout + done.stderr
        info = find_lab(state)
    finally:
        owner.kill()
        owner.wait()
    wait_gone(info.pid)
    assert registry.traces(info.id) == []


def test_after_a_crash_the_children_are_dead_and_the_next_up_cleans(state: Path) -> None:
    info = up(state)
    children = registry.group_of(info.id).pids()
    assert children, "Azurite runs"
    os.kill(info.pid, signal.SIGKILL)
    for pid in (info.pid, *children):
        wait_gone(pid)
    assert registry.traces(info.id) != []
    again = lab(state, "up", "--detach", "--no-functions")
    assert f"removed what the dead lab {info.id} left" in again.stdout, again.stdout + again.stderr
    assert find_lab(state).pid != info.pid


def test_commands_say_what_is_wrong(state: Path) -> None:
    assert "no lab runs below" in lab(state, "status").stderr
    up(state)
    assert "no VM 'demo-a' in this lab; there are: none yet" in lab(state, "kill", "demo/a").stderr
    unknown = lab(state, "explode")
    assert unknown.returncode == 2
    assert "invalid choice: 'explode'" in unknown.stderr


def test_a_killed_daemon_takes_its_vms_with_it(tmp_path: Path) -> None:
    program = "import asyncio, sys, tests.lab.fabric.conftest as c; asyncio.run(c.boot_and_wait(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "lab")], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout is not None
        lab_id = daemon.stdout.readline().strip()
        owner = next(owner for owner in registry.owners() if owner.lab_id == lab_id)
        guests = registry.group_of(lab_id).pids()
        assert len(guests) > 2, "the VM's hypervisor, its PID 1 and a service"
        daemon.kill()
    for pid in guests:
        wait_gone(pid)
    assert not owner.alive
    registry.clean(owner)
    assert registry.traces(lab_id) == []
