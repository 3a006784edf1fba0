"""A lab of its own for each farm, gone afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.info import LabInfo, find_lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabInfo]:
    try:
        lab_command(tmp_path, "up", "--detach")
        yield find_lab(tmp_path)
    finally:
        lab_command(tmp_path, "down")


def lab_command(state: Path, *words: str) -> None:
    command = [sys.executable, "-m", "lab", "--state", str(state), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
