"""The project's own POSIX cases on plain ext4, on the mount alone, and on the mount with a replica: all alike.

After every case on a pair both trees are compared: names, types, modes, owners, links, content, times, attributes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.lab.mirror import posix_data, posix_more, posix_names
from tests.lab.mirror.pair import FRONT, Pair, differences, running_pair, tree

Case = Callable[[Path], None]
CASES = [pytest.param(case, id=case.__name__) for case in (*posix_names.CASES, *posix_data.CASES, *posix_more.CASES)]

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with running_pair(tmp_path_factory.mktemp("alone"), relayed=False) as pair:
        await pair.a.engine.become_primary(epoch=1, paired=False)
        yield pair


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["strict", "ordered"])
async def paired(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with running_pair(tmp_path_factory.mktemp("paired"), mode=request.param, relayed=False) as pair:
        await pair.make_pair()
        yield pair


# docs/windows.md: what the FUSE library itself answers.
OTHERWISE_IN_THE_LIBRARY = {posix_names.removed_directory_in_use: "ESTALE instead of ENOENT in a removed directory"}


async def run(case: Case, root: Path) -> None:
    if FRONT == "library" and root.name == "data0" and case in OTHERWISE_IN_THE_LIBRARY:
        pytest.skip(OTHERWISE_IN_THE_LIBRARY[case])
    directory = root / case.__name__
    await asyncio.to_thread(directory.mkdir)
    await asyncio.to_thread(case, directory)


@pytest.mark.parametrize("case", CASES)
async def test_on_plain_ext4(case: Case, tmp_path: Path) -> None:
    await run(case, tmp_path)


@pytest.mark.parametrize("case", CASES)
async def test_on_the_mount_alone(case: Case, alone: Pair) -> None:
    await run(case, alone.a.root)


@pytest.mark.parametrize("case", CASES)
async def test_with_a_replica(case: Case, paired: Pair) -> None:
    await run(case, paired.a.root)
    await paired.a.engine.require_peer(epoch=1)
    assert paired.a.status.link == "live"
    here = await asyncio.to_thread(tree, paired.a.root / case.__name__)
    there = await asyncio.to_thread(tree, paired.b.root / case.__name__)
    assert not differences(here, there)
