"""Whoever serves the mount dies, and an application lives on for a while: it gets errors, and never at what lies below.

Below the mount is the replicated directory itself. A write that reaches it beside the engine is acknowledged to a
client, unreplicated, and set aside by the next resync: lost (found by the fault matrix).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import mirror_agent
import pytest
import pytest_asyncio
from mirror_agent.mirror import mounts

from tests.lab.mirror.pair import DEADLINE_S, Node, Pair, eventually

pytestmark = pytest.mark.lab

# Launches an engine that serves alone, tells its number, and lives until it is killed.
SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from mirror_agent.mirror.config import config_from_json
from mirror_agent.mirror.control import MirrorHandle

async def main():
    handle = await MirrorHandle.launch(config_from_json(Path(sys.argv[1]).read_text()), on_status=lambda _: None)
    await handle.become_primary(epoch=1, paired=False)
    print(handle._process.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Application(threading.Thread):
    """Makes one new file after the other, by its absolute path and relative to a directory it has open, whatever
    happens; knows how many it made and how many attempts failed."""

    def __init__(self, root: Path) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        self.made = 0
        self.failed = 0
        self.enough = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.enough.wait(0.001):
            number += 1
            for directory, name in ((None, str(self._root / f"a{number}")), (self._directory, f"r{number}")):
                try:
                    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=directory))
                    self.made += 1
                except OSError:
                    self.failed += 1
        os.close(self._directory)

    async def end(self) -> None:
        self.enough.set()
        await asyncio.to_thread(self.join, DEADLINE_S)
        assert not self.is_alive()


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node without a supervisor of this process."""
    alone = Pair(tmp_path).a
    try:
        yield alone
    finally:
        await asyncio.to_thread(mounts.abort, str(alone.root))


@contextlib.asynccontextmanager
async def supervisor(node: Node, directory: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Its process, and the number of the engine it has started."""
    file = directory / "config.json"
    file.write_text(node.config.to_json())
    environment = {**os.environ, "PYTHONPATH": str(Path(mirror_agent.__file__).parents[1])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, str(file), stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            line = await process.stdout.readline()
        yield process, int(line)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


async def test_the_end_of_the_supervisor_uncovers_nothing(node: Node, tmp_path: Path) -> None:
    below = os.open(node.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        async with supervisor(node, tmp_path) as (process, engine):
            application = await asyncio.to_thread(Application, node.root)
            application.start()
            try:
                await eventually(lambda: application.made > 20)
                process.kill()
                await eventually(lambda: gone(engine))
                # A call answered by the engine may still have been on its way back; the failures come after it.
                failed = application.failed
                await eventually(lambda: application.failed > failed + 1)
                made, failed = application.made, application.failed
                there = set(os.listdir(below))
                await eventually(lambda: application.failed > failed + 100)
            finally:
                await application.end()
            assert application.made == made, "a call succeeded after its engine's death"
            assert set(os.listdir(below)) == there
            # The last call may have been carried out and not answered.
            assert len(there) - made in (0, 1)
    finally:
        os.close(below)
