"""The control plane repairs redundancy by itself: an agent that was stopped, a VM that hangs, a VM that is gone; and it
keeps its hands still when everything is silent. Nothing is done by hand in between.

Each accident has a lab of its own, and ends with the same questions: was there one incident, was the serving node left
alone, was the alert fired, told and resolved, and does the timeline say all that?
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lab.demo.api import ControlPlane
from lab.info import LabInfo
from tests.lab.watch.cluster import Watched
from tests.lab.watch.figures import note

pytestmark = [pytest.mark.lab, pytest.mark.watch]

# Silence, two audits that confirm it, two minutes of sickness, the plan, the executor's run, the step itself (a machine
# that hangs is asked to shut down first), boot and resynchronisation.
REPAIR_DEADLINE_S = 480.0


@asynccontextmanager
async def provisioned(lab: LabInfo, state: Path, **limits: float) -> AsyncIterator[Watched]:
    assert lab.control_plane_url is not None
    async with ControlPlane(lab.control_plane_url, lab.read_tokens().admin, str(lab.ca)) as api:
        watched = Watched(api, lab, state)
        await watched.provision(**limits)
        yield watched


async def test_an_agent_that_was_stopped_for_good(lab: LabInfo, tmp_path: Path) -> None:
    # An alert whose cause is gone within the wait for its group is told to nobody: the repair has to come later.
    async with provisioned(lab, tmp_path, sickForS=240.0) as watched:
        victim, began = await watched.replica(), time.monotonic()
        await watched.stop_agent(victim)
        await repaired(watched, victim, ["agent-restart"], "cluster-exposed cluster", began)


async def test_a_machine_that_hangs(lab: LabInfo, tmp_path: Path) -> None:
    async with provisioned(lab, tmp_path) as watched:
        victim, began = await watched.replica(), time.monotonic()
        await watched.hang(victim)
        await repaired(watched, victim, ["machine-restart"], "cluster-exposed cluster", began)


async def test_a_machine_that_is_lost_with_its_disk(lab: LabInfo, tmp_path: Path) -> None:
    async with provisioned(lab, tmp_path, sickForS=30.0) as watched:
        victim, began = await watched.replica(), time.monotonic()
        await watched.lose_machine(victim)
        await repaired(watched, victim, ["replace"], f"vm-deleted {victim}", began)


async def test_all_nodes_fall_silent_at_once(lab: LabInfo, tmp_path: Path) -> None:
    async with provisioned(lab, tmp_path, sickForS=5.0) as watched:
        began = time.monotonic()
        for node in ("a", "b"):
            await watched.freeze(node, True)
        down = {"cluster-down cluster": "firing", "node-down a": "firing", "node-down b": "firing"}
        await watched.until_alerts(lambda seen: down.items() <= seen.items(), "everything is known to be down")
        fired_s = time.monotonic() - began
        await watched.until_audited(2)
        assert await watched.actions() == []
        told = [notice for notice in await watched.notices() if notice["data"]["firing"]]
        assert len(told) == 1, "one notice for the cluster, not one for each node"
        assert [alert["rule"] for alert in told[0]["data"]["alerts"]] == ["cluster-down"]
        for node in ("a", "b"):
            await watched.freeze(node, False)
        await watched.until_redundant(deadline_s=REPAIR_DEADLINE_S)
        await watched.until_alerts(lambda seen: seen.get("cluster-down cluster") == "resolved", "it is up again")
        assert await watched.actions() == []
        timeline = [event for event in await watched.events() if event["data"].get("rule") == "cluster-down"]
        assert [event["type"] for event in timeline] == ["Mirrorplane.Alert.Fired", "Mirrorplane.Alert.Resolved"]
        note("all-silent", alert_s=fired_s, resolved_s=time.monotonic() - began)


async def repaired(watched: Watched, victim: str, steps: list[str], alert: str, began: float) -> None:
    """Waits for the repair and asks the questions; `steps` are all that was done."""
    serving = {node for node, role in (await watched.roles()).items() if role.startswith(("PRIM", "ALONE"))}
    await watched.until_alerts(lambda seen: seen.get(alert) == "firing", f"{alert} fires")
    fired_s = time.monotonic() - began
    actions = await watched.until_repaired(0, deadline_s=REPAIR_DEADLINE_S)
    repaired_s = time.monotonic() - began
    assert [action["step"] for action in actions] == steps
    assert {action["node"] for action in actions} == {victim}
    await watched.until_alerts(lambda seen: seen.get(alert) == "resolved", f"{alert} is resolved")
    resolved_s = time.monotonic() - began
    await watched.until_cured()
    assert {node for node, role in (await watched.roles()).items() if role.startswith("PRIM")} == serving
    rule, _, subject = alert.partition(" ")
    told = [entry for notice in await watched.notices() for entry in notice["data"]["alerts"]]
    assert (rule, subject) in {(entry["rule"], entry["subject"]) for entry in told}, "the on-call service was told"
    timeline = await watched.events()
    kinds = [event["type"] for event in timeline]
    assert kinds.count("Mirrorplane.Remediation.IncidentOpened") == 1
    own = [
        event["type"]
        for event in timeline
        if event["data"].get("rule") == rule and event["data"].get("subject") == subject
    ]
    assert own == ["Mirrorplane.Alert.Fired", "Mirrorplane.Alert.Resolved"], own
    done = [event["data"]["status"] for event in timeline if event["type"] == "Mirrorplane.Remediation.Action"]
    assert done == ["planned", "started", "sent", "cured"]
    note(steps[-1], alert_s=fired_s, repaired_s=repaired_s, resolved_s=resolved_s)
    print("\n".join(f"  {event['time']} {event['type']} {event['data'].get('sentence', '')}" for event in timeline))
