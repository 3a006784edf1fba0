"""Somebody else's hand: a machine is stopped in Azure itself, past the control plane."""

from __future__ import annotations

import ssl
from typing import Final

import aiohttp

from lab.info import LabInfo

ARM: Final = "https://management.azure.com/"
COMPUTE_VERSION: Final = "2024-07-01"


async def power_off(lab: LabInfo, cluster: str, node: str) -> None:
    """Accepted by ARM, which then tells Event Grid when it is done."""
    tokens = lab.read_tokens()
    query = {"resource": ARM, "api-version": "2019-08-01"}
    trust = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(lab.ca)))
    async with aiohttp.ClientSession(connector=trust) as session:
        identity = {"X-IDENTITY-HEADER": tokens.identity_header}
        async with session.get(tokens.identity_endpoint, params=query, headers=identity) as answer:
            assert answer.status == 200, await answer.text()
            token = (await answer.json())["access_token"]
        group = f"/subscriptions/{lab.subscription_id}/resourceGroups/mirrorplane-{cluster}"
        machine = f"{lab.arm_url}{group}/providers/Microsoft.Compute/virtualMachines/{cluster}-{node}"
        headers = {"Authorization": f"Bearer {token}"}
        async with session.post(f"{machine}/powerOff?api-version={COMPUTE_VERSION}", headers=headers) as answer:
            assert answer.status == 202, await answer.text()
