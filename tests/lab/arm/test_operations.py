"""Long-running operations, faults and what survives a restart of the endpoint."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from lab.arm.faults import Fault, FaultKind, allocation_failure
from lab.arm.provider import ProviderFailure
from lab.arm.service import ArmService
from tests.lab.arm import bodies
from tests.lab.arm.bodies import GROUP, LOCATION, SUBSCRIPTION, network_id
from tests.lab.arm.conftest import LAB_KEY, QUICK, Lab
from tests.lab.arm.null_provider import NullProvider
from tests.lab.arm.test_refusals import refused
from tests.lab.arm.test_resources import build_cluster, put, vm_body


async def test_an_operation_is_resumed_from_its_continuation_token(lab: Lab) -> None:
    lab.provider.gate = asyncio.Event()
    vnets = lab.network.virtual_networks
    poller = await vnets.begin_create_or_update(GROUP, "demo-vnet", bodies.vnet())
    token = poller.continuation_token()
    assert (await vnets.get(GROUP, "demo-vnet")).provisioning_state == "Updating"
    lab.provider.gate.set()
    resumed = await vnets.begin_create_or_update(GROUP, "demo-vnet", None, continuation_token=token)
    assert (await resumed.result()).provisioning_state == "Succeeded"
    assert lab.provider.named("apply_network") == [network_id("virtualNetworks", "demo-vnet")]


async def test_a_second_write_meanwhile_is_a_conflict(lab: Lab) -> None:
    lab.provider.gate = asyncio.Event()
    vnets = lab.network.virtual_networks
    poller = await vnets.begin_create_or_update(GROUP, "demo-vnet", bodies.vnet())
    second = vnets.begin_create_or_update(GROUP, "demo-vnet", bodies.vnet(defaultOutboundAccess=True))
    assert (await refused(second))[:2] == (409, "AnotherOperationInProgress")
    unsettled = lab.network.network_interfaces.begin_create_or_update(GROUP, "n", bodies.nic(), retry_total=0)
    assert await refused(unsettled) == (429, "RetryableError", "ReferencedResourceNotProvisioned")
    lab.provider.gate.set()
    await poller.result()


async def test_a_second_action_on_a_vm_meanwhile_is_a_conflict_and_the_view_is_transitional(lab: Lab) -> None:
    await build_cluster(lab, "a")
    vms = lab.compute.virtual_machines
    lab.provider.gate = asyncio.Event()
    poller = await vms.begin_deallocate(GROUP, "demo-a")
    view = await vms.instance_view(GROUP, "demo-a")
    assert [s.code for s in view.statuses] == ["ProvisioningState/updating", "PowerState/deallocating"]
    assert (await refused(vms.begin_restart(GROUP, "demo-a")))[:2] == (409, "Conflict")
    lab.provider.gate.set()
    await poller.result()


async def test_throttling_is_retried_by_the_pipeline(lab: Lab) -> None:
    fault = lab.service.faults.add(
        Fault(FaultKind.THROTTLE, method="PUT", type="*/publicIPAddresses", times=2, retry_after_s=0)
    )
    made = await put(lab.network.public_ip_addresses, "demo-vip", bodies.public_ip())
    assert made.provisioning_state == "Succeeded"
    assert fault.struck == 2


async def test_throttling_is_seen_where_nobody_retries(lab: Lab) -> None:
    lab.service.faults.add(Fault(FaultKind.THROTTLE, method="GET", name=GROUP, retry_after_s=7))
    with pytest.raises(HttpResponseError) as caught:
        await lab.resources.resource_groups.get(GROUP, retry_total=0)
    assert caught.value.status_code == 429
    response: Any = caught.value.response
    assert response.headers["Retry-After"] == "7"


async def test_a_conflict_on_demand(lab: Lab) -> None:
    lab.service.faults.add(Fault(FaultKind.REFUSE, method="PUT", name="demo-vip"))
    call = put(lab.network.public_ip_addresses, "demo-vip", bodies.public_ip())
    assert (await refused(call))[:2] == (409, "AnotherOperationInProgress")
    await put(lab.network.public_ip_addresses, "demo-vip", bodies.public_ip())


@pytest.mark.parametrize(("zonal", "code"), [(True, "ZonalAllocationFailed"), (False, "AllocationFailed")])
async def test_an_allocation_failure_leaves_a_failed_vm_that_a_second_put_repairs(
    lab: Lab, zonal: bool, code: str
) -> None:
    await build_cluster(lab, "a")
    vms = lab.compute.virtual_machines
    await (await vms.begin_delete(GROUP, "demo-a")).result()
    lab.service.faults.add(allocation_failure("demo-a", zonal=zonal))
    with pytest.raises(HttpResponseError) as caught:
        await put(vms, "demo-a", vm_body("a"))
    assert caught.value.error is not None
    assert caught.value.error.code == code
    view = await vms.instance_view(GROUP, "demo-a")
    assert [s.code for s in view.statuses] == [f"ProvisioningState/failed/{code}"]
    assert (await put(vms, "demo-a", vm_body("a"))).provisioning_state == "Succeeded"


async def test_a_provider_s_failure_reaches_the_client_unchanged(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_network: Any) -> None:
        raise ProviderFailure("AddressRangeTaken", "the host uses 10.0.0.0/16 itself")

    monkeypatch.setattr(lab.provider, "apply_network", broken)
    with pytest.raises(HttpResponseError) as caught:
        await put(lab.network.virtual_networks, "demo-vnet", bodies.vnet())
    assert caught.value.error is not None
    assert (caught.value.error.code, caught.value.error.message) == (
        "AddressRangeTaken",
        "the host uses 10.0.0.0/16 itself",
    )
    assert (await lab.network.virtual_networks.get(GROUP, "demo-vnet")).provisioning_state == "Failed"


async def test_a_lost_operation_is_404_although_the_work_was_done(lab: Lab) -> None:
    lab.service.faults.add(Fault(FaultKind.LOSE, method="PUT", type="*/virtualNetworks"))
    with pytest.raises(HttpResponseError):
        await put(lab.network.virtual_networks, "demo-vnet", bodies.vnet())
    await lab.service.idle()
    assert (await lab.network.virtual_networks.get(GROUP, "demo-vnet")).provisioning_state == "Succeeded"


async def test_a_new_resource_may_be_hidden_for_a_while(lab: Lab) -> None:
    await put(lab.network.public_ip_addresses, "demo-vip", bodies.public_ip())
    lab.service.faults.add(Fault(FaultKind.HIDE, method="GET", name="demo-vip", times=2))
    for _ in range(2):
        with pytest.raises(ResourceNotFoundError):
            await lab.network.public_ip_addresses.get(GROUP, "demo-vip")
    await lab.network.public_ip_addresses.get(GROUP, "demo-vip")


async def test_a_slow_operation_takes_its_delay() -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    service = ArmService(subscription_id=SUBSCRIPTION, provider=NullProvider(), timing=QUICK, sleep=note)
    await _make_group(service)
    service.faults.add(Fault(FaultKind.SLOW, type="*/publicIPAddresses", delay_s=30))
    answer = await _put_vip(service)
    assert answer.status == 201
    await service.idle()
    assert waits == [30 + QUICK.write_s]
    await service.close()


async def test_faults_and_vanish_over_http_need_the_lab_key(lab: Lab) -> None:
    fault = {"kind": "refuse", "method": "PUT", "name": "demo-vip", "status": 503, "code": "ServerBusy", "times": 1}
    async with aiohttp.ClientSession(lab.url, connector=aiohttp.TCPConnector(ssl=False)) as session:
        assert (await session.post("/lab/faults", json=fault)).status == 401
        key = {"x-lab-key": LAB_KEY}
        assert (await session.post("/lab/faults", json=fault, headers=key)).status == 201
        assert (await session.post("/lab/faults", json={"kind": "odd"}, headers=key)).status == 400
        assert len(await (await session.get("/lab/faults", headers=key)).json()) == 1
        await put(lab.network.public_ip_addresses, "demo-vip", bodies.public_ip())  # 503 is retried
        assert (await (await session.get("/lab/faults", headers=key)).json())[0]["struck"] == 1
        assert (await session.delete("/lab/faults", headers=key)).status == 204

        vip = network_id("publicIPAddresses", "demo-vip")
        assert (await session.post("/lab/vanish", json={"id": vip}, headers=key)).status == 204
        assert (await session.post("/lab/vanish", json={"id": vip}, headers=key)).status == 404
    assert lab.provider.addresses == {}


async def test_a_vm_deleted_out_of_band_is_gone_and_said_so(lab: Lab) -> None:
    await build_cluster(lab, "a")
    vm_id = next(iter(lab.provider.vms))
    await lab.service.vanish(vm_id)
    with pytest.raises(ResourceNotFoundError):
        await lab.compute.virtual_machines.get(GROUP, "demo-a")
    last = [e for e in lab.events if e.resource_id == vm_id][-1]
    assert (last.type, last.operation_name) == (
        "Microsoft.Resources.ResourceDeleteSuccess",
        "Microsoft.Compute/virtualMachines/delete",
    )


async def test_every_settled_change_is_an_event(lab: Lab) -> None:
    await build_cluster(lab, "a")
    vms = lab.compute.virtual_machines
    await (await vms.begin_power_off(GROUP, "demo-a")).result()
    lab.service.faults.add(allocation_failure("demo-a"))
    with pytest.raises(HttpResponseError):
        await (await vms.begin_start(GROUP, "demo-a")).result()
    await (await vms.begin_delete(GROUP, "demo-a")).result()
    found = [(e.type.split(".")[2], e.operation_name) for e in lab.events if "/virtualMachines/" in e.resource_id]
    vm = "Microsoft.Compute/virtualMachines"
    assert found == [
        ("ResourceWriteSuccess", f"{vm}/write"),
        ("ResourceActionSuccess", f"{vm}/powerOff/action"),
        ("ResourceActionFailure", f"{vm}/start/action"),
        ("ResourceDeleteSuccess", f"{vm}/delete"),
    ]


VERSION = {"api-version": "2026-03-01"}
VIP_PATH = network_id("publicIPAddresses", "demo-vip")


async def _make_group(service: ArmService) -> None:
    body = f'{{"location": "{LOCATION}"}}'.encode()
    path = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/{GROUP}"
    assert (await service.handle("PUT", path, VERSION, {}, body)).status == 201


async def _put_vip(service: ArmService) -> Any:
    return await service.handle("PUT", VIP_PATH, VERSION, {}, f'{{"location": "{LOCATION}"}}'.encode())


async def test_the_state_survives_and_an_interrupted_operation_is_failed_and_repairable(tmp_path: Path) -> None:
    file, provider = tmp_path / "arm.json", NullProvider()
    first = ArmService(subscription_id=SUBSCRIPTION, provider=provider, timing=QUICK, state_file=file)
    await _make_group(first)
    provider.gate = asyncio.Event()
    answer = await _put_vip(first)
    await first.close()
    assert file.stat().st_mode & 0o777 == 0o600

    provider.gate = None
    second = ArmService(subscription_id=SUBSCRIPTION, provider=provider, timing=QUICK, state_file=file)
    path = answer.headers["Azure-AsyncOperation"].removeprefix("https://management.azure.com").split("?")[0]
    status = await second.handle("GET", path, VERSION, {}, b"")
    assert status.body is not None
    assert (status.body["status"], status.body["error"]["code"]) == ("Failed", "InternalOperationError")
    assert (await _put_vip(second)).status == 200
    await second.idle()
    shown = await second.handle("GET", VIP_PATH, VERSION, {}, b"")
    assert shown.body is not None
    assert shown.body["properties"]["ipAddress"] == "198.18.0.16"
    await second.close()


async def test_calls_for_one_balancer_never_overlap_when_interfaces_join_at_once(lab: Lab) -> None:
    await build_cluster(lab)
    nics = lab.network.network_interfaces
    pollers = [await nics.begin_create_or_update(GROUP, f"n{i}", bodies.nic(pool=True)) for i in range(6)]
    await asyncio.gather(*(poller.result() for poller in pollers))
    wired = lab.provider.balancers[network_id("loadBalancers", "demo-lb")]
    assert {b.private_address for b in wired.pools[0].backends} == {f"10.0.0.{4 + i}" for i in range(6)}


async def test_a_group_whose_network_is_used_from_outside_is_kept_and_the_reason_told(lab: Lab) -> None:
    await put(lab.network.virtual_networks, "demo-vnet", bodies.vnet())
    await lab.resources.resource_groups.create_or_update("other", {"location": LOCATION})
    outside = await lab.network.network_interfaces.begin_create_or_update("other", "n", bodies.nic())
    await outside.result()
    poller = await lab.resources.resource_groups.begin_delete(GROUP)
    with pytest.raises(HttpResponseError) as caught:
        await poller.result()
    assert caught.value.error is not None
    assert caught.value.error.code == "InUseSubnetCannotBeDeleted"
    assert (await lab.resources.resource_groups.get(GROUP)).properties.provisioning_state == "Succeeded"
    await (await lab.resources.resource_groups.begin_delete("other")).result()
    await (await lab.resources.resource_groups.begin_delete(GROUP)).result()


async def test_a_failed_delete_can_be_repeated(lab: Lab) -> None:
    await put(lab.network.virtual_networks, "demo-vnet", bodies.vnet())
    lab.service.faults.add(Fault(FaultKind.FAIL, method="DELETE", code="InternalServerError", message="bad day"))
    with pytest.raises(HttpResponseError) as caught:
        await (await lab.network.virtual_networks.begin_delete(GROUP, "demo-vnet")).result()
    assert caught.value.error is not None
    assert caught.value.error.code == "InternalServerError"
    assert (await lab.network.virtual_networks.get(GROUP, "demo-vnet")).provisioning_state == "Failed"
    await (await lab.network.virtual_networks.begin_delete(GROUP, "demo-vnet")).result()
    assert lab.provider.networks == {}
