"""What runs where: tests that need the lab or Azurite are skipped by name with the reason, or fail with CI=true."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from lab.azurite.server import Azurite
from lab.fabric.cgroups import Group
from lab.prerequisites import missing_for_azurite, missing_for_browser, missing_for_lab
from tests.leftovers import end_as_interrupted, left_behind, watch_over_this_run

GROUP = pytest.StashKey[Group | None]()

# The tests start hundreds of processes of this tree. Without compiled modules each of them compiles the sources anew,
# which is half of the time a mirror engine takes to start (0.22 s of processor time instead of 0.12 s).
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A slow or busy machine is no finding: hypothesis would fail an example that takes longer than 0.2 s.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    end_as_interrupted()
    config.stash[GROUP] = watch_over_this_run()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    group = config.stash[GROUP]
    if group is not None and (words := left_behind(group)):
        terminalreporter.write_line(f"left behind by this run, and ended with it: {words}", yellow=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    reasons: list[str] = []
    if item.get_closest_marker("azurite") is not None:
        reasons += missing_for_azurite()
    if item.get_closest_marker("browser") is not None:
        reasons += missing_for_browser()
    if item.get_closest_marker("lab") is not None:
        reasons += missing_for_lab()
    if not reasons:
        return
    sentence = "; ".join(reasons)
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true and a piece is missing: {sentence}", pytrace=False)
    pytest.skip(sentence)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def azurite() -> AsyncIterator[Azurite]:
    """One Azurite for the whole run. Choose table names of your own: nothing is emptied between tests."""
    async with Azurite() as storage:
        yield storage
