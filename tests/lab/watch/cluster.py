"""A cluster in the lab with short limits of remediation, and the accidents that befall it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp

from lab.control import LabClient
from lab.demo.api import ControlPlane, DemoFailed
from lab.demo.cluster import body
from lab.demo.nodes import Nodes
from lab.fabric.cgroups import Group
from lab.info import LabInfo

NAME: Final = "demo"
POLL_S: Final = 1.0
PROVISION_DEADLINE_S: Final = 600.0
ARM: Final = "https://management.azure.com/"
COMPUTE_VERSION: Final = "2024-07-01"
# The same ladder as in production with shorter steps. A node is sick for as long as there, so that the alert about what
# is exposed (two minutes) fires before the repair begins.
LIMITS: Final = {
    "sickForS": 120.0,
    "graceS": 0.0,
    "agentStepS": 240.0,
    "machineStepS": 600.0,
    "replaceStepS": 900.0,
    "coolDownS": 5.0,
    "healthyResetS": 30.0,
    "actionsPerDay": 6,
}
ALERT_DEADLINE_S: Final = 300.0


@dataclass
class Watched:
    """The cluster as its control plane shows it."""

    api: ControlPlane
    lab: LabInfo
    state: Path

    @property
    def nodes(self) -> Nodes:
        return Nodes(self.lab, self.state, NAME)

    async def provision(self, **limits: float) -> None:
        """Waits until redundancy is there; `limits` replace those of LIMITS."""
        wanted = body("ledger") | {
            "remediation": {"mode": "on", "limits": LIMITS | limits},
            # What is lost comes back by remediation here, so that its ladder is seen; drift is only reported.
            "managementPolicy": "observe",
        }
        _, _, headers = await self.api.call("PUT", f"/clusters/{NAME}", wanted)
        await self.api.wait_operation(headers, deadline_s=PROVISION_DEADLINE_S, show=lambda _: None)
        await self.until_redundant(deadline_s=PROVISION_DEADLINE_S)

    async def until_redundant(self, *, deadline_s: float) -> None:
        limit = time.monotonic() + deadline_s
        while sorted((await self.roles()).values()) != ["PRIM ready", "SECOND ready"]:
            assert time.monotonic() < limit, f"not redundant in {deadline_s:.0f} s: {await self.roles()}"
            await asyncio.sleep(POLL_S)

    async def roles(self) -> dict[str, str]:
        cluster = await self.api.cluster(NAME)
        return {node["name"]: f"{node['role']} {node['phase']}" for node in cluster["nodes"]}

    async def replica(self) -> str:
        return next(node for node, role in (await self.roles()).items() if role.startswith("SECOND"))

    async def remediation(self) -> dict[str, Any]:
        _, document, _ = await self.api.call("GET", f"/clusters/{NAME}/remediation")
        return document

    async def actions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.remediation())["actions"]
        return found

    async def events(self) -> list[dict[str, Any]]:
        """The cluster's timeline, oldest first."""
        found: list[dict[str, Any]] = []
        path = f"/clusters/{NAME}/events?top=100"
        while path:
            _, document, _ = await self.api.call("GET", path)
            found += document["value"]
            after = parse_qs(urlsplit(document.get("nextLink", "")).query).get("continue")
            path = f"/clusters/{NAME}/events?top=100&continue={quote(after[0])}" if after else ""
        return found[::-1]

    async def alerts(self) -> dict[str, str]:
        """State of each alert of the cluster, by rule and subject."""
        _, document, _ = await self.api.call("GET", f"/alerts?cluster={NAME}")
        return {f"{alert['rule']} {alert['subject']}": alert["state"] for alert in document["value"]}

    async def until_alerts(self, reached: Callable[[dict[str, str]], bool], what: str) -> None:
        limit = time.monotonic() + ALERT_DEADLINE_S
        seen: dict[str, str] = {}
        while not reached(seen):
            assert time.monotonic() < limit, f"{what}: not within {ALERT_DEADLINE_S:.0f} s, seen {seen}"
            await asyncio.sleep(POLL_S)
            with contextlib.suppress(DemoFailed):
                seen = await self.alerts()

    async def until_audited(self, times: int) -> None:
        """So many audits later: each of them probes both nodes."""
        limit = time.monotonic() + ALERT_DEADLINE_S
        seen: set[str] = set()
        while len(seen) <= times:
            assert time.monotonic() < limit, f"only {len(seen)} audits within {ALERT_DEADLINE_S:.0f} s"
            await asyncio.sleep(POLL_S)
            with contextlib.suppress(DemoFailed):
                _, document, _ = await self.api.call("GET", f"/clusters/{NAME}/probes?node=a&top=1")
                seen.add(document["value"][0]["at"])

    async def notices(self) -> list[dict[str, Any]]:
        """What the on-call webhook was told about the cluster."""
        told = await LabClient(self.lab.control_socket).acall("notices")
        return [notice for notice in told if notice["subject"] == f"clusters/{NAME}"]

    async def until_repaired(self, known: int, *, deadline_s: float) -> list[dict[str, Any]]:
        """Waits until, after an action beyond the first `known`, both nodes are heard anew and are PRIM and SECOND.
        Returns the new actions. It does not wait for the verdict, which calls a node that was down twice flapping."""
        limit = time.monotonic() + deadline_s
        while True:
            actions: list[dict[str, Any]] = []
            nodes: list[dict[str, Any]] = []
            with contextlib.suppress(DemoFailed):
                actions = (await self.actions())[known:]
                nodes = (await self.api.cluster(NAME))["nodes"]
            if actions and actions[-1]["status"] in ("sent", "cured") and _redundant(nodes, actions[-1]["startedAt"]):
                return actions
            if time.monotonic() > limit:
                raise AssertionError(f"not repaired in {deadline_s:.0f} s: {nodes}, {await self.remediation()}")
            await asyncio.sleep(POLL_S)

    async def until_cured(self) -> None:
        """The control plane has seen that the last action helped: at an audit after the repair."""
        limit = time.monotonic() + ALERT_DEADLINE_S
        status = ""
        while status != "cured":
            assert time.monotonic() < limit, f"the last action is {status!r} after {ALERT_DEADLINE_S:.0f} s"
            await asyncio.sleep(POLL_S)
            with contextlib.suppress(DemoFailed):
                status = (await self.actions())[-1]["status"]

    # --- accidents --------------------------------------------------------------------------------------------------
    async def stop_agent(self, node: str) -> None:
        """For good: the service is stopped, so nothing in the VM starts it again."""
        await self.nodes.run(node, "systemctl", "stop", "mirrorplane-agent")

    async def hang(self, node: str) -> None:
        """Every process of the VM stands still, its first one too; only a restart from outside ends that."""
        found = await LabClient(self.lab.control_socket).acall("nodes")
        machine = next(entry for entry in found if entry["name"] == f"{NAME}-{node}")
        for pid in Group(Path(machine["cgroup"])).pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    async def freeze(self, node: str, frozen: bool) -> None:
        """Stands still and is not heard, as in a pause of its host."""
        await LabClient(self.lab.control_socket).acall("freeze" if frozen else "thaw", node=f"{NAME}/{node}")

    async def lose_machine(self, node: str) -> None:
        """The VM and its data disk are deleted, by somebody else than the control plane."""
        group = f"/subscriptions/{self.lab.subscription_id}/resourceGroups/mirrorplane-{NAME}"
        async with await signed_in(self.lab) as session:
            for path in (f"virtualMachines/{NAME}-{node}", f"disks/{NAME}-{node}-data"):
                url = f"{self.lab.arm_url}{group}/providers/Microsoft.Compute/{path}?api-version={COMPUTE_VERSION}"
                await delete_resource(session, url)


def _redundant(nodes: list[dict[str, Any]], since: str) -> bool:
    begun = datetime.fromisoformat(since)
    heard = [node["lastHeartbeatAt"] for node in nodes if node["health"] == "healthy"]
    roles = sorted(f"{node['role']} {node['phase']}" for node in nodes)
    fresh = [at for at in heard if at is not None and datetime.fromisoformat(at) > begun]
    return len(fresh) == len(nodes) and roles == ["PRIM ready", "SECOND ready"]


async def signed_in(lab: LabInfo) -> aiohttp.ClientSession:
    """To ARM, as the control plane's identity."""
    tokens = lab.read_tokens()
    query = {"resource": ARM, "api-version": "2019-08-01"}
    async with aiohttp.ClientSession() as session:
        headers = {"X-IDENTITY-HEADER": tokens.identity_header}
        async with session.get(tokens.identity_endpoint, params=query, headers=headers) as answer:
            document = await answer.json()
            assert answer.status == 200, document
    trust = ssl.create_default_context(cafile=str(lab.ca))
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {document['access_token']}"},
        connector=aiohttp.TCPConnector(ssl=trust),
    )


async def delete_resource(session: aiohttp.ClientSession, url: str, *, deadline_s: float = 60.0) -> None:
    limit = time.monotonic() + deadline_s
    async with session.delete(url) as answer:
        assert answer.status in (200, 202, 204), await answer.text()
    while True:
        async with session.get(url) as answer:
            if answer.status == 404:
                return
        assert time.monotonic() < limit, f"{url} is not gone after {deadline_s:.0f} s"
        await asyncio.sleep(0.5)
