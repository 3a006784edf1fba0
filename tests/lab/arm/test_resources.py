"""Create, read, list, change and delete of every type with the unmodified SDK clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from lab.arm.provider import PowerState
from tests.lab.arm import bodies
from tests.lab.arm.bodies import GROUP, network_id
from tests.lab.arm.conftest import Lab


async def put(operations: Any, name: str, body: Any) -> Any:
    poller = await operations.begin_create_or_update(GROUP, name, body)
    return await poller.result()


def code_of(error: HttpResponseError) -> str | None:
    return error.error.code if error.error else None


async def build_cluster(lab: Lab, *nodes: str) -> None:
    """The resources of a cluster in dependency order."""
    net = lab.network
    for name in ("demo-nat-ip", "demo-vip", *(f"demo-{node}-ip" for node in nodes)):
        await put(net.public_ip_addresses, name, bodies.public_ip())
    await put(net.network_security_groups, "demo-nsg", bodies.nsg())
    await put(net.nat_gateways, "demo-nat", bodies.nat("demo-nat-ip"))
    subnet = {"natGateway": {"id": network_id("natGateways", "demo-nat")}}
    await put(net.virtual_networks, "demo-vnet", bodies.vnet(**subnet))
    await put(net.load_balancers, "demo-lb", bodies.load_balancer())
    for index, node in enumerate(nodes):
        body = bodies.nic(f"10.0.0.{4 + index}", public=f"demo-{node}-ip", pool=True, group=True)
        await put(net.network_interfaces, f"demo-{node}-nic", body)
        await put(lab.compute.virtual_machines, f"demo-{node}", vm_body(node))


def vm_body(node: str) -> Any:
    body = bodies.vm(f"demo-{node}-nic")
    storage = body["properties"]["storageProfile"]
    storage["osDisk"]["name"] = f"demo-{node}-os"
    storage["dataDisks"][0]["name"] = f"demo-{node}-data"
    body["properties"]["osProfile"]["computerName"] = f"demo-{node}"
    return body


async def test_a_cluster_is_built_shown_and_made_physical(lab: Lab) -> None:
    await build_cluster(lab, "a", "b")

    vip = await lab.network.public_ip_addresses.get(GROUP, "demo-vip")
    balancer = await lab.network.load_balancers.get(GROUP, "demo-lb")
    nic = await lab.network.network_interfaces.get(GROUP, "demo-a-nic")
    subnet = await lab.network.subnets.get(GROUP, "demo-vnet", "nodes")
    vm = await lab.compute.virtual_machines.get(GROUP, "demo-a", expand="instanceView")
    disk = await lab.compute.disks.get(GROUP, "demo-a-data")

    assert vip.ip_address.startswith("198.18.0.")
    assert vip.ip_configuration.id.endswith("/loadBalancers/demo-lb/frontendIPConfigurations/vip")
    members = {
        m["id"].split("/")[8]
        for m in balancer["properties"]["backendAddressPools"][0]["properties"]["backendIPConfigurations"]
    }
    assert members == {"demo-a-nic", "demo-b-nic"}
    assert balancer.probes[0].load_balancing_rules[0].id.endswith("/loadBalancingRules/ledger")
    assert nic.virtual_machine.id == vm.id
    assert nic.ip_configurations[0].private_ip_address == "10.0.0.4"
    assert nic.mac_address.startswith("00-0D-3A-")
    assert len(subnet.ip_configurations) == 2
    assert subnet.nat_gateway.id == network_id("natGateways", "demo-nat")
    assert vm.os_profile.custom_data is None
    assert vm.vm_id
    assert [s.code for s in vm.instance_view.statuses] == ["ProvisioningState/succeeded", "PowerState/running"]
    assert disk.managed_by == vm.id
    assert disk.disk_state == "Attached"

    made = lab.provider.vms[vm.id]
    assert made.custom_data == b"#cloud-config\nruncmd: []\n"
    assert made.nics[0].public_address == lab.provider.addresses[network_id("publicIPAddresses", "demo-a-ip")]
    assert made.nics[0].security_group_ids == (network_id("networkSecurityGroups", "demo-nsg"),)
    assert (made.image, made.zone, made.os_disk.name) == ("debian:debian-12:12-gen2:latest", "1", "demo-a-os")
    assert [(d.lun, d.disk.name, d.disk.size_gb) for d in made.data_disks] == [(0, "demo-a-data", 32)]
    wired = lab.provider.balancers[balancer.id]
    assert {b.private_address for b in wired.pools[0].backends} == {"10.0.0.4", "10.0.0.5"}
    assert all(b.vm_id for b in wired.pools[0].backends)
    assert (wired.frontends[0].address, wired.frontends[0].public) == (vip.ip_address, True)
    assert (wired.probes[0].threshold, wired.probes[0].interval_s) == (1, 5)
    network = lab.provider.networks[network_id("virtualNetworks", "demo-vnet")]
    assert wired.vnet_id == network.id
    assert network.subnets[0].nat_addresses == (lab.provider.addresses[network_id("publicIPAddresses", "demo-nat-ip")],)


async def test_every_type_can_be_listed(lab: Lab) -> None:
    await build_cluster(lab, "a")
    found = [r async for r in lab.resources.resources.list_by_resource_group(GROUP)]
    assert {r.type.split("/")[1] for r in found} == {
        "publicIPAddresses",
        "networkSecurityGroups",
        "natGateways",
        "virtualNetworks",
        "loadBalancers",
        "networkInterfaces",
        "virtualMachines",
        "disks",
    }
    paged = [r.id async for r in lab.resources.resources.list_by_resource_group(GROUP, top=2)]
    assert paged == [r.id for r in found]
    assert [vm.name async for vm in lab.compute.virtual_machines.list(GROUP)] == ["demo-a"]
    assert [vm.name async for vm in lab.compute.virtual_machines.list_all()] == ["demo-a"]
    assert len([d async for d in lab.compute.disks.list_by_resource_group(GROUP)]) == 2
    assert [g.name async for g in lab.resources.resource_groups.list(filter="tagName eq 'own'")] == [GROUP]
    assert [g.name async for g in lab.resources.resource_groups.list(filter="tagName eq 'other'")] == []
    assert [s.name async for s in lab.network.subnets.list(GROUP, "demo-vnet")] == ["nodes"]


@pytest.mark.parametrize(
    ("operations", "name", "body"),
    [
        ("network_security_groups", "demo-nsg", bodies.nsg()),
        ("public_ip_addresses", "demo-vip", bodies.public_ip()),
        ("virtual_networks", "demo-vnet", bodies.vnet()),
    ],
)
async def test_the_same_put_again_changes_nothing(lab: Lab, operations: str, name: str, body: Any) -> None:
    group = getattr(lab.network, operations)
    first = await put(group, name, body)
    calls = len(lab.provider.calls)
    again = await put(group, name, body)
    assert again.etag == first.etag
    assert len(lab.provider.calls) == calls


async def test_a_vm_put_again_as_it_was_or_as_it_is_shown_changes_nothing(lab: Lab) -> None:
    await build_cluster(lab, "a")
    calls = len(lab.provider.calls)
    await put(lab.compute.virtual_machines, "demo-a", vm_body("a"))
    shown = await lab.compute.virtual_machines.get(GROUP, "demo-a")
    await put(lab.compute.virtual_machines, "demo-a", shown)
    assert len(lab.provider.calls) == calls


async def test_get_change_put_of_a_balancer_and_an_interface(lab: Lab) -> None:
    await build_cluster(lab, "a")
    balancer = await lab.network.load_balancers.get(GROUP, "demo-lb")
    balancer.tags = {"changed": "yes"}
    assert (await put(lab.network.load_balancers, "demo-lb", balancer)).tags == {"changed": "yes"}
    nic = await lab.network.network_interfaces.get(GROUP, "demo-a-nic")
    nic.tags = {"changed": "too"}
    after = await put(lab.network.network_interfaces, "demo-a-nic", nic)
    assert after.tags == {"changed": "too"}
    assert after.ip_configurations[0].private_ip_address == "10.0.0.4"


async def test_an_interface_joins_and_leaves_a_pool(lab: Lab) -> None:
    await build_cluster(lab)
    wired = lab.provider.balancers
    lb_id = network_id("loadBalancers", "demo-lb")
    tag = (await lab.network.load_balancers.get(GROUP, "demo-lb")).etag
    await put(lab.network.network_interfaces, "n", bodies.nic(pool=True))
    assert [b.private_address for b in wired[lb_id].pools[0].backends] == ["10.0.0.4"]
    assert (await lab.network.load_balancers.get(GROUP, "demo-lb")).etag != tag
    await put(lab.network.network_interfaces, "n", bodies.nic())
    assert wired[lb_id].pools[0].backends == ()


async def test_subnets_at_their_own_address(lab: Lab) -> None:
    await put(lab.network.virtual_networks, "demo-vnet", bodies.vnet())
    subnets = lab.network.subnets
    body = {"properties": {"addressPrefix": "10.0.1.0/24"}}
    made = await (await subnets.begin_create_or_update(GROUP, "demo-vnet", "more", body)).result()
    assert made.address_prefix == "10.0.1.0/24"
    assert made.provisioning_state == "Succeeded"
    await (await subnets.begin_delete(GROUP, "demo-vnet", "more")).result()
    with pytest.raises(ResourceNotFoundError):
        await subnets.get(GROUP, "demo-vnet", "more")


async def test_delete_option_takes_the_disks_along_and_detach_keeps_them(lab: Lab) -> None:
    await build_cluster(lab, "a")
    await (await lab.compute.virtual_machines.begin_delete(GROUP, "demo-a")).result()
    assert [d async for d in lab.compute.disks.list()] == []
    nic = await lab.network.network_interfaces.get(GROUP, "demo-a-nic")
    assert nic.virtual_machine is None

    body = vm_body("a")
    body["properties"]["storageProfile"]["dataDisks"][0]["deleteOption"] = "Detach"
    await put(lab.compute.virtual_machines, "demo-a", body)
    await (await lab.compute.virtual_machines.begin_delete(GROUP, "demo-a")).result()
    kept = [d async for d in lab.compute.disks.list()]
    assert [(d.name, d.disk_state) for d in kept] == [("demo-a-data", "Unattached")]


async def test_a_disk_of_its_own_is_attached(lab: Lab) -> None:
    await put(lab.network.virtual_networks, "demo-vnet", bodies.vnet())
    await put(lab.network.network_interfaces, "n", bodies.nic())
    disk_body: dict[str, Any] = {
        "location": "westeurope",
        "properties": {"creationData": {"createOption": "Empty"}, "diskSizeGB": 8},
    }
    disk_body["zones"] = ["1"]
    disk = await put(lab.compute.disks, "mine", disk_body)
    await put(lab.compute.virtual_machines, "v", bodies.vm("n", data_disk_id=disk.id))
    with pytest.raises(HttpResponseError) as refused:
        await lab.compute.disks.begin_delete(GROUP, "mine")
    assert (refused.value.status_code, code_of(refused.value)) == (409, "OperationNotAllowed")
    await (await lab.compute.virtual_machines.begin_delete(GROUP, "v")).result()
    await (await lab.compute.disks.begin_delete(GROUP, "mine")).result()
    assert lab.provider.disks == {}


async def test_deleting_the_group_removes_everything(lab: Lab) -> None:
    await build_cluster(lab, "a", "b")
    lab.provider.gate = asyncio.Event()  # the deletion stays under way until the questions below are answered
    poller = await lab.resources.resource_groups.begin_delete(GROUP)
    assert (await lab.resources.resource_groups.get(GROUP)).properties.provisioning_state == "Deleting"
    with pytest.raises(HttpResponseError) as refused:
        await put(lab.network.public_ip_addresses, "late", bodies.public_ip())
    assert code_of(refused.value) == "ResourceGroupBeingDeleted"
    lab.provider.gate.set()
    await poller.result()
    assert not await lab.resources.resource_groups.check_existence(GROUP)
    p = lab.provider
    assert not any((p.vms, p.disks, p.interfaces, p.balancers, p.networks, p.groups, p.addresses))
    assert lab.service.state.resources == {}


async def test_deleting_what_is_not_there(lab: Lab) -> None:
    await (await lab.network.load_balancers.begin_delete(GROUP, "none")).result()
    with pytest.raises(ResourceNotFoundError) as missing:
        await lab.resources.resource_groups.begin_delete("none")
    assert code_of(missing.value) == "ResourceGroupNotFound"
    with pytest.raises(ResourceNotFoundError) as nothing:
        await lab.compute.virtual_machines.get(GROUP, "none")
    assert code_of(nothing.value) == "ResourceNotFound"


async def test_paths_are_compared_without_case_and_names_keep_their_spelling(lab: Lab) -> None:
    await put(lab.network.public_ip_addresses, "Demo-VIP", bodies.public_ip())
    found = await lab.network.public_ip_addresses.get(GROUP.upper(), "demo-vip")
    assert found.name == "Demo-VIP"
    assert f"/resourceGroups/{GROUP}/" in found.id


async def test_power_follows_the_real_thing(lab: Lab) -> None:
    await build_cluster(lab, "a")
    vms = lab.compute.virtual_machines

    async def power() -> str:
        view = await vms.instance_view(GROUP, "demo-a")
        return str(view.statuses[1].code)

    await (await vms.begin_power_off(GROUP, "demo-a", skip_shutdown=True)).result()
    assert lab.provider.calls[-1][0] == "power_off_vm hard"
    assert await power() == "PowerState/stopped"
    await (await vms.begin_start(GROUP, "demo-a")).result()
    assert await power() == "PowerState/running"
    await (await vms.begin_deallocate(GROUP, "demo-a")).result()
    assert await power() == "PowerState/deallocated"
    with pytest.raises(HttpResponseError) as refused:
        await vms.begin_restart(GROUP, "demo-a")
    assert code_of(refused.value) == "OperationNotAllowed"
    await (await vms.begin_start(GROUP, "demo-a")).result()
    await (await vms.begin_restart(GROUP, "demo-a")).result()
    await (await vms.begin_redeploy(GROUP, "demo-a")).result()
    assert [c for c, _ in lab.provider.calls[-2:]] == ["restart_vm", "redeploy_vm"]
    lab.provider.power[next(iter(lab.provider.vms))] = PowerState.STOPPED  # it died on its own
    assert await power() == "PowerState/stopped"


async def test_run_command_returns_both_streams(lab: Lab) -> None:
    await build_cluster(lab, "a")
    vms = lab.compute.virtual_machines
    command = {"commandId": "RunShellScript", "script": ["echo one", "echo two"]}
    result = await (await vms.begin_run_command(GROUP, "demo-a", command)).result()
    assert lab.provider.scripts == ["echo one\necho two"]
    assert "[stdout]\nran 17 characters\n" in result.value[0].message
    await (await vms.begin_power_off(GROUP, "demo-a")).result()
    with pytest.raises(HttpResponseError) as refused:
        await vms.begin_run_command(GROUP, "demo-a", command)
    assert refused.value.status_code == 409


async def test_an_internal_balancer_takes_a_private_address(lab: Lab) -> None:
    await put(lab.network.virtual_networks, "demo-vnet", bodies.vnet())
    body = bodies.load_balancer()
    frontend = {"subnet": {"id": bodies.SUBNET_ID}}
    body["properties"]["frontendIPConfigurations"][0]["properties"] = frontend
    made = await put(lab.network.load_balancers, "demo-lb", body)
    assert made.frontend_ip_configurations[0].private_ip_address == "10.0.0.4"
    wired = lab.provider.balancers[made.id]
    assert (wired.frontends[0].address, wired.frontends[0].public) == ("10.0.0.4", False)
    assert wired.vnet_id == network_id("virtualNetworks", "demo-vnet")
    nic = await put(lab.network.network_interfaces, "n", bodies.nic(pool=True))
    assert nic.ip_configurations[0].private_ip_address == "10.0.0.5"


async def test_deleting_a_balancer_takes_the_interfaces_out_of_its_pool(lab: Lab) -> None:
    await build_cluster(lab)
    await put(lab.network.network_interfaces, "n", bodies.nic(pool=True))
    await (await lab.network.load_balancers.begin_delete(GROUP, "demo-lb")).result()
    nic = await lab.network.network_interfaces.get(GROUP, "n")
    assert not nic.ip_configurations[0].load_balancer_backend_address_pools
    assert lab.provider.balancers == {}


async def test_a_zone_redundant_gateway_needs_an_address_of_its_own_sku(lab: Lab) -> None:
    await put(lab.network.public_ip_addresses, "demo-nat-ip", bodies.public_ip())
    body = bodies.nat("demo-nat-ip") | {"sku": {"name": "StandardV2"}}
    with pytest.raises(HttpResponseError) as refused:
        await put(lab.network.nat_gateways, "demo-nat", body)
    assert refused.value.status_code == 400
    await put(lab.network.public_ip_addresses, "v2", bodies.public_ip() | {"sku": {"name": "StandardV2"}})
    await put(lab.network.nat_gateways, "demo-nat", bodies.nat("v2") | {"sku": {"name": "StandardV2"}})
