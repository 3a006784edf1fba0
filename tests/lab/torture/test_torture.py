"""A short sample of `make torture`, with fixed seeds: each of its parts once, each kind of accident at least once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.torture import databases, fsx, many_entries, plain, worktree

pytestmark = pytest.mark.lab


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """The database's user must get in, and pytest closes its own directories whenever another session of it begins."""
    with tempfile.TemporaryDirectory(prefix="mirror-databases-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


async def test_model_is_right_about_a_plain_directory(tmp_path: Path) -> None:
    await plain.on_plain_directory(tmp_path / "plain", seed=7, operations=4000)


@pytest.mark.parametrize(
    ("mode", "seed", "accidents"),
    [
        ("strict", 1, ("replica", "primary_promote", "primary_restart", "link")),
        ("ordered", 2, ("primary_promote", "primary_alone", "both", "primary_promote")),
    ],
)
async def test_nothing_is_lost_when_engines_die(
    tmp_path: Path, mode: str, seed: int, accidents: tuple[str, ...]
) -> None:
    plan = fsx.Plan(mode, seed, operations=2500, kills=len(accidents), accidents=accidents)
    outcome = await fsx.run_seed(tmp_path, plan)
    assert outcome.operations == plan.operations
    assert sum(outcome.accidents.values()) == len(accidents)


@pytest.mark.parametrize(("mode", "names"), [("strict", databases.NAMES[1:]), ("ordered", databases.NAMES)])
async def test_databases_survive_the_end_of_their_machine(
    open_directory: Path, mode: str, names: tuple[str, ...]
) -> None:
    outcome = await databases.run_cycles(open_directory, mode=mode, seed=3, kills=2, names=names)
    assert set(outcome.transactions) == set(names)


async def test_git_and_a_build(tmp_path: Path) -> None:
    outcome = await worktree.run(tmp_path, mode="ordered", seed=1, files=60)
    assert outcome.entries > 150


async def test_large_directory(tmp_path: Path) -> None:
    outcome = await many_entries.run(tmp_path, mode="ordered", entries=1000)
    assert outcome.entries > 600
