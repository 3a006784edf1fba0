"""A run of tests that is ended from outside leaves nothing that works on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from lab.paths import REPOSITORY

pytestmark = pytest.mark.lab

DEADLINE_S: Final = 120.0
# Forks again and again in a session of its own, hears no SIGTERM, and would go on for minutes.
SPINNING: Final = "trap '' TERM HUP; echo $$ > began; i=0; while [ $i -lt 6000 ]; do i=$((i + 1)); sleep 0.05; done"
TESTS: Final = f"""
import subprocess, time
from pathlib import Path
import pytest
from tests.leftovers import end_as_interrupted, watch_over_this_run

end_as_interrupted()
assert watch_over_this_run(grace_s=0.5) is not None

@pytest.fixture
def spinning():
    yield subprocess.Popen(["setsid", "--fork", "sh", "-c", {SPINNING!r}])
    Path("taken-away").touch()

def test_that_takes_long(spinning):
    Path("under-way").touch()
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_works_on(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "test_long.py").write_text(TESTS)
    # Whoever runs this may ignore SIGHUP (nohup), which would be inherited.
    heeding = ["env", "--default-signal=HUP"]
    command = [*heeding, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "agent")])}
    run = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    try:
        began = tmp_path / "began"
        until(lambda: began.exists() and began.read_text().endswith("\n"), "the test has started its process")
        until((tmp_path / "under-way").exists, "the test itself is under way: its fixture can be taken down")
        spinning = int(began.read_text())
        run.send_signal(number)
        run.wait(DEADLINE_S)
        assert (tmp_path / "taken-away").exists() is (number != signal.SIGKILL)
        until(lambda: not Path(f"/proc/{spinning}").exists(), "what it started is gone")
    finally:
        run.kill()
        run.wait()


def until(fact: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + DEADLINE_S
    while not fact():
        assert time.monotonic() < limit, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.05)
