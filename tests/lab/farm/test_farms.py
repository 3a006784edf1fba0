"""Farms of two, three and four nodes, made by the API: all serve, one is lost and comes back, one is stopped, all are
restarted; of four, two are lost at once.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from lab.control import LabClient
from lab.demo.api import DemoFailed
from lab.info import LabInfo
from tests.lab.farm.clients import Clients
from tests.lab.farm.farm import (
    Farm,
    all_answer,
    costs_nothing,
    everybody_serves,
    farm_of,
    record,
    served_without,
    until,
)

pytestmark = [pytest.mark.lab, pytest.mark.azurite, pytest.mark.farm]

NOTICE_S: Final = 900.0
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


@pytest.mark.parametrize("count", [2, 3, 4])
async def test_a_farm(lab: LabInfo, tmp_path: Path, count: int) -> None:
    async with farm_of(count, lab, tmp_path, f"web{count}") as farm:
        address = await farm.provision()
        async with Clients(f"http://{address}/") as clients:
            await everybody_serves(farm, clients)
            await the_test_page_names_every_node(farm, address)
            await lose_a_node(farm, clients)
            await stop_and_start_a_node(farm, clients)
            await restart_all(farm, clients)
            match count:
                case 3:
                    await maintain_a_node(farm, clients)
                case 4:
                    await lose_two_at_once(farm, clients)
        with pytest.raises(DemoFailed, match="nothing to swap"):
            await farm.api.call("POST", f"/clusters/{farm.name}:swap", {"reason": "a farm has no roles"})
        await farm.delete()
    record(farm, str(count))


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
    await farm.nodes.kill(victim)
    await served_without(farm, clients, {victim}, "killed")
    await farm.until_verdict("degraded", victim)
    await all_answer(farm, clients, farm.names - {victim})
    began = clients.now()
    await farm.nodes.start(victim)
    await all_answer(farm, clients, {victim})
    farm.figures["rejoined_s"] = round(clients.now() - began, 1)
    back = clients.now()
    await until(lambda: clients.quiet_since(back), "the node that came back serves for a while")
    costs_nothing(farm, "rejoined", clients.loss(began))
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
    await all_answer(farm, clients, {"a"})
    costs_nothing(farm, "stopped and started", clients.loss(began))


async def restart_all(farm: Farm, clients: Clients) -> None:
    """Node by node, so that nobody notices."""
    began = clients.now()
    await farm.act("restart")
    farm.figures["restarted_all_s"] = round(clients.now() - began, 1)
    await all_answer(farm, clients)
    costs_nothing(farm, "restarted, node by node", clients.loss(began))


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
    await all_answer(farm, clients, {"b"})
    costs_nothing(farm, "reboot announced and done", clients.loss(began))


async def lose_two_at_once(farm: Farm, clients: Clients) -> None:
    """The two that are left carry everybody; the verdict names both that are gone."""
    victims = {"b", "c"}
    await asyncio.gather(*(farm.nodes.kill(victim) for victim in sorted(victims)))
    await served_without(farm, clients, victims, "two killed at once")
    await all_answer(farm, clients, farm.names - victims)
    for victim in sorted(victims):
        await farm.until_verdict("degraded", victim)
    began = clients.now()
    await asyncio.gather(*(farm.nodes.start(victim) for victim in sorted(victims)))
    await all_answer(farm, clients, victims)
    farm.figures["two_rejoined_s"] = round(clients.now() - began, 1)
    await farm.until_verdict("healthy")
    costs_nothing(farm, "two rejoined", clients.loss(began))
