"""SQLite on the mount: hard kill of the primary, promotion of the replica, no committed transaction is missing."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from tests.lab.mirror.pair import Node, Pair, differences, eventually, running_pair, tree

pytestmark = pytest.mark.lab

COMMITS_BEFORE_KILL = 12


class Committer(threading.Thread):
    """Inserts ascending numbers, one transaction each, until the directory goes away."""

    def __init__(self, root: Path, journal: str) -> None:
        super().__init__(daemon=True)
        self._path = root / f"{journal}.db"
        self._journal = journal
        self.committed = 0
        self.begun_at = 0

    def run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            connection.execute(f"pragma journal_mode={self._journal}")
            # The rollback journal's removal is the commit, and only EXTRA flushes it.
            connection.execute("pragma synchronous=extra")
            connection.execute("create table if not exists t (n integer primary key, v text)")
            number = self.begun_at = connection.execute("select coalesce(max(n), 0) from t").fetchone()[0]
            while True:
                number += 1
                connection.execute("insert into t values (?, ?)", (number, "x" * 300))
                self.committed = number
        except sqlite3.Error:
            return  # the directory is gone under it, as intended
        finally:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def enough(self) -> bool:
        return self.committed >= self.begun_at + COMMITS_BEFORE_KILL


def check(root: Path, journal: str) -> tuple[str, int, int]:
    """(integrity, number of rows, highest number)"""
    connection = sqlite3.connect(root / f"{journal}.db")
    try:
        integrity = connection.execute("pragma integrity_check").fetchone()[0]
        count, top = connection.execute("select count(*), max(n) from t").fetchone()
    finally:
        connection.close()
    return integrity, count, top


async def crash_and_promote(old: Node, new: Node, epoch: int) -> None:
    committers = [Committer(old.root, journal) for journal in ("wal", "delete")]
    for committer in committers:
        committer.start()
    await eventually(lambda: all(committer.enough() for committer in committers), 60)
    await old.kill()
    for committer in committers:
        await asyncio.to_thread(committer.join, 20)
        assert not committer.is_alive()
    await new.engine.seal(epoch=epoch)
    await new.engine.become_primary(epoch=epoch, paired=False)
    for committer, journal in zip(committers, ("wal", "delete"), strict=True):
        integrity, count, top = await asyncio.to_thread(check, new.root, journal)
        assert integrity == "ok"
        assert count == top
        assert count >= committer.committed, f"{journal}: acknowledged transactions are missing"


async def come_back(dead: Node, serving: Node, epoch: int) -> None:
    await dead.close()
    await dead.launch()
    await dead.engine.become_replica(epoch=epoch - 1)
    await serving.until(lambda status: status.link == "live")
    await serving.engine.require_peer(epoch=epoch)


@pytest.mark.parametrize("mode", ["strict", "ordered"])
async def test_no_committed_transaction_is_lost(tmp_path: Path, mode: str) -> None:
    async with running_pair(tmp_path, mode=mode) as pair:
        await there_and_back(pair)


async def there_and_back(pair: Pair) -> None:
    await pair.make_pair()
    await crash_and_promote(pair.a, pair.b, epoch=2)
    await come_back(pair.a, pair.b, epoch=3)
    await crash_and_promote(pair.b, pair.a, epoch=4)
    await come_back(pair.b, pair.a, epoch=5)
    await pair.a.engine.drain()
    assert not differences(tree(pair.a.root), tree(pair.b.root))
