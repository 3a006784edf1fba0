"""The reconciler against an Azure in memory: whatever happens on the way, the end is right, and it is an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.azure.resources import ListedResource, ResourceRef, ResourceType
from shared.model.cluster import ClusterRecord, ProvisioningState
from shared.model.operation import OperationKind, OperationStatus
from shared.provisioning.limits import Limits
from shared.provisioning.reconcile import TickOutcome, abandon, handle
from shared.store.ports import ReconcileMessage
from tests.control_plane_samples import spec
from tests.unit.provisioning.memory_arm import SUBSCRIPTION
from tests.unit.provisioning.world import CLUSTER_ID, Fuse, World

ALL = {
    "mirrorplane-pay",
    *("pay-nsg", "pay-nat-ip", "pay-nat", "pay-vnet", "pay-vip", "pay-lb"),
    *("pay-a-ip", "pay-a-nic", "pay-a-data", "pay-a", "pay-b-ip", "pay-b-nic", "pay-b-data", "pay-b"),
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "mirror_agent-0.1.0-py3-none-any.whl"
    path.write_bytes(b"a wheel")
    return path


@pytest.fixture
def world(wheel: Path) -> World:
    return World(wheel)


async def created(world: World) -> World:
    await world.request(OperationKind.CREATE)
    await world.drive()
    assert (await world.operation_now()).status is OperationStatus.SUCCEEDED
    return world


class TestCreate:
    async def test_makes_everything_once_and_ends_well(self, world: World) -> None:
        await created(world)
        assert world.arm.names() == ALL
        assert set(world.arm.puts.values()) == {1}
        operation, record = await world.operation_now(), await world.record_now()
        assert [step.name for step in operation.steps] == [
            *("resourceGroup", "network", "loadBalancer", "nics", "disks", "machines", "enrolment", "replication")
        ]
        assert {step.status for step in operation.steps} == {OperationStatus.SUCCEEDED}
        assert operation.percent_complete == 100
        assert record.state is ProvisioningState.SUCCEEDED
        assert record.ever_succeeded
        assert record.resources.virtual_ip_address is not None
        assert record.resources.nodes["a"].private_address == "10.0.0.4"
        assert record.resources.nodes["b"].public_address is not None

    async def test_the_witness_record_exists_before_a_machine_does(self, wheel: Path) -> None:
        world = World(wheel, default_primary="b")
        await world.request(OperationKind.CREATE)
        while "pay-a" not in world.arm.names():
            for message in world.queue.take():
                await handle(world.context, message)
            world.clock.advance(1)
        witness = await world.store.witness.read(CLUSTER_ID)
        assert witness is not None
        assert (witness.epoch, witness.primary, witness.in_sync) == (0, "", "b")

    async def test_independent_resources_are_issued_together(self, world: World) -> None:
        await world.request(OperationKind.CREATE)
        (message,) = world.queue.take()
        await handle(world.context, message)
        assert set(world.arm.puts) == {
            *("mirrorplane-pay", "pay-nsg", "pay-nat-ip", "pay-vip", "pay-a-ip", "pay-b-ip", "pay-a-data", "pay-b-data")
        }
        operation = await world.operation_now()
        assert operation.steps[0].status is OperationStatus.SUCCEEDED
        assert operation.steps[1].message.startswith("1 of 7 ready")

    async def test_the_token_is_in_no_row(self, world: World) -> None:
        await created(world)
        text = world.rows.everything()
        assert "mpe_" not in text

    async def test_waits_for_a_pair_in_sync(self, world: World) -> None:
        world.roles["b"] = world.roles["a"]
        await world.request(OperationKind.CREATE)
        with pytest.raises(AssertionError, match="still not quiet"):
            await world.drive(seconds=120)
        step = (await world.operation_now()).steps[-1]
        assert (step.name, step.status) == ("replication", OperationStatus.RUNNING)
        assert "node b: PRIM ready" in step.message

    async def test_a_second_delivery_does_no_work_twice(self, world: World) -> None:
        await world.request(OperationKind.CREATE)
        (message,) = world.queue.take()
        await handle(world.context, message)
        calls = world.arm.calls
        again = await handle(world.context, message)
        assert again.outcome is TickOutcome.DUPLICATE
        assert world.arm.calls == calls
        assert len(world.queue) == 1

    async def test_private_frontend_has_no_public_virtual_ip(self, wheel: Path) -> None:
        world = await created(World(wheel, network__frontend="private"))
        assert world.arm.names() == ALL - {"pay-vip"}
        assert (await world.record_now()).resources.virtual_ip_address == "10.0.0.6"


class TestKilled:
    @pytest.mark.parametrize("after", [False, True], ids=["before-the-call", "after-the-call"])
    async def test_at_any_call_the_next_process_finishes(self, wheel: Path, after: bool) -> None:
        counting = await created(World(wheel))
        total = counting.fuse.calls
        for at in range(1, total + 1, 7):
            world = World(wheel, fuse=Fuse(at + (2 if after else 0), after=after))
            await world.request(OperationKind.CREATE)
            await world.drive()
            operation = await world.operation_now()
            assert operation.status is OperationStatus.SUCCEEDED, f"killed at call {at}: {operation}"
            assert (await world.record_now()).state is ProvisioningState.SUCCEEDED
            assert world.arm.names() == ALL
            assert set(world.arm.puts.values()) == {1}, f"killed at call {at}: {world.arm.puts}"

    @pytest.mark.parametrize("after", [False, True], ids=["before-the-call", "after-the-call"])
    async def test_a_deletion_too(self, wheel: Path, after: bool) -> None:
        counting = await created(World(wheel))
        before = counting.fuse.calls
        deletion = await counting.request(OperationKind.DELETE)
        await counting.drive()
        for at in range(before + 1, counting.fuse.calls + 1, 17):
            world = await created(World(wheel))
            deletion = await world.request(OperationKind.DELETE)
            world.fuse.at, world.fuse.after = at + (4 if after else 0), after
            await world.drive()
            assert (await world.operation_now(deletion)).status is OperationStatus.SUCCEEDED
            assert world.arm.names() == set()
            assert await world.store.clusters.get("pay") is None


class TestFaults:
    async def test_throttling_waits_as_long_as_azure_says(self, world: World) -> None:
        world.arm.answer("put", "pay-nat-ip", 429, "TooManyRequests", retry_after_s=40.0)
        start = world.clock()
        await created(world)
        assert world.arm.puts["pay-nat-ip"] == 1
        assert (world.clock() - start).total_seconds() >= 40

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (503, "ServiceUnavailable"),
            (409, "AnotherOperationInProgress"),
            (412, "PreconditionFailed"),
            (403, "AuthorizationFailed"),
            (500, "InternalServerError"),
        ],
    )
    async def test_passing_errors_are_retried(self, world: World, status: int, code: str) -> None:
        for name in ("mirrorplane-pay", "pay-vnet", "pay-lb", "pay-a"):
            world.arm.answer("put", name, status, code, times=2)
            world.arm.answer("get", name, 503, "ServiceUnavailable")
        await created(world)
        assert world.arm.names() == ALL

    async def test_a_failed_operation_is_repeated_with_the_same_resource(self, world: World) -> None:
        world.arm.fail_operation("pay-b", "AllocationFailed", "no capacity in zone 2", times=2)
        await created(world)
        assert world.arm.puts["pay-b"] == 3
        assert len(world.arm.custom_data["pay-b"]) == 1

    async def test_a_failure_that_stays_fails_the_operation_with_arms_words(self, world: World) -> None:
        world.arm.fail_operation("pay-b", "ZonalAllocationFailed", "no capacity in zone 2", times=99)
        await world.request(OperationKind.CREATE)
        await world.drive()
        operation = await world.operation_now()
        assert operation.status is OperationStatus.FAILED
        assert operation.error is not None
        assert operation.error.code == "ZonalAllocationFailed"
        assert "no capacity in zone 2" in operation.error.message
        assert operation.error.target == "virtualMachines/pay-b"
        assert {step.name: step.status for step in operation.steps}["machines"] is OperationStatus.FAILED
        assert (await world.record_now()).state is ProvisioningState.FAILED
        assert world.arm.puts["pay-b"] == Limits().max_attempts

    async def test_a_refusal_fails_at_once(self, world: World) -> None:
        world.arm.answer("put", "pay-a", 409, "QuotaExceeded")
        await world.request(OperationKind.CREATE)
        await world.drive()
        error = (await world.operation_now()).error
        assert error is not None
        assert error.code == "QuotaExceeded"

    async def test_the_budget_ends_what_never_ends(self, wheel: Path) -> None:
        world = World(wheel, limits=Limits(budget_s=300))
        world.arm.answer("put", "pay-vnet", 409, "AnotherOperationInProgress", times=10_000)
        await world.request(OperationKind.CREATE)
        await world.drive(seconds=500)
        error = (await world.operation_now()).error
        assert error is not None
        assert (error.code, error.target) == ("AnotherOperationInProgress", "virtualNetworks/pay-vnet")
        assert "5 min" in error.message

    async def test_silent_nodes_are_named_at_the_end(self, wheel: Path) -> None:
        world = World(wheel, limits=Limits(budget_s=300))
        world.nodes_answer = False
        await world.request(OperationKind.CREATE)
        await world.drive(seconds=500)
        error = (await world.operation_now()).error
        assert error is not None
        assert error.code == "OperationTimedOut"
        assert "enrolment" in error.message
        assert "waiting for its first boot" in error.message

    async def test_after_a_failure_the_same_request_goes_on_where_it_stopped(self, world: World) -> None:
        world.arm.answer("put", "pay-a", 409, "QuotaExceeded")
        await world.request(OperationKind.CREATE)
        await world.drive()
        again = await world.request(OperationKind.CREATE)
        await world.drive()
        assert (await world.operation_now(again)).status is OperationStatus.SUCCEEDED
        assert set(world.arm.puts.values()) == {1}

    async def test_without_the_agent_wheel_no_machine_is_made(self, tmp_path: Path) -> None:
        world = World(tmp_path / "missing.whl")
        await world.request(OperationKind.CREATE)
        await world.drive()
        error = (await world.operation_now()).error
        assert error is not None
        assert error.code == "AgentWheelMissing"
        assert "pay-a" not in world.arm.names()

    async def test_a_message_the_queue_gave_up_fails_the_operation(self, world: World) -> None:
        operation_id = await world.request(OperationKind.CREATE)
        await abandon(world.context, ReconcileMessage(operation_id, "pay"))
        operation = await world.operation_now()
        assert operation.error is not None
        assert operation.error.code == "ReconcileAbandoned"
        assert (await world.record_now()).state is ProvisioningState.FAILED
        await world.drive()
        assert world.arm.names() == set()


class TestOwnership:
    async def test_a_foreign_resource_of_our_name_is_left_and_named(self, world: World) -> None:
        await created(world)
        stolen = ResourceRef(ResourceType.LOAD_BALANCER, "mirrorplane-pay", "pay-lb")
        world.arm.place(stolen, {"location": "westeurope", "tags": {"team": "other"}})
        update = await world.request(OperationKind.UPDATE, _other_rules)
        await world.drive()
        error = (await world.operation_now(update)).error
        assert error is not None
        assert (error.code, error.target) == ("ResourceNotOwned", "loadBalancers/pay-lb")
        assert world.arm.puts["pay-lb"] == 1

    async def test_a_group_of_another_cluster_is_not_taken(self, world: World) -> None:
        group = ResourceRef(ResourceType.GROUP, "mirrorplane-pay", "mirrorplane-pay")
        world.arm.place(group, {"location": "westeurope", "tags": {"mirrorplane-cluster-id": "another"}})
        await world.request(OperationKind.CREATE)
        await world.drive()
        error = (await world.operation_now()).error
        assert error is not None
        assert error.code == "ResourceNotOwned"
        assert world.arm.names() == {"mirrorplane-pay"}


class TestDelete:
    async def test_removes_everything(self, world: World) -> None:
        await created(world)
        deletion = await world.request(OperationKind.DELETE)
        await world.drive()
        operation = await world.operation_now(deletion)
        assert operation.status is OperationStatus.SUCCEEDED
        assert {step.status for step in operation.steps} == {OperationStatus.SUCCEEDED}
        assert world.arm.names() == set()
        assert await world.store.clusters.get("pay") is None
        assert await world.store.witness.read(CLUSTER_ID) is None
        assert await world.store.credentials.credential(CLUSTER_ID, "a") is None
        assert CLUSTER_ID not in world.rows.everything().replace(f"~deleted~{CLUSTER_ID}", "").replace(
            f'"clusterId":"{CLUSTER_ID}"', ""
        )

    async def test_leaves_what_is_foreign_and_the_group_around_it(self, world: World) -> None:
        await created(world)
        group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/mirrorplane-pay"
        vault = f"{group}/providers/Microsoft.KeyVault/vaults/keys"
        world.arm.foreign.append(ListedResource(vault, "Microsoft.KeyVault/vaults", "keys", {}, None))
        address = ResourceRef(ResourceType.PUBLIC_IP, "mirrorplane-pay", "bastion-ip")
        world.arm.place(address, {"location": "westeurope", "tags": {"mirrorplane-owned": "true"}})
        deletion = await world.request(OperationKind.DELETE)
        await world.drive()
        operation = await world.operation_now(deletion)
        assert operation.status is OperationStatus.SUCCEEDED
        assert world.arm.names() == {"mirrorplane-pay", "keys", "bastion-ip"}
        message = {step.name: step.message for step in operation.steps}["resourceGroup"]
        assert message.startswith("left: 2 resources")
        assert "keys" in message

    async def test_removes_owned_leftovers_of_any_name(self, world: World) -> None:
        await created(world)
        record = await world.record_now()
        old = ResourceRef(ResourceType.PUBLIC_IP, "mirrorplane-pay", "pay-old-ip")
        tags = {"mirrorplane-owned": "true", "mirrorplane-cluster-id": record.id}
        world.arm.place(old, {"location": "westeurope", "tags": tags})
        await world.request(OperationKind.DELETE)
        await world.drive()
        assert world.arm.names() == set()

    async def test_in_the_middle_of_a_creation(self, world: World) -> None:
        creation = await world.request(OperationKind.CREATE)
        for _ in range(8):
            for message in world.queue.take():
                await handle(world.context, message)
            world.clock.advance(1)
        deletion = await world.request(OperationKind.DELETE)
        await world.drive()
        assert (await world.operation_now(creation)).status is OperationStatus.CANCELED
        assert (await world.operation_now(deletion)).status is OperationStatus.SUCCEEDED
        assert world.arm.names() == set()

    async def test_of_a_cluster_whose_machines_vanished(self, world: World) -> None:
        await created(world)
        for name in ("pay-a", "pay-vnet"):
            key = next(key for key in world.arm.resources if key[2] == name)
            del world.arm.resources[key]
        await world.request(OperationKind.DELETE)
        await world.drive()
        assert world.arm.names() == set()


class TestUpdate:
    async def test_changes_only_what_differs(self, world: World) -> None:
        await created(world)
        update = await world.request(OperationKind.UPDATE, _other_rules)
        await world.drive()
        assert (await world.operation_now(update)).status is OperationStatus.SUCCEEDED
        assert {name for name, count in world.arm.puts.items() if count == 2} == {"pay-nsg", "pay-lb"}
        rules = world.arm.body("pay-lb")["properties"]["loadBalancingRules"]
        assert [rule["name"] for rule in rules] == ["console", "reports"]

    async def test_waits_until_living_nodes_have_the_new_configuration(self, world: World) -> None:
        await created(world)
        world.nodes_answer = False
        update = await world.request(OperationKind.UPDATE, _other_rules)
        with pytest.raises(AssertionError, match="still not quiet"):
            await world.drive(seconds=20)
        step = (await world.operation_now(update)).steps[-2]
        assert (step.name, step.status) == ("configuration", OperationStatus.RUNNING)
        world.nodes_answer = True
        await world.drive()
        assert (await world.operation_now(update)).status is OperationStatus.SUCCEEDED

    async def test_an_update_without_a_difference_puts_nothing(self, world: World) -> None:
        await created(world)
        await world.request(OperationKind.UPDATE)
        await world.drive()
        assert set(world.arm.puts.values()) == {1}

    async def test_repairs_what_was_removed_behind_our_back(self, world: World) -> None:
        await created(world)
        key = next(key for key in world.arm.resources if key[2] == "pay-nsg")
        del world.arm.resources[key]
        await world.request(OperationKind.UPDATE)
        await world.drive()
        assert world.arm.names() == ALL


def _other_rules(record: ClusterRecord) -> ClusterRecord:
    rules = [{"name": "reports", "protocol": "tcp", "frontendPort": 80, "backendPort": 8081}]
    return record.model_copy(update={"spec": spec(network__rules=rules)})
