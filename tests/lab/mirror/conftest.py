"""Fixtures of the mirror's lab tests: a pair of engines that is gone afterwards, whatever the test did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.lab.mirror.pair import Pair, running_pair


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with running_pair(tmp_path) as running:
        yield running
