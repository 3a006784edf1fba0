"""The control plane repairs redundancy by itself: an agent that was stopped, a VM that hangs, a VM that is gone.

One test with three accidents, one after the other on the node that is redundant at that moment, because a cluster
takes minutes to provision. Nothing is done by hand in between.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.demo.api import ControlPlane
from lab.info import LabInfo, find_lab
from tests.lab.watch.cluster import Watched

pytestmark = [pytest.mark.lab, pytest.mark.watch]

# Silence, two audits that confirm it (two minutes more for a node that was down twice in ten minutes), the plan, the
# executor's run, the step itself, and a resynchronisation.
REPAIR_DEADLINE_S = 600.0


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabInfo]:
    lab_command(tmp_path, "up", "--detach")
    try:
        yield find_lab(tmp_path)
    finally:
        lab_command(tmp_path, "down")


def lab_command(state: Path, *words: str) -> None:
    command = [sys.executable, "-m", "lab", "--state", str(state), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"


async def test_redundancy_comes_back_by_itself(lab: LabInfo, tmp_path: Path) -> None:
    assert lab.control_plane_url is not None
    async with ControlPlane(lab.control_plane_url, lab.read_tokens().admin, str(lab.ca)) as api:
        watched = Watched(api, lab, tmp_path)
        await watched.provision()
        serving = {node for node, role in (await watched.roles()).items() if role.startswith("PRIM")}

        victim = await watched.replica()
        await watched.stop_agent(victim)
        first = await watched.until_repaired(0, deadline_s=REPAIR_DEADLINE_S)
        assert [action["step"] for action in first] == ["agent-restart"]

        await watched.hang(await watched.replica())
        second = await watched.until_repaired(len(first), deadline_s=REPAIR_DEADLINE_S)
        assert second[-1]["step"] == "machine-restart"

        known = len(first) + len(second)
        await watched.lose_machine(await watched.replica())
        third = await watched.until_repaired(known, deadline_s=REPAIR_DEADLINE_S)
        assert third[-1]["step"] == "replace"

        every = await watched.actions()
        assert {action["node"] for action in every} == {victim}, "the serving node was never touched"
        assert {node for node, role in (await watched.roles()).items() if role.startswith("PRIM")} == serving
        kinds = [event["type"] for event in await watched.events()]
        assert "Mirrorplane.Remediation.IncidentOpened" in kinds
        assert kinds.count("Mirrorplane.Remediation.Action") >= 3 * len(every)
