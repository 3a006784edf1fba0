"""Somebody else with the same subscription: makes a group, a network with a way out, and a machine of its own in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lab.info import LabInfo
from tests.lab.watch.cluster import signed_in

GROUP: Final = "payments-rg"
LOCATION: Final = "westeurope"
# The lab names a machine by cluster and node: `team/client`.
TEAM, CLIENT = "team", "client"
MACHINE: Final = f"{TEAM}-{CLIENT}"
SUBNET: Final = "10.9.1.0/24"
NETWORK_VERSION: Final = "2024-05-01"
COMPUTE_VERSION: Final = "2024-07-01"
DEADLINE_S: Final = 600.0
POLL_S: Final = 1.0


def network(path: str) -> str:
    return f"/providers/Microsoft.Network/{path}"


HUB: Final = network("virtualNetworks/hub")


@dataclass
class Team:
    lab: LabInfo
    session: aiohttp.ClientSession

    async def put(self, path: str, document: dict[str, Any]) -> None:
        """And until it is there."""
        async with self.session.put(self._url(path), json=document) as answer:
            assert answer.status < 300, await answer.text()
        limit = time.monotonic() + DEADLINE_S
        while path and (await self.get(path))["properties"]["provisioningState"] != "Succeeded":
            assert time.monotonic() < limit, path
            await asyncio.sleep(POLL_S)

    async def get(self, path: str) -> dict[str, Any]:
        async with self.session.get(self._url(path)) as answer:
            assert answer.status == 200, await answer.text()
            document: dict[str, Any] = await answer.json()
            return document

    async def prepare(self) -> str:
        """The id of the subnet a cluster may use. A machine of the team stands in the network's other subnet."""
        await self.put("", {"location": LOCATION, "tags": {"team": "payments"}})
        address = {"sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}}
        await self.put(network("publicIPAddresses/way-out-ip"), {"location": LOCATION, **address})
        out = {"publicIpAddresses": [{"id": self.id(network("publicIPAddresses/way-out-ip"))}]}
        gateway = {"location": LOCATION, "sku": {"name": "Standard"}, "properties": out}
        await self.put(network("natGateways/way-out"), gateway)
        gateway_id = {"id": self.id(network("natGateways/way-out"))}
        subnets = [
            {"name": "others", "properties": {"addressPrefix": "10.9.0.0/24"}},
            {"name": "ours", "properties": {"addressPrefix": SUBNET, "natGateway": gateway_id}},
        ]
        properties = {"addressSpace": {"addressPrefixes": ["10.9.0.0/16"]}, "subnets": subnets}
        await self.put(HUB, {"location": LOCATION, "properties": properties})
        await self._machine()
        return f"{self.id(HUB)}/subnets/ours"

    async def _machine(self) -> None:
        subnet = {"id": f"{self.id(HUB)}/subnets/others"}
        configuration = {"name": "ip", "properties": {"subnet": subnet, "privateIPAllocationMethod": "Dynamic"}}
        nic = network(f"networkInterfaces/{MACHINE}-nic")
        await self.put(nic, {"location": LOCATION, "properties": {"ipConfigurations": [configuration]}})
        public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        key = {"path": "/home/azureuser/.ssh/authorized_keys", "keyData": public.decode()}
        image = {"publisher": "debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"}
        await self.put(
            f"/providers/Microsoft.Compute/virtualMachines/{MACHINE}",
            {
                "location": LOCATION,
                "properties": {
                    "hardwareProfile": {"vmSize": "Standard_D2s_v5"},
                    "storageProfile": {"imageReference": image, "osDisk": {"createOption": "FromImage"}},
                    "osProfile": {
                        "computerName": MACHINE,
                        "adminUsername": "azureuser",
                        "linuxConfiguration": {"disablePasswordAuthentication": True, "ssh": {"publicKeys": [key]}},
                    },
                    "networkProfile": {"networkInterfaces": [{"id": self.id(nic)}]},
                },
            },
        )

    async def names(self) -> set[str]:
        return {row["name"] for row in (await self.get("/resources"))["value"]}

    async def subnets(self) -> list[dict[str, Any]]:
        """As somebody who looks for traces of a cluster would compare them."""
        return [subnet["properties"] for subnet in (await self.get(HUB))["properties"]["subnets"]]

    def id(self, path: str) -> str:
        return f"/subscriptions/{self.lab.subscription_id}/resourceGroups/{GROUP}{path}"

    def _url(self, path: str) -> str:
        version = COMPUTE_VERSION if "Microsoft.Compute" in path else NETWORK_VERSION
        return f"{self.lab.arm_url}{self.id(path)}?api-version={version}"


@asynccontextmanager
async def team_of(lab: LabInfo) -> AsyncIterator[Team]:
    async with await signed_in(lab) as session:
        yield Team(lab, session)
