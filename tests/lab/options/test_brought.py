"""A whole cluster in what a team brings: its group, its network behind its own NAT gateway, an internal load balancer.

Nothing of it can be reached from outside, so the client is the node that does not serve (a machine behind an internal
load balancer cannot reach itself through it): it asks the virtual IP, before and after a swap of the roles. What was
brought is the same before and after the cluster's life.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from lab.demo.api import ControlPlane, DemoFailed
from lab.demo.cluster import body
from lab.demo.nodes import Nodes
from lab.info import LabInfo

NAME: Final = "inside"
GROUP: Final = "payments-rg"
VIRTUAL_IP: Final = "10.9.1.30"
VERSION: Final = "2024-05-01"
DEADLINE_S: Final = 600.0
POLL_S: Final = 1.0


@dataclass
class Team:
    """Somebody else with the same subscription: makes a group, an address, a NAT gateway and a network."""

    lab: LabInfo
    session: aiohttp.ClientSession

    async def put(self, path: str, document: dict[str, Any]) -> None:
        async with self.session.put(self._url(path), json=document) as answer:
            assert answer.status < 300, await answer.text()

    async def get(self, path: str) -> dict[str, Any]:
        async with self.session.get(self._url(path)) as answer:
            assert answer.status == 200, await answer.text()
            document: dict[str, Any] = await answer.json()
            return document

    async def until_there(self, path: str) -> None:
        limit = time.monotonic() + DEADLINE_S
        while (await self.get(path))["properties"]["provisioningState"] != "Succeeded":
            assert time.monotonic() < limit, path
            await asyncio.sleep(POLL_S)

    async def prepare(self) -> str:
        """The id of the subnet the cluster may use."""
        await self.put("", {"location": "westeurope", "tags": {"team": "payments"}})
        address = {"sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}}
        await self.put(_network("publicIPAddresses/way-out-ip"), {"location": "westeurope", **address})
        await self.until_there(_network("publicIPAddresses/way-out-ip"))
        out = {"publicIpAddresses": [{"id": self.id(_network("publicIPAddresses/way-out-ip"))}]}
        gateway = {"location": "westeurope", "sku": {"name": "Standard"}, "properties": out}
        await self.put(_network("natGateways/way-out"), gateway)
        await self.until_there(_network("natGateways/way-out"))
        gateway_id = {"id": self.id(_network("natGateways/way-out"))}
        subnets = [
            {"name": "others", "properties": {"addressPrefix": "10.9.0.0/24"}},
            {"name": "ours", "properties": {"addressPrefix": "10.9.1.0/24", "natGateway": gateway_id}},
        ]
        properties = {"addressSpace": {"addressPrefixes": ["10.9.0.0/16"]}, "subnets": subnets}
        await self.put(_network("virtualNetworks/hub"), {"location": "westeurope", "properties": properties})
        await self.until_there(_network("virtualNetworks/hub"))
        return f"{self.id(_network('virtualNetworks/hub'))}/subnets/ours"

    async def names(self) -> set[str]:
        return {row["name"] for row in (await self.get("/resources"))["value"]}

    def id(self, path: str) -> str:
        return f"/subscriptions/{self.lab.subscription_id}/resourceGroups/{GROUP}{path}"

    def _url(self, path: str) -> str:
        return f"{self.lab.arm_url}{self.id(path)}?api-version={VERSION}"


def _network(path: str) -> str:
    return f"/providers/Microsoft.Network/{path}"


async def team_of(lab: LabInfo) -> Team:
    tokens = lab.read_tokens()
    query = {"resource": "https://management.azure.com/", "api-version": "2019-08-01"}
    async with aiohttp.ClientSession() as asking:
        headers = {"X-IDENTITY-HEADER": tokens.identity_header}
        async with asking.get(tokens.identity_endpoint, params=query, headers=headers) as answer:
            token = (await answer.json())["access_token"]
    trust = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(lab.ca)))
    return Team(lab, aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}, connector=trust))


def wanted(subnet: str) -> dict[str, Any]:
    document = body("ledger") | {"resourceGroup": GROUP, "tags": {"team": "payments"}}
    document["network"] |= {
        "subnet": "10.9.1.0/24",
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
    team = await team_of(lab)
    nodes = Nodes(lab, tmp_path, NAME)
    async with team.session, ControlPlane(lab.control_plane_url, lab.read_tokens().admin, str(lab.ca)) as api:
        subnet = await team.prepare()
        brought, before = await team.names(), await team.get(_network("virtualNetworks/hub"))
        request = wanted(subnet)
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
        await until_served(nodes, await replica(api))
        _, _, headers = await api.call("POST", f"/clusters/{NAME}:swap", {"reason": "the other way round"})
        await api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)
        await until_served(nodes, await replica(api))
        _, _, headers = await api.call("DELETE", f"/clusters/{NAME}")
        await api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)
        assert await team.names() == brought
        after = await team.get(_network("virtualNetworks/hub"))
        assert [subnet["properties"] for subnet in after["properties"]["subnets"]] == [
            subnet["properties"] for subnet in before["properties"]["subnets"]
        ]
        assert (await team.get(""))["tags"] == {"team": "payments"}


async def replica(api: ControlPlane) -> str:
    """The node in sync that does not serve, as soon as there is one."""
    limit = time.monotonic() + DEADLINE_S
    while time.monotonic() < limit:
        for node in (await api.cluster(NAME))["nodes"]:
            if (node["role"], node["phase"]) == ("SECOND", "ready"):
                return str(node["name"])
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"no replica within {DEADLINE_S:g} s")


async def until_served(nodes: Nodes, client: str) -> None:
    """The virtual IP answers a machine of the network."""
    limit = time.monotonic() + DEADLINE_S
    while time.monotonic() < limit:
        with contextlib.suppress(DemoFailed):
            await nodes.run(client, "curl", "-sS", "--fail", "--max-time", "3", f"http://{VIRTUAL_IP}/")
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"{VIRTUAL_IP} did not answer node {client} within {DEADLINE_S:g} s")
