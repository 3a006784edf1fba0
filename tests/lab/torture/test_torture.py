"""A short sample of `make torture`, with fixed seeds: each of its parts once, each kind of accident at least once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.torture import databases, fsx, many_entries, plain, worktree

pytestmark = pytest.mark.lab


def _open_to_everybody(directory: Path) -> Path:
    """The database's user must get through the directories of the test run."""
    for place in (directory, *directory.parents):
        if place.stat().st_mode & 0o777 == 0o700:
            place.chmod(0o711)
    return directory


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
async def test_databases_survive_the_end_of_their_machine(tmp_path: Path, mode: str, names: tuple[str, ...]) -> None:
    outcome = await databases.run_cycles(_open_to_everybody(tmp_path), mode=mode, seed=3, kills=2, names=names)
    assert set(outcome.transactions) == set(names)


async def test_git_and_a_build(tmp_path: Path) -> None:
    outcome = await worktree.run(tmp_path, mode="ordered", seed=1, files=60)
    assert outcome.entries > 150


async def test_large_directory(tmp_path: Path) -> None:
    outcome = await many_entries.run(tmp_path, mode="ordered", entries=1000)
    assert outcome.entries > 600
