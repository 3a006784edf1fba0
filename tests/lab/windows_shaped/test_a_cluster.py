"""A cluster asked for with `compute.os: windows`, from the request to its end, on Linux VMs that stand in for Windows.

What is real: validation, estimate, every ARM body and how it is accepted, passwords, the extension with its token,
downloads by hash, enrolment, replication, roles, probes, repair and deletion by the control plane, and the cmd.exe (of
Wine) that runs the application's scripts. What is not: everything inside of Windows (docs/windows.md).
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import pytest

from lab.demo.api import ControlPlane, DemoFailed
from lab.demo.cluster import TIMING
from lab.demo.nodes import Nodes
from lab.info import LabInfo
from tests.lab.own_lab import lab_command
from tests.lab.watch.cluster import COMPUTE_VERSION, LIMITS, delete_resource, signed_in

NAME: Final = "windows-ledger"  # longer than a computer name may be
DEADLINE_S: Final = 420.0
POLL_S: Final = 0.5
DIRECTORY: Final = "M:\\ledger"
WANTED: Final[dict[str, Any]] = {
    "location": "westeurope",
    "compute": {"os": "windows", "image": "windows-2025", "adminUsername": "operator"},
    "application": {
        "name": "ledger",
        "startPrim": '@echo off\r\ntype "%MODULE_DIR%\\line.txt" >> M:\\ledger\\served.txt\r\n'
        "echo %MODULE_NODE% %EDITION% >> M:\\ledger\\served.txt\r\nif not exist M:\\ledger\\served.txt exit /b 1\r\n",
        "stopPrim": "@echo off\r\necho stopped on %MODULE_NODE% >> M:\\ledger\\served.txt\r\n",
        "files": [{"path": "line.txt", "content": "served by "}],
        "environment": {"EDITION": "standard"},
        "replicatedPaths": [{"path": DIRECTORY}],
        "checkers": [
            {
                "name": "there",
                "kind": "custom",
                "command": f"if not exist {DIRECTORY}\\served.txt exit 1",
                # Each test starts Wine anew, which is seconds of work on a small machine.
                "intervalS": 15.0,
                "timeoutS": 60.0,
            }
        ],
    },
    "timing": TIMING,
    "remediation": {"mode": "on", "limits": LIMITS | {"sickForS": 10.0}},
}
PROBE: Final = (
    "import sys, urllib.request as u, urllib.error as e\n"
    "try:\n    print(u.urlopen('http://127.0.0.1:9010/var/modules/mirror/ready.txt', timeout=5).status)\n"
    "except e.HTTPError as error:\n    print(error.code)\n"
)


@pytest.mark.lab
@pytest.mark.azurite
@pytest.mark.windows_shaped
async def test_a_windows_cluster_lives_and_is_repaired_and_leaves_nothing(lab: LabInfo, tmp_path: Path) -> None:
    assert lab.control_plane_url is not None
    nodes = Nodes(lab, tmp_path, NAME)
    async with ControlPlane(lab.control_plane_url, lab.read_tokens().admin, str(lab.ca)) as api:
        began = time.monotonic()
        await provision(api)
        print(f"\nprovisioned after {time.monotonic() - began:.0f} s")
        assert "stands in for MicrosoftWindowsServer" in lab_command(tmp_path, "status")
        replica = await in_sync(api)
        primary = other(replica)
        await until_answers(nodes, {primary: "200", replica: "503"})
        assert (await nodes.run(primary, "hostname")).strip() == f"windows-ledge-{primary}"
        assert f"served by {primary} standard" in await served(nodes, primary)

        _, _, headers = await api.call("POST", f"/clusters/{NAME}:swap", {"reason": "the other way round"})
        await api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)
        assert await in_sync(api) == primary
        await until_answers(nodes, {replica: "200", primary: "503"})
        lines = await served(nodes, replica)
        assert f"stopped on {primary}" in lines, "the old primary's last line was replicated"
        assert lines.index(f"served by {primary} standard") < lines.index(f"served by {replica} standard")

        before = await shown(lab, primary)
        lost = time.monotonic()
        await lose_machine(lab, primary)
        await until_another(lab, primary, before)
        assert await in_sync(api) == primary, "what was lost is the replica again"
        await until_answers(nodes, {replica: "200", primary: "503"})
        print(f"a VM deleted by somebody is whole again after {time.monotonic() - lost:.0f} s")

        _, _, headers = await api.call("DELETE", f"/clusters/{NAME}")
        await api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)
        with pytest.raises(DemoFailed, match="404"):
            await api.cluster(NAME)
        assert await left(lab) == []
        assert "windows-ledger" not in lab_command(tmp_path, "status")


async def provision(api: ControlPlane) -> None:
    proposal = {"name": NAME, "cluster": WANTED}
    _, preview, _ = await api.call("POST", "/clusters:validate", proposal)
    assert preview["valid"], preview["problems"]
    assert {f"{NAME}-a/bootstrap", f"{NAME}-b/bootstrap"} <= {change["name"] for change in preview["changes"]}
    _, estimate, _ = await api.call("POST", "/clusters:estimate", proposal)
    assert estimate["complete"], estimate
    _, _, headers = await api.call("PUT", f"/clusters/{NAME}", WANTED)
    await api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)


async def in_sync(api: ControlPlane) -> str:
    """The replica in sync, as soon as there is one beside a primary, both by fresh heartbeats."""
    limit = time.monotonic() + DEADLINE_S
    while True:
        nodes = (await api.cluster(NAME))["nodes"]
        roles = {f"{node['role']} {node['phase']}": str(node["name"]) for node in nodes if node["health"] == "healthy"}
        if roles.keys() == {"PRIM ready", "SECOND ready"}:
            return roles["SECOND ready"]
        assert time.monotonic() < limit, f"no pair in sync within {DEADLINE_S:g} s: {nodes}"
        await asyncio.sleep(POLL_S)


def other(node: str) -> str:
    return "b" if node == "a" else "a"


async def until_answers(nodes: Nodes, wanted: dict[str, str]) -> None:
    """The load balancer's probe, asked in the VMs."""
    limit = time.monotonic() + 60.0
    while True:
        found = {node: (await nodes.run(node, "python3", "-c", PROBE)).strip() for node in wanted}
        if found == wanted:
            return
        assert time.monotonic() < limit, f"the probes answer {found}, not {wanted}"
        await asyncio.sleep(POLL_S)


async def served(nodes: Nodes, node: str) -> list[str]:
    """What the application wrote to M:\\ledger, read where it serves."""
    return [line.strip() for line in (await nodes.run(node, "cat", "/data/ledger/served.txt")).splitlines()]


def machine_url(lab: LabInfo, node: str, child: str = "") -> str:
    group = f"/subscriptions/{lab.subscription_id}/resourceGroups/mirrorplane-{NAME}"
    path = f"virtualMachines/{NAME}-{node}{child}"
    return f"{lab.arm_url}{group}/providers/Microsoft.Compute/{path}?api-version={COMPUTE_VERSION}"


async def shown(lab: LabInfo, node: str) -> tuple[str, dict[str, Any]] | None:
    """The VM's unique id and its extension, as ARM shows them: without any secret. None: one of them is not there."""
    async with await signed_in(lab) as session:
        found = []
        for url in (machine_url(lab, node), machine_url(lab, node, "/extensions/bootstrap")):
            async with session.get(url) as answer:
                if answer.status == 404:
                    return None
                assert answer.status == 200, await answer.text()
                found.append(await answer.json())
    machine, extension = found
    assert "adminPassword" not in machine["properties"]["osProfile"]
    assert "protectedSettings" not in extension["properties"]
    return machine["properties"]["vmId"], extension["properties"]


async def lose_machine(lab: LabInfo, node: str) -> None:
    async with await signed_in(lab) as session:
        await delete_resource(session, machine_url(lab, node))
    assert await shown(lab, node) is None, "an extension goes with its VM"


async def until_another(lab: LabInfo, node: str, before: tuple[str, dict[str, Any]] | None) -> None:
    """A new VM whose extension has run."""
    assert before is not None
    limit = time.monotonic() + DEADLINE_S
    while True:
        found = await shown(lab, node)
        if found is not None and found[0] != before[0] and found[1]["provisioningState"] == "Succeeded":
            return
        assert time.monotonic() < limit, f"no new VM within {DEADLINE_S:g} s: {found}"
        await asyncio.sleep(POLL_S)


async def left(lab: LabInfo) -> list[str]:
    async with await signed_in(lab) as session:
        url = f"{lab.arm_url}/subscriptions/{lab.subscription_id}/resources?api-version=2025-04-01"
        async with session.get(url) as answer:
            return [row["name"] for row in (await answer.json())["value"]]
