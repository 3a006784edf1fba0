"""Databases on the mount, and the machine of the primary switched off at random moments.

One cycle: PostgreSQL, SQLite with a rollback journal and SQLite with WAL commit on the primary; at a random moment
engine and databases are killed (SIGKILL, in random order); the replica is sealed and promoted; the databases are opened
there and judged (`tests.lab.torture.loads`); the clients go on at once, while the old primary comes back as replica, is
resynchronised and becomes a member. The next cycle kills the other node.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.lab.mirror.pair import Node, differences, eventually, running_pair, tree
from tests.lab.torture.judge import Difference
from tests.lab.torture.loads import Load
from tests.lab.torture.postgres_load import PostgresLoad
from tests.lab.torture.sqlite_load import SqliteLoad

NAMES: Final = ("postgres", "sqlite-rollback", "sqlite-wal")
_PATIENCE_S: Final = 120.0
# Commits of each database before the machine is switched off, and the longest wait afterwards.
_COMMITS_MIN: Final = 8
_MOMENT_S: Final = 0.6


@dataclass
class Outcome:
    """What a clean run did."""

    kills: int = 0
    transactions: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def make_loads(names: Sequence[str], directory: Path) -> list[Load]:
    made: dict[str, Load] = {
        "postgres": PostgresLoad(directory / "sockets"),
        "sqlite-rollback": SqliteLoad("delete"),
        "sqlite-wal": SqliteLoad("wal"),
    }
    return [made[name] for name in names]


async def run_cycles(directory: Path, *, mode: str, seed: int, kills: int, names: Sequence[str] = NAMES) -> Outcome:
    """Raises `LoadError` or `Difference`. The directory and those above must be open to every user."""
    began_s = time.monotonic()
    chosen = random.Random(seed)
    loads = make_loads(names, directory)
    async with running_pair(directory, mode=mode, relayed=False) as pair:
        await pair.make_pair()
        cluster = _Cluster(pair.a, pair.b, loads)
        try:
            for load in loads:
                await load.create(cluster.primary.root)
                await load.go(cluster.primary.root)
            for _ in range(kills):
                await eventually(lambda: all(load.acknowledged() >= _COMMITS_MIN for load in loads), _PATIENCE_S)
                await asyncio.sleep(chosen.random() * _MOMENT_S)
                await cluster.fail_over(engine_first=chosen.random() < 0.5)
            await cluster.rest()
        finally:
            await cluster.abandon()
    return Outcome(kills, cluster.transactions, time.monotonic() - began_s)


class _Cluster:
    def __init__(self, primary: Node, replica: Node, loads: Sequence[Load]) -> None:
        self.primary, self.replica = primary, replica
        self.transactions: dict[str, int] = {}
        self._loads = loads
        self._epoch = 1

    async def fail_over(self, *, engine_first: bool) -> None:
        old, new = self.primary, self.replica
        if engine_first:
            await old.kill()
        for load in self._loads:
            load.kill()
        if not engine_first:
            await old.kill()
        for load in self._loads:
            await load.gone()
        await old.close()
        self._epoch += 1
        await new.engine.seal(epoch=self._epoch)
        await new.engine.become_primary(epoch=self._epoch, paired=False)
        self.primary, self.replica = new, old
        returning = asyncio.create_task(self._return(old))
        try:
            for load in self._loads:
                self.transactions[load.name] = await load.verify(new.root)
                await load.go(new.root)
        finally:
            await asyncio.wait([returning])
        returning.result()
        await new.until(lambda status: status.link == "live", _PATIENCE_S)
        self._epoch += 1
        await new.engine.require_peer(epoch=self._epoch)

    async def _return(self, old: Node) -> None:
        await old.launch()
        await old.engine.become_replica(epoch=self._epoch)

    async def rest(self) -> None:
        """A clean end: the databases are closed, both copies are identical and every page's checksum is right."""
        for load in self._loads:
            await load.stop(self.primary.root)
        await self.primary.engine.drain()
        here, there = await asyncio.gather(
            asyncio.to_thread(tree, self.primary.root), asyncio.to_thread(tree, self.replica.root)
        )
        wrong = differences(here, there)
        if wrong:
            raise Difference("the nodes differ at rest:\n  " + "\n  ".join(wrong[:12]))
        for load in self._loads:
            if isinstance(load, PostgresLoad):
                for node in (self.primary, self.replica):
                    await asyncio.to_thread(load.check_sums, node.root)

    async def abandon(self) -> None:
        """Whatever happened: no process of a database is left."""
        for load in self._loads:
            load.kill()
        for load in self._loads:
            with contextlib.suppress(AssertionError):
                await load.gone()
