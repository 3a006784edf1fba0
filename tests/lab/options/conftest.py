"""A lab of its own, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.info import LabInfo
from tests.lab.own_lab import own_lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabInfo]:
    with own_lab(tmp_path) as info:
        yield info
