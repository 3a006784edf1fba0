"""Packets: security groups, NAT, partitions, the load balancer."""

from __future__ import annotations

import asyncio
import json

import pytest

from lab.arm.provider import Network, Subnet
from lab.fabric.commands import run
from lab.fabric.internet import service_link
from lab.fabric.router import Router
from lab.fabric.ruleset import EXTERNAL, Cut
from tests.lab.fabric.conftest import VNET, Fabric, eventually, http_get, rule

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="module")]


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """One request on a connection that stays open: the body."""
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
    assert head.startswith("HTTP/1.1 200"), head
    return (await asyncio.wait_for(reader.readline(), 5)).decode()


async def test_internet_reaches_what_the_group_allows_and_sees_its_own_address_there(fabric: Fabric) -> None:
    service = f"198.18.{fabric.provider.lab_id}.1"
    assert await http_get(fabric.addresses["a"], 8080) == f"demo-a {service}\n"


async def test_group_change_blocks_new_flows_and_lets_old_ones_live(fabric: Fabric) -> None:
    reader, writer = await asyncio.open_connection(fabric.addresses["a"], 8080)
    await fabric.provider.apply_security_group(fabric.group())
    assert await http_get(fabric.addresses["a"], 8080) is None
    assert (await ask(reader, writer)).startswith("demo-a")
    writer.close()
    await fabric.provider.apply_security_group(fabric.group(rule("web", 100, "Allow", "Internet", "8080")))
    assert await http_get(fabric.addresses["a"], 8080) is not None


async def test_outbound_leaves_with_the_nat_gateways_address(fabric: Fabric) -> None:
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        writer.close()

    server = await asyncio.start_server(serve, f"198.18.{fabric.provider.lab_id}.1", 0)
    port = server.sockets[0].getsockname()[1]
    await fabric.run("a", f"curl -s -m 5 http://198.18.{fabric.provider.lab_id}.1:{port}/")
    server.close()
    await server.wait_closed()
    assert seen == [fabric.addresses["nat"]]


async def test_vms_reach_each_other_until_the_link_is_cut(fabric: Fabric) -> None:
    ask = "curl -s -m 1 http://10.7.0.5:8080/ || echo silence"
    assert await fabric.run("a", ask) == "demo-b 10.7.0.4\n"
    router = fabric.provider.routers()[0]
    router.cut([Cut("10.7.0.4", "10.7.0.5")])
    await router.refresh()
    assert await fabric.run("a", ask) == "silence\n"
    router.heal()
    await router.refresh()
    assert await fabric.run("a", ask) == "demo-b 10.7.0.4\n"


async def test_balancer_follows_the_probe_and_keeps_old_flows(fabric: Fabric) -> None:
    await fabric.run("b", "rm /run/healthy")
    await fabric.provider.apply_load_balancer(fabric.balancer())
    vip = fabric.addresses["vip"]

    async def answers(text: str | None) -> bool:
        return await http_get(vip, 80) == text

    service = f"198.18.{fabric.provider.lab_id}.1"
    await eventually(lambda: answers(f"demo-a {service}\n"), "the only healthy member serves, and sees the client")
    reader, writer = await asyncio.open_connection(vip, 80)
    assert (await ask(reader, writer)).startswith("demo-a")

    await fabric.run("a", "rm /run/healthy")
    await eventually(lambda: answers(None), "with all probes down no new flow")
    assert (await ask(reader, writer)).startswith("demo-a"), "the old flow survives probe-down"

    await fabric.run("b", "touch /run/healthy")
    await eventually(lambda: answers(f"demo-b {service}\n"), "the other member takes over")
    await fabric.provider.apply_load_balancer(fabric.balancer(port=81))
    assert await http_get(vip, 81) == f"demo-b {service}\n", "a change keeps the members' health"
    assert (await ask(reader, writer)).startswith("demo-a"), "and the flows"
    writer.close()
    await fabric.provider.delete_load_balancer(fabric.balancer().id)
    assert await http_get(vip, 81) is None
    await fabric.run("a", "touch /run/healthy")


async def test_group_closes_the_virtual_ip_too(fabric: Fabric) -> None:
    await fabric.provider.apply_load_balancer(fabric.balancer())
    vip = fabric.addresses["vip"]

    async def open_() -> bool:
        return await http_get(vip, 80) is not None

    await eventually(open_, "the virtual IP answers")
    await fabric.provider.apply_security_group(fabric.group(rule("no", 100, "Deny", "Internet", "8080")))
    with pytest.raises((TimeoutError, OSError)):
        await asyncio.wait_for(asyncio.open_connection(vip, 80), 0.5)
    await fabric.provider.apply_security_group(fabric.group(rule("web", 100, "Allow", "Internet", "8080")))
    await eventually(open_, "open again")


async def test_an_address_that_moves_to_another_network_is_announced_to_who_knew_it(fabric: Fabric) -> None:
    provider = fabric.provider
    address = await provider.allocate_public_address("moving")

    async def neighbour() -> str:
        return await run(["ip", "-4", "neighbour", "show", address, "dev", service_link(provider.lab_id)])

    async def mac_of(router: Router) -> str:
        (link,) = json.loads(await run(["ip", "-n", router.namespace, "-json", "link", "show", EXTERNAL]))
        return str(link["address"])

    networks = [f"{VNET}-{name}" for name in ("before", "after")]
    try:
        for vnet in networks:
            subnet = Subnet(f"{vnet}/subnets/nodes", "nodes", "10.8.0.0/24", None, "nat", (address,), False)
            known = set(provider.routers())
            await provider.apply_network(Network(vnet, "moving", "westeurope", ("10.8.0.0/16",), (subnet,), {}))
            (router,) = set(provider.routers()) - known
            mac = await mac_of(router)
            if vnet == networks[0]:
                await http_get(address, 80, timeout_s=0.2)  # nobody answers; the kernel asks for the neighbour

            async def learned(mac: str = mac) -> bool:
                return mac in await neighbour()

            # Nothing is sent to the address from here on that could make the kernel ask again.
            await eventually(learned, f"{address} is known to be at {mac}: {await neighbour()}", deadline_s=10)
            if vnet == networks[0]:
                await provider.delete_network(vnet)
    finally:
        await provider.delete_network(networks[1])
        await provider.release_public_address("moving", address)
