"""A lab of its own whose control plane may make Windows clusters, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.artifacts import GATE
from lab.info import LabInfo
from lab.vm.windows import missing_programs
from tests.lab.own_lab import own_lab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabInfo]:
    if missing := missing_programs():
        pytest.skip(f"{', '.join(missing)}: not on this machine (apt-get install wine wine64)")
    monkeypatch.setenv(GATE, "preview")
    with own_lab(tmp_path) as info:
        yield info
