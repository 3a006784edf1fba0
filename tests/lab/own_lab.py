"""The lab of one test, through the command line as anybody would use it. It ends with this process at the latest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.info import LabInfo, find_lab


@contextmanager
def own_lab(state: Path) -> Iterator[LabInfo]:
    """Gone afterwards, also when it did not come up."""
    try:
        lab_command(state, "up", "--detach", "--while", str(os.getpid()))
        yield find_lab(state)
    finally:
        lab_command(state, "down")


def lab_command(state: Path, *words: str) -> str:
    """What it said."""
    command = [sys.executable, "-m", "lab", "--state", str(state), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
    return done.stdout
