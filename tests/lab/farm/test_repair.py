"""Accidents of a farm that its control plane repairs by itself, while clients ask: a VM deleted behind its back, one
that hangs, two that lose their power at once.

Nothing is done while fewer than `minimumHealthy` others serve: two of four are gone with a minimum of three, and the
control plane says so and waits; with a minimum of two it starts one, and then the other. Nodes that serve are left
alone, and nobody but the lost nodes' share of the clients notices anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import pytest

from lab.control import LabClient
from lab.demo.api import DemoFailed
from lab.fabric.cgroups import Group
from lab.info import LabInfo
from tests.lab.farm.clients import Clients
from tests.lab.farm.farm import POLL_S, Farm, all_answer, everybody_serves, farm_of, record, served_without
from tests.lab.watch.cluster import delete_resource, signed_in

pytestmark = [pytest.mark.lab, pytest.mark.azurite, pytest.mark.farm]

COUNT: Final = 4
COMPUTE_VERSION: Final = "2024-07-01"
REPAIR_DEADLINE_S: Final = 600.0
# The ladder of production with shorter steps.
LIMITS: Final = {
    "sickForS": 10.0,
    "graceS": 0.0,
    "agentStepS": 240.0,
    "machineStepS": 600.0,
    "replaceStepS": 900.0,
    "coolDownS": 5.0,
    "healthyResetS": 30.0,
    "actionsPerDay": 6,
}


def repaired_by_itself(wanted: dict[str, Any]) -> None:
    wanted["minimumHealthy"] = 3
    wanted["remediation"] = {"mode": "on", "limits": LIMITS}
    wanted["managementPolicy"] = "observe"  # what is lost comes back by remediation, so that its ladder is seen


async def test_a_farm_is_repaired_while_it_serves(lab: LabInfo, tmp_path: Path) -> None:
    async with farm_of(COUNT, lab, tmp_path, "mended", repaired_by_itself) as farm:
        address = await farm.provision()
        async with Clients(f"http://{address}/") as clients:
            await everybody_serves(farm, clients)
            await delete_machine(farm, "d")
            await repaired(farm, clients, {"d": "replace"}, "a VM deleted by somebody")
            await hang(farm, "c")
            await repaired(farm, clients, {"c": "machine-restart"}, "a VM that hangs")
            await below_the_minimum(farm, clients)
        await farm.delete()
    record(farm, "repair of 4")


async def below_the_minimum(farm: Farm, clients: Clients) -> None:
    known = len(await actions(farm))
    await asyncio.gather(*(farm.nodes.kill(node) for node in ("a", "b")))
    await served_without(farm, clients, {"a", "b"}, "two without power")
    for node in ("a", "b"):
        await until_decided(farm, "minimum-healthy", node)
    assert len(await actions(farm)) == known, "something was done below the minimum"
    farm.wanted["minimumHealthy"] = 2
    await farm.put()
    await repaired(farm, clients, {"a": "machine-restart", "b": "machine-restart"}, "and the minimum lowered", known)
    one, other = (await actions(farm))[known:]
    assert one["endedAt"] <= other["startedAt"], "one node at a time"


async def repaired(farm: Farm, clients: Clients, steps: dict[str, str], what: str, known: int | None = None) -> None:
    """Waits until every node serves and the control plane has seen it. `steps` is all that was done, by node; `known`:
    actions before the accident (those of this moment, if not given)."""
    before = len(await actions(farm)) if known is None else known
    began = clients.now()
    if known is None:
        await served_without(farm, clients, set(steps), f"{what}: lost")
    limit = time.monotonic() + REPAIR_DEADLINE_S
    done: list[dict[str, Any]] = []
    while len(done) < len(steps) or {action["status"] for action in done} != {"cured"}:
        assert time.monotonic() < limit, f"not repaired: {done}, {await remediation(farm)}"
        await asyncio.sleep(POLL_S)
        with contextlib.suppress(DemoFailed):
            done = (await actions(farm))[before:]
    assert {action["node"]: action["step"] for action in done} == steps, done
    await all_answer(farm, clients)
    await farm.until_verdict("healthy")
    farm.figures[f"{what}: healthy again after_s"] = round(clients.now() - began, 1)


async def remediation(farm: Farm) -> dict[str, Any]:
    _, document, _ = await farm.api.call("GET", f"/clusters/{farm.name}/remediation")
    return document


async def actions(farm: Farm) -> list[dict[str, Any]]:
    """Oldest first."""
    found: list[dict[str, Any]] = (await remediation(farm))["actions"]
    return found


async def until_decided(farm: Farm, rule: str, node: str) -> None:
    """The node has been found sick, and this is what the control plane says of it."""
    limit = time.monotonic() + REPAIR_DEADLINE_S
    seen: dict[str, Any] = {}
    while not (seen.get("rule") == rule and seen["nodes"].get(node, {}).get("sickSince")):
        assert time.monotonic() < limit, f"not {rule} with {node} sick: {seen}"
        await asyncio.sleep(POLL_S)
        with contextlib.suppress(DemoFailed):
            seen = await remediation(farm)


# --- accidents ------------------------------------------------------------------------------------------------------
async def delete_machine(farm: Farm, node: str) -> None:
    """And its data disk, by somebody else than the control plane."""
    lab = farm.nodes.info
    group = f"{lab.arm_url}/subscriptions/{lab.subscription_id}/resourceGroups/mirrorplane-{farm.name}"
    async with await signed_in(lab) as session:
        for path in (f"virtualMachines/{farm.name}-{node}", f"disks/{farm.name}-{node}-data"):
            await delete_resource(session, f"{group}/providers/Microsoft.Compute/{path}?api-version={COMPUTE_VERSION}")


async def hang(farm: Farm, node: str) -> None:
    """Every process of the VM stands still; only a restart from outside ends that."""
    found = await LabClient(farm.nodes.info.control_socket).acall("nodes")
    machine = next(entry for entry in found if entry["name"] == f"{farm.name}-{node}")
    for pid in Group(Path(machine["cgroup"])).pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
