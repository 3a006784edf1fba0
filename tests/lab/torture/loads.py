"""What a database must do for the torture of `tests.lab.torture.databases`, and what is common to all of them.

A load is a database on the replicated directory with clients that commit numbered transactions and remember, outside of
the cluster, which were acknowledged. Transaction n of a client writes the same row into two tables and moves money from
one account to another: a transaction that is half there shows in the tables or in the sum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class LoadError(AssertionError):
    """An acknowledged transaction is missing, one is half there, or the database is damaged."""


class Load(Protocol):
    """One database with its clients."""

    name: str

    async def create(self, root: Path) -> None:
        """Makes the empty database below this directory."""

    async def verify(self, root: Path) -> int:
        """Opens (recovers) the database and judges it against what was acknowledged; the number of transactions.
        Raises `LoadError`."""

    async def go(self, root: Path) -> None:
        """Clients begin to commit, each with the number after its last one."""

    def acknowledged(self) -> int:
        """Commits that returned since `go`."""

    def kill(self) -> None:
        """SIGKILL for everything that runs inside the primary's machine."""

    async def gone(self) -> None:
        """After `kill`: no process is left, and the clients know all that was acknowledged."""

    async def stop(self, root: Path) -> None:
        """A clean end of clients and database."""


def row_text(client: int, number: int) -> str:
    """What transaction `number` of a client writes; up to a few KiB, so that rows meet pages and WAL borders."""
    digest = hashlib.md5(f"{client}:{number}".encode(), usedforsecurity=False).hexdigest()
    return digest * (1 + number % 13 + (60 if number % 17 == 0 else 0))


def judge_numbers(what: str, numbers: Sequence[int], acknowledged: int, pruned_to: int = 0) -> int:
    """The numbers found must be pruned_to+1..m without a hole, and m what was acknowledged or one more (the commit in
    flight). Returns m."""
    last = numbers[-1] if numbers else pruned_to
    if list(numbers) != list(range(pruned_to + 1, last + 1)):
        missing = sorted(set(range(pruned_to + 1, last + 1)) - set(numbers))
        raise LoadError(f"{what}: {len(numbers)} transactions up to {last}, missing {missing[:10]}")
    if not acknowledged <= last <= acknowledged + 1:
        raise LoadError(f"{what}: {acknowledged} transactions were acknowledged, {last} are there")
    return last
