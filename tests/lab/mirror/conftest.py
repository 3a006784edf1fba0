"""Fixtures of the mirror's lab tests: a pair of engines that is gone afterwards, whatever the test did."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from mirror_agent.mirror.roots import change_times_prove

from tests.lab.mirror.pair import Pair, running_pair


@pytest.fixture
def proving_file_system(tmp_path: Path) -> None:
    """Nothing is left out of a resync on other file systems, so there is nothing to test there."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not change_times_prove(fd):
            pytest.skip("change times of this file system prove nothing")
    finally:
        os.close(fd)


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with running_pair(tmp_path) as running:
        yield running
