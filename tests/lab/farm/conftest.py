"""One lab for the farms of this folder, gone afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.info import LabInfo, find_lab


@pytest.fixture(scope="module")
def lab_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("farm-lab")


@pytest.fixture(scope="module")
def lab(lab_state: Path) -> Iterator[LabInfo]:
    try:
        _command(lab_state, "up", "--detach")
        yield find_lab(lab_state)
    finally:
        _command(lab_state, "down")


def _command(state: Path, *words: str) -> None:
    command = [sys.executable, "-m", "lab", "--state", str(state), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
