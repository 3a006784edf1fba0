"""Create, update, delete a cluster through the real SDKs; with the faults Azure has."""

from __future__ import annotations

import dataclasses
import json

import pytest

from lab.arm.faults import Fault, FaultKind, allocation_failure
from shared.azure.faults import ArmError
from shared.azure.faults import FaultKind as Kind
from shared.azure.ports import OperationState, PowerAction
from shared.azure.resources import ResourceRef, ResourceType
from shared.model.cluster import ProvisioningState
from shared.model.operation import Operation, OperationKind, OperationStatus
from shared.provisioning.limits import Limits
from shared.provisioning.preview import ChangeAction, preview
from shared.provisioning.specs.cluster import cluster_specs
from tests.control_plane_samples import spec
from tests.lab.provisioning.conftest import IMPATIENT, SUBSCRIPTION, Plane

OURS = {
    "mirrorplane-pay",
    *("pay-nsg", "pay-nat-ip", "pay-nat", "pay-vnet", "pay-vip", "pay-lb"),
    *("pay-a-ip", "pay-a-nic", "pay-a-data", "pay-a", "pay-b-ip", "pay-b-nic", "pay-b-data", "pay-b"),
}
OS_DISKS = {"pay-a-os", "pay-b-os"}


async def created(plane: Plane) -> Operation:
    operation = await plane.finish(await plane.request(OperationKind.CREATE))
    assert operation.status is OperationStatus.SUCCEEDED, operation
    return operation


async def test_creates_a_cluster_of_the_right_shape(plane: Plane) -> None:
    await created(plane)
    assert await plane.names() - OS_DISKS == OURS
    (balancer,) = plane.provider.balancers.values()
    assert [(probe.port, probe.path, probe.interval_s, probe.threshold) for probe in balancer.probes] == [
        (9010, "/var/modules/mirror/ready.txt", 5, 1)
    ]
    assert [(rule.name, rule.frontend_port, rule.backend_port, rule.tcp_reset) for rule in balancer.rules] == [
        ("console", 9453, 9453, True),
        ("ledger", 8080, 8080, True),
    ]
    assert sorted(backend.private_address for backend in balancer.pools[0].backends) == ["10.0.0.4", "10.0.0.5"]
    vms = {vm.name: vm for vm in plane.provider.vms.values()}
    document = vms["pay-a"].custom_data.decode()
    assert json.loads(document.removeprefix("#cloud-config\n"))["runcmd"]
    assert vms["pay-b"].data_disks[0].disk.name == "pay-b-data"
    stored = await plane.context.store.clusters.get("pay")
    assert stored is not None
    assert stored.value.resources.virtual_ip_address == balancer.frontends[0].address


async def test_after_creation_every_spec_has_nothing_to_do(plane: Plane) -> None:
    """What ARM returns, with all it adds, is recognised as what was wanted."""
    await created(plane)
    plan = dataclasses.replace(plane.plan, control_plane_addresses=plane.context.control_plane_addresses)
    for wanted in cluster_specs(plan):
        existing = await plane.arm.get(wanted.ref)
        assert existing is not None, wanted.ref
        assert wanted.parameters(existing) is None, wanted.ref


async def test_the_same_request_again_makes_no_second_resource(plane: Plane) -> None:
    await created(plane)
    calls = list(plane.provider.calls)
    operation = await plane.finish(await plane.request(OperationKind.UPDATE))
    assert operation.status is OperationStatus.SUCCEEDED
    assert plane.provider.calls == calls


async def test_an_update_reaches_the_load_balancer_and_the_security_group(plane: Plane) -> None:
    await created(plane)
    rules = [{"name": "reports", "protocol": "tcp", "frontendPort": 80, "backendPort": 8081}]
    operation = await plane.finish(await plane.request(OperationKind.UPDATE, spec=spec(network__rules=rules)))
    assert operation.status is OperationStatus.SUCCEEDED
    (balancer,) = plane.provider.balancers.values()
    assert [rule.name for rule in balancer.rules] == ["console", "reports"]
    assert [backend.private_address for backend in balancer.pools[0].backends]
    (group,) = plane.provider.groups.values()
    assert {rule.name for rule in group.rules if rule.name.startswith("app-")} == {"app-reports"}


async def test_deletes_everything(plane: Plane) -> None:
    await created(plane)
    operation = await plane.finish(await plane.request(OperationKind.DELETE))
    assert operation.status is OperationStatus.SUCCEEDED, operation
    assert await plane.names() == set()
    assert not (plane.provider.vms)
    assert not (plane.provider.disks)
    assert not (plane.provider.networks)
    assert not (plane.provider.addresses)


async def test_leaves_a_foreign_resource_and_its_group(plane: Plane) -> None:
    await created(plane)
    foreign = ResourceRef(ResourceType.PUBLIC_IP, "mirrorplane-pay", "somebody-else")
    body = {
        "location": "westeurope",
        "sku": {"name": "Standard"},
        "properties": {"publicIPAllocationMethod": "Static"},
        "tags": {"mirrorplane-owned": "true", "mirrorplane-cluster-id": "another"},
    }
    await plane.arm.put(foreign, body, None)
    operation = await plane.finish(await plane.request(OperationKind.DELETE))
    assert operation.status is OperationStatus.SUCCEEDED
    assert await plane.names() == {"mirrorplane-pay", "somebody-else"}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(FaultKind.THROTTLE, method="PUT", type="*/natGateways", retry_after_s=1), id="throttled"),
        pytest.param(Fault(FaultKind.REFUSE, method="PUT", type="*/virtualNetworks", times=3), id="conflict"),
        pytest.param(
            Fault(FaultKind.REFUSE, method="PUT", status=503, code="ServiceUnavailable", times=6), id="unavailable"
        ),
        pytest.param(allocation_failure("pay-b", times=2), id="allocation"),
        pytest.param(Fault(FaultKind.LOSE, method="PUT", times=5), id="operation-forgotten"),
        pytest.param(Fault(FaultKind.HIDE, type="*/virtualMachines", times=4), id="not-visible-yet"),
        pytest.param(Fault(FaultKind.SLOW, method="PUT", type="*/loadBalancers", delay_s=0.5), id="slow"),
    ],
)
async def test_passing_faults_end_in_success(plane: Plane, fault: Fault) -> None:
    plane.service.faults.add(fault)
    await created(plane)
    assert fault.struck > 0
    assert await plane.names() - OS_DISKS == OURS


async def test_a_lasting_failure_carries_arms_code_and_message(plane: Plane) -> None:
    plane.service.faults.add(allocation_failure("pay-b", times=99))
    operation = await plane.finish(await plane.request(OperationKind.CREATE))
    assert operation.status is OperationStatus.FAILED
    assert operation.error is not None
    assert operation.error.code == "ZonalAllocationFailed"
    assert "sufficient capacity" in operation.error.message
    stored = await plane.context.store.clusters.get("pay")
    assert stored is not None
    assert stored.value.state is ProvisioningState.FAILED


async def test_a_conflict_without_end_fails_within_the_budget(plane: Plane) -> None:
    plane.service.faults.add(Fault(FaultKind.REFUSE, method="PUT", type="*/natGateways", times=10_000))
    limits = dataclasses.replace(IMPATIENT, budget_s=1.0)
    plane.context = dataclasses.replace(plane.context, limits=limits)
    operation = await plane.finish(await plane.request(OperationKind.CREATE))
    assert operation.error is not None
    assert operation.error.code == "AnotherOperationInProgress"
    assert Limits().budget_s > limits.budget_s


async def test_a_wrong_body_is_refused_at_once(plane: Plane) -> None:
    bad = {"location": "westeurope", "properties": {"publicIPAlocationMethod": "Static"}}
    await plane.arm.put(plane.plan.group_ref, {"location": "westeurope"}, None)
    with pytest.raises(ArmError) as caught:
        await plane.arm.put(plane.plan.vip, bad, None)
    assert caught.value.fault.kind is Kind.REFUSED


async def test_a_stale_etag_is_seen_as_changed(plane: Plane) -> None:
    await created(plane)
    balancer = await plane.arm.get(plane.plan.load_balancer)
    assert balancer is not None
    with pytest.raises(ArmError) as caught:
        await plane.arm.put(plane.plan.load_balancer, balancer, 'W/"stale"')
    assert caught.value.fault.kind is Kind.CHANGED


async def test_power_actions_and_the_instance_view(plane: Plane) -> None:
    await created(plane)
    node = plane.plan.machine("b")
    view = await plane.machines.instance_view(node)
    assert view is not None
    assert view.power == "running"
    accepted = await plane.machines.power(node, PowerAction.POWER_OFF_HARD)
    assert accepted.operation_url is not None
    await plane.service.idle()
    operation = await plane.arm.operation(accepted.operation_url)
    assert operation is not None
    assert operation.state is OperationState.SUCCEEDED
    view = await plane.machines.instance_view(node)
    assert view is not None
    assert view.power == "stopped"
    for action in (PowerAction.START, PowerAction.RESTART, PowerAction.REDEPLOY, PowerAction.DEALLOCATE):
        await plane.machines.power(node, action)
        await plane.service.idle()
    await plane.machines.power(node, PowerAction.START)
    await plane.service.idle()
    await plane.machines.run_command(node, ("systemctl restart mirrorplane-agent.service",))
    await plane.service.idle()
    assert plane.provider.scripts == ["systemctl restart mirrorplane-agent.service"]
    assert await plane.machines.instance_view(plane.plan.ref(ResourceType.VIRTUAL_MACHINE, "none")) is None


PLACED = {"compute__zones": [], "compute__availabilitySet": True, "compute__proximityPlacementGroup": "own"}


async def test_an_availability_set_with_a_proximity_group_comes_and_goes(plane: Plane) -> None:
    plane.record = plane.record.model_copy(update={"spec": spec(**PLACED)})
    await created(plane)
    assert {"pay-avset", "pay-ppg"} <= await plane.names()
    plan = dataclasses.replace(plane.plan, control_plane_addresses=plane.context.control_plane_addresses)
    assert {change.action for change in await preview(plane.arm, plan)} == {ChangeAction.NONE}
    operation = await plane.finish(await plane.request(OperationKind.DELETE))
    assert operation.status is OperationStatus.SUCCEEDED, operation
    assert await plane.names() == set()


async def test_a_farm_of_four_behind_an_internal_frontend_comes_and_goes(plane: Plane) -> None:
    wish = spec(kind="farm", compute__nodes=4, compute__zones=["1", "2", "3"], network__frontend="private")
    plane.record = plane.record.model_copy(update={"spec": wish})
    await created(plane)
    (balancer,) = plane.provider.balancers.values()
    hosts = sorted(backend.private_address for backend in balancer.pools[0].backends)
    assert hosts == ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"]
    assert balancer.frontends[0].address == "10.0.0.8"
    plan = dataclasses.replace(plane.plan, control_plane_addresses=plane.context.control_plane_addresses)
    assert {change.action for change in await preview(plane.arm, plan)} == {ChangeAction.NONE}
    assert await plane.context.store.witness.read(plane.record.id) is None
    operation = await plane.finish(await plane.request(OperationKind.DELETE))
    assert operation.status is OperationStatus.SUCCEEDED, operation
    assert await plane.names() == set()


async def test_what_is_brought_is_used_and_left_as_it_was(plane: Plane) -> None:
    """Behind an internal load balancer, in somebody else's subnet and group, nodes without public addresses."""
    group = ResourceRef(ResourceType.GROUP, "payments-rg", "payments-rg")
    network = ResourceRef(ResourceType.VIRTUAL_NETWORK, "payments-rg", "hub")
    await plane.arm.put(group, {"location": "northeurope", "tags": {"team": "payments"}}, None)
    subnets = [
        {"name": name, "properties": {"addressPrefix": f"10.9.{n}.0/24"}} for n, name in enumerate(("x", "ours"))
    ]
    properties = {"addressSpace": {"addressPrefixes": ["10.9.0.0/16"]}, "subnets": subnets}
    await plane.arm.put(network, {"location": "westeurope", "properties": properties}, None)
    await plane.service.idle()
    before = await plane.arm.get(network)
    wish = spec(
        resourceGroup="payments-rg",
        network__subnet="10.9.1.0/24",
        network__subnetId=f"{network.id(SUBSCRIPTION)}/subnets/ours",
        network__nodeAddresses={"a": "10.9.1.20", "b": "10.9.1.21"},
        network__frontend="private",
        network__privateAddress="10.9.1.30",
        network__nodePublicAddresses=False,
    )
    plane.record = plane.record.model_copy(update={"spec": wish})
    await created(plane)
    (balancer,) = plane.provider.balancers.values()
    assert [(frontend.address, frontend.public) for frontend in balancer.frontends] == [("10.9.1.30", False)]
    assert sorted(backend.private_address for backend in balancer.pools[0].backends) == ["10.9.1.20", "10.9.1.21"]
    assert not plane.provider.addresses
    plan = dataclasses.replace(plane.plan, control_plane_addresses=plane.context.control_plane_addresses)
    assert {change.action for change in await preview(plane.arm, plan)} == {ChangeAction.NONE}
    operation = await plane.finish(await plane.request(OperationKind.DELETE))
    assert operation.status is OperationStatus.SUCCEEDED, operation
    left = {row.name for row in await plane.arm.list_group("payments-rg")}
    assert left == {"hub"}
    after = await plane.arm.get(network)
    assert before is not None
    assert after is not None
    assert after["properties"]["subnets"] == before["properties"]["subnets"]
    assert after.get("tags") == before.get("tags")
