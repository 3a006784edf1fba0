"""A whole cluster in what a team brings: its group, its network behind its own NAT gateway, an internal load balancer.

Nothing of it can be reached from outside. A machine of the team in another subnet writes through the private frontend
all the time, while the roles are swapped and while the primary loses its power: no acknowledged write is missing, and
both nodes have answered it. What was brought is the same before and after the cluster's life.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Final

import pytest

from lab.demo.api import ControlPlane
from lab.demo.cluster import body
from lab.demo.nodes import Nodes
from lab.info import LabInfo
from lab.paths import REPOSITORY
from tests.lab.options.inside import InsideClient, client_inside, fetch, longest_gap_s
from tests.lab.options.team import DEADLINE_S, GROUP, POLL_S, SUBNET, TEAM, Team, team_of

NAME: Final = "inside"
VIRTUAL_IP: Final = "10.9.1.30"
WRITES: Final = 30
RESULT: Final = REPOSITORY / "build/options.json"


def wanted(subnet: str) -> dict[str, Any]:
    document = body("ledger") | {"resourceGroup": GROUP, "tags": {"team": "payments"}, "remediation": {"mode": "off"}}
    document["network"] |= {
        "subnet": SUBNET,
        "subnetId": subnet,
        "nodeAddresses": {"a": "10.9.1.20", "b": "10.9.1.21"},
        "frontend": "private",
        "privateAddress": VIRTUAL_IP,
        "nodePublicAddresses": False,
        "rules": [
            {"name": "ledger", "protocol": "tcp", "frontendPort": 80, "backendPort": 8080},
            {"name": "ledger-too", "protocol": "tcp", "frontendPort": 8081, "backendPort": 8081},
        ],
    }
    return document


@pytest.mark.lab
@pytest.mark.azurite
@pytest.mark.options
async def test_a_cluster_lives_and_ends_in_somebody_elses_network(lab: LabInfo, tmp_path: Path) -> None:
    assert lab.control_plane_url is not None
    api = ControlPlane(lab.control_plane_url, lab.read_tokens().admin, str(lab.ca))
    async with team_of(lab) as team, api:
        subnet = await team.prepare()
        brought, subnets = await team.names(), await team.subnets()
        await provision_as_previewed(api, team, wanted(subnet), brought)
        async with client_inside(lab, tmp_path, "write", f"http://{VIRTUAL_IP}") as client:
            swapped_s = await swap(api, client)
            killed_s = await lose_the_primary(api, Nodes(lab, tmp_path, NAME), client)
        acknowledged = {one.id for one in client.seen if not one.failure}
        held = set((await fetch(Nodes(lab, tmp_path, TEAM), f"http://{VIRTUAL_IP}/entries"))["entries"])
        assert acknowledged <= held, f"acknowledged and missing: {sorted(acknowledged - held)}"
        figures = {"acknowledged": len(acknowledged), "lost": 0, "swap_gap_s": swapped_s, "power_cut_gap_s": killed_s}
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print(f"\n{json.dumps(figures)}")
        _, _, headers = await api.call("DELETE", f"/clusters/{NAME}")
        await api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)
        assert await team.names() == brought
        assert await team.subnets() == subnets
        assert (await team.get(""))["tags"] == {"team": "payments"}


async def provision_as_previewed(api: ControlPlane, team: Team, request: dict[str, Any], brought: set[str]) -> None:
    _, preview, _ = await api.call("POST", "/clusters:validate", {"name": NAME, "cluster": request})
    assert preview["valid"], preview["problems"]
    assert {change["name"] for change in preview["changes"] if change["action"] == "none"} == {GROUP, "hub"}
    _, _, headers = await api.call("PUT", f"/clusters/{NAME}", request)
    await api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)
    made = {change["name"] for change in preview["changes"] if change["action"] == "create"}
    assert await team.names() - brought >= made, "the preview promised something that was not made"
    assert (await api.cluster(NAME))["virtualIp"]["address"] == VIRTUAL_IP
    _, again, _ = await api.call("POST", "/clusters:validate", {"name": NAME, "cluster": request})
    assert {change["action"] for change in again["changes"]} == {"none"}, again


async def swap(api: ControlPlane, client: InsideClient) -> float:
    """The longest gap of the client, in seconds."""
    replica = await in_sync(api)
    began = time.monotonic()
    await client.until_answered(WRITES, since=began)
    _, _, headers = await api.call("POST", f"/clusters/{NAME}:swap", {"reason": "the other way round"})
    await api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)
    await client.until_answered(WRITES, since=began, by=f'"node": "{replica}"')
    return round(longest_gap_s(await client.answered(), began), 2)


async def lose_the_primary(api: ControlPlane, nodes: Nodes, client: InsideClient) -> float:
    """The longest gap of the client, in seconds. Afterwards the pair is whole again."""
    replica = await in_sync(api)
    primary = "b" if replica == "a" else "a"
    killed = time.monotonic()
    await nodes.kill(primary)
    await client.until_answered(WRITES, since=killed, by=f'"node": "{replica}"')
    gap_s = round(longest_gap_s(await client.answered(), killed - 1.0), 2)
    await nodes.start(primary)
    assert await in_sync(api) == primary
    await client.until_answered(WRITES, since=time.monotonic())
    return gap_s


async def in_sync(api: ControlPlane) -> str:
    """The replica in sync, as soon as there is one beside a primary."""
    limit = time.monotonic() + DEADLINE_S
    while True:
        roles = {f"{node['role']} {node['phase']}": str(node["name"]) for node in (await api.cluster(NAME))["nodes"]}
        if roles.keys() == {"PRIM ready", "SECOND ready"}:
            return roles["SECOND ready"]
        assert time.monotonic() < limit, f"no pair in sync within {DEADLINE_S:g} s: {roles}"
        await asyncio.sleep(POLL_S)
