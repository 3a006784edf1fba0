"""Farms of two, three and four nodes, made by the API: all serve, one is lost and comes back, one is stopped.

Figures go to build/farm.json. Times are reported, not demanded: a busy machine is slow, and no finding.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from lab.control import LabClient
from lab.demo.api import ControlPlane, DemoFailed
from lab.demo.cluster import body
from lab.demo.nodes import Nodes
from lab.info import LabInfo
from lab.paths import REPOSITORY
from tests.lab.farm.cells import START, WEB
from tests.lab.farm.clients import Clients, Loss

pytestmark = [pytest.mark.lab, pytest.mark.azurite, pytest.mark.farm]

RESULT: Final = REPOSITORY / "build/farm.json"
DEADLINE_S: Final = 600.0
POLL_S: Final = 0.5
NOTICE_S: Final = 900.0
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


def wanted(count: int) -> dict[str, Any]:
    document = body("ledger") | {"kind": "farm", "remediation": {"mode": "off"}}
    document["compute"] |= {"nodes": count}
    document["network"]["rules"] = [{"name": "web", "protocol": "tcp", "frontendPort": 80, "backendPort": 8080}]
    document["application"] = {
        "name": "web",
        "startPrim": START,
        "files": [{"path": "web.py", "content": WEB}],
        "servicePorts": [8080],
        "checkers": [{"name": "answers", "kind": "http", "port": 8080, "path": "/", "threshold": 3}],
    }
    return document


@dataclass
class Farm:
    api: ControlPlane
    nodes: Nodes
    count: int
    figures: dict[str, Any] = field(default_factory=dict)
    wanted: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.wanted = wanted(self.count)

    @property
    def name(self) -> str:
        return self.nodes.cluster

    @property
    def names(self) -> set[str]:
        return set("abcd"[: self.count])

    async def provision(self) -> str:
        """The virtual IP."""
        began = time.monotonic()
        await self.put()
        self.figures["provisioned_s"] = round(time.monotonic() - began, 1)
        cluster = await self.api.cluster(self.name)
        assert {node["name"] for node in cluster["nodes"]} == self.names
        return str(cluster["virtualIp"]["address"])

    async def put(self) -> None:
        """And its end."""
        _, _, headers = await self.api.call("PUT", f"/clusters/{self.name}", self.wanted)
        await self.api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)

    async def roles(self) -> dict[str, str]:
        return {
            node["name"]: f"{node['role']} {node['phase']}" for node in (await self.api.cluster(self.name))["nodes"]
        }

    async def overview(self) -> dict[str, Any]:
        _, document, _ = await self.api.call("GET", f"/clusters/{self.name}/overview")
        return document

    async def verdict(self) -> tuple[str, str]:
        """Of the cluster: its state and its sentence; "" before the first audit."""
        track = (await self.overview())["verdict"]
        return ("", "") if track is None else (track["state"], track["sentence"])

    async def until_verdict(self, state: str, node: str = "") -> None:
        """And its sentence names the node."""
        seen = ("", "")

        async def told() -> bool:
            nonlocal seen
            seen = await self.verdict()
            return seen[0] == state and (not node or f"{node}: " in seen[1])

        try:
            await until(told, f"the verdict is {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}; seen: {seen}") from None

    async def act(self, word: str) -> None:
        _, _, headers = await self.api.call("POST", f"/clusters/{self.name}:{word}", {"reason": "a test"})
        await self.api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)

    async def delete(self) -> None:
        _, _, headers = await self.api.call("DELETE", f"/clusters/{self.name}")
        await self.api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)


async def until(fact: Callable[[], Any], what: str) -> None:
    """Facts that ask the control plane or a machine may not be answered now; the deadline judges."""
    limit = time.monotonic() + DEADLINE_S
    while True:
        with contextlib.suppress(DemoFailed):
            found = fact()
            if await found if asyncio.iscoroutine(found) else found:
                return
        assert time.monotonic() < limit, f"not within {DEADLINE_S:.0f} s: {what}"
        await asyncio.sleep(POLL_S)


@pytest.mark.parametrize("count", [2, 3, 4])
async def test_a_farm(lab: LabInfo, tmp_path: Path, count: int) -> None:
    assert lab.control_plane_url is not None
    nodes = Nodes(lab, tmp_path, f"web{count}")
    async with ControlPlane(lab.control_plane_url, lab.read_tokens().admin, str(lab.ca)) as api:
        farm = Farm(api, nodes, count)
        address = await farm.provision()
        async with Clients(f"http://{address}/") as clients:
            await everybody_serves(farm, clients)
            await the_test_page_names_every_node(farm, address)
            await lose_a_node(farm, clients)
            await stop_and_start_a_node(farm, clients)
            await restart_all(farm, clients)
            match count:
                case 2:
                    await change_the_module(farm, clients)
                case 3:
                    await maintain_a_node(farm, clients)
        with pytest.raises(DemoFailed, match="nothing to swap"):
            await api.call("POST", f"/clusters/{farm.name}:swap", {"reason": "a farm has no roles"})
        await farm.delete()
    record(farm)


async def everybody_serves(farm: Farm, clients: Clients) -> None:
    began = clients.now()
    await until(lambda: clients.nodes_since(began) == farm.names, f"every node answers: {farm.names}")

    async def up() -> bool:
        return await farm.roles() == dict.fromkeys(sorted(farm.names), "UP ready")

    await until(up, "the cluster shows every node as UP")
    await farm.until_verdict("healthy")


async def the_test_page_names_every_node(farm: Farm, address: str) -> None:
    """The nodes' own page, through the same virtual IP."""
    named: set[str] = set()
    connector = aiohttp.TCPConnector(ssl=False, force_close=True)  # the nodes' authority is the cluster's own
    async with aiohttp.ClientSession(connector=connector) as session:

        async def all_named() -> bool:
            async with session.get(f"https://{address}:9453/mosaic") as answer:
                text = await answer.text()
            named.update(name for name in farm.names if f'<p class="node">{name}</p>' in text)
            return named == farm.names

        await until(all_named, "the test page was answered by every node")


async def lose_a_node(farm: Farm, clients: Clients) -> None:
    victim = max(farm.names)
    killed = clients.now()
    await farm.nodes.kill(victim)
    await until(lambda: clients.quiet_since(killed), "nobody is sent to the dead node any more")
    settled = clients.now()
    loss = clients.loss(killed, settled)
    note(farm, "killed", loss)
    await farm.until_verdict("degraded", victim)
    assert clients.nodes_since(settled) == farm.names - {victim}
    began = clients.now()
    await farm.nodes.start(victim)
    await until(lambda: victim in clients.nodes_since(began), f"{victim} takes clients again")
    farm.figures["rejoined_s"] = round(clients.now() - began, 1)
    back = clients.now()
    await until(lambda: clients.quiet_since(back), "the node that came back serves for a while")
    loss = clients.loss(began)
    note(farm, "rejoined", loss)
    assert not loss.failed, f"a node that came back cost requests: {loss}"
    await farm.until_verdict("healthy")


async def stop_and_start_a_node(farm: Farm, clients: Clients) -> None:
    began = clients.now()
    outcome = await farm.nodes.ask("a", "stop", "--reason", "maintenance")
    assert outcome["status"] == "succeeded", outcome
    farm.figures["stopped_s"] = round(clients.now() - began, 1)
    stopped = clients.now()

    async def told() -> bool:
        return (await farm.roles())["a"].startswith("STOP")

    await until(told, "the cluster shows that a is stopped")
    await farm.until_verdict("degraded", "a")
    assert clients.nodes_since(stopped) == farm.names - {"a"}
    assert (await farm.nodes.ask("a", "start"))["status"] == "succeeded"
    await until(lambda: "a" in clients.nodes_since(stopped), "a takes clients again")
    loss = clients.loss(began)
    note(farm, "stopped and started", loss)
    assert not loss.failed, f"a stop in order cost requests: {loss}"


async def restart_all(farm: Farm, clients: Clients) -> None:
    """Node by node, so that nobody notices."""
    began = clients.now()
    await farm.act("restart")
    farm.figures["restarted_all_s"] = round(clients.now() - began, 1)
    after = clients.now()
    await until(lambda: clients.nodes_since(after) == farm.names, "every node answers after the restart")
    loss = clients.loss(began)
    note(farm, "restarted, node by node", loss)
    assert not loss.failed, f"a restart in order cost requests: {loss}"


async def change_the_module(farm: Farm, clients: Clients) -> None:
    """What a running agent cannot take: each node begins anew in its turn, while the others serve."""
    before = {name: await farm.nodes.ask(name, "status") for name in farm.names}
    began = clients.now()
    farm.wanted["application"]["environment"] = {"COLOUR": "blue"}
    await farm.put()
    farm.figures["changed_s"] = round(clients.now() - began, 1)
    for name in farm.names:
        status = await farm.nodes.ask(name, "status")
        assert status["agent"]["configurationInUse"] > before[name]["agent"]["configurationInUse"], status["agent"]
    after = clients.now()
    await until(lambda: clients.nodes_since(after) == farm.names, "every node answers after the change")
    loss = clients.loss(began)
    note(farm, "module changed, node by node", loss)
    assert not loss.failed, f"a rolling change cost requests: {loss}"


async def maintain_a_node(farm: Farm, clients: Clients) -> None:
    """Its platform announces a reboot: it leaves first, lets the platform begin, and is back by itself."""
    boot = await farm.nodes.run("b", "cat", BOOT_ID)
    began = clients.now()
    lab = LabClient(farm.nodes.info.control_socket)
    await lab.acall("event", node=f"{farm.name}/b", type="Reboot", notice_s=NOTICE_S)

    async def restarted() -> bool:
        return await farm.nodes.run("b", "cat", BOOT_ID) != boot

    await until(restarted, "the machine of b was restarted")
    farm.figures["maintenance_began_s"] = round(clients.now() - began, 1)
    assert clients.now() - began < NOTICE_S, "it did not wait for its time"
    after = clients.now()
    await until(lambda: "b" in clients.nodes_since(after), "b takes clients again")
    loss = clients.loss(began)
    note(farm, "reboot announced and done", loss)
    assert not loss.failed, f"an announced reboot cost requests: {loss}"


def note(farm: Farm, what: str, loss: Loss) -> None:
    farm.figures[what] = loss.document()
    print(f"farm of {farm.count}, {what}: {json.dumps(loss.document())}", flush=True)


def record(farm: Farm) -> None:
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    known[str(farm.count)] = farm.figures
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
