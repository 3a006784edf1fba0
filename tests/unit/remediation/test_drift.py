"""Resources changed or deleted by hand are found by the reconciler's own specs, reported, and repaired by policy."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.api.plane import ControlPlane
from shared.model.cluster import ProvisioningState
from shared.model.operation import OperationKind
from shared.model.remediation_policy import ManagementPolicy, RemediationPolicy
from shared.remediation.context import Executor
from shared.remediation.drift_tick import check_drift, check_drift_of_fleet
from shared.settings import Settings
from tests.control_plane_app import WRAPPING_KEY, ScriptedProber
from tests.unit.provisioning.memory_arm import SUBSCRIPTION
from tests.unit.provisioning.world import World
from tests.unit.remediation.bench import MemoryMachines

NO_PAUSE = timedelta(0)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "mirror_agent-0.1.0-py3-none-any.whl"
    path.write_bytes(b"wheel")
    return path


async def built(wheel: Path, **changes: Any) -> tuple[World, Executor]:
    """A cluster as the reconciler has made it."""
    world = World(wheel, **changes)
    await world.request(OperationKind.CREATE)
    await world.drive()
    assert (await world.record_now()).state is ProvisioningState.SUCCEEDED
    plane = ControlPlane(
        settings=Settings(
            public_url="https://plane.example.org",
            subscription_id=SUBSCRIPTION,
            arm_endpoint="https://management.example.org",
            wrapping_key=WRAPPING_KEY,
            bootstrap_token_sha256=None,
            easy_auth=False,
            agent_wheel=wheel,
            control_plane_addresses=("198.51.100.7/32",),
        ),
        store=world.store,
        clock=world.clock,
        new_id=lambda: "unused",
        prober=ScriptedProber(),
    )
    return world, Executor(plane, world.arm, MemoryMachines())


async def drift_of(world: World, executor: Executor) -> dict[str, str]:
    assert await check_drift(executor, await world.record_now(), period=NO_PAUSE)
    stored = await world.store.remediations.get(world.record.id)
    assert stored is not None
    return {entry.resource: entry.kind for entry in stored.value.drift}


async def alerts_of(world: World) -> list[str]:
    found = await world.store.alerting.event_facts.of_cluster("pay")
    return [fact.subject for fact in found if fact.open]


def lose(world: World, name: str) -> None:
    key = next(key for key, stored in world.arm.resources.items() if stored.ref.name == name)
    del world.arm.resources[key]


def tamper(world: World, name: str) -> Any:
    """The rules it had."""
    stored = next(stored for stored in world.arm.resources.values() if stored.ref.name == name)
    rules, stored.body["properties"]["securityRules"] = stored.body["properties"]["securityRules"], []
    return rules


async def test_what_the_reconciler_made_is_as_wanted(wheel: Path) -> None:
    world, executor = await built(wheel)
    assert await drift_of(world, executor) == {}
    assert (await world.record_now()).state is ProvisioningState.SUCCEEDED


async def test_a_changed_and_a_deleted_resource_come_back(wheel: Path) -> None:
    world, executor = await built(wheel)
    tamper(world, "pay-nsg")
    lose(world, "pay-b")
    assert await drift_of(world, executor) == {
        "networkSecurityGroups/pay-nsg": "changed",
        "virtualMachines/pay-b": "missing",
    }
    assert (await world.record_now()).operation.requested_by == "mirrorplane-remediation"
    await world.drive()
    assert (await world.record_now()).state is ProvisioningState.SUCCEEDED
    assert await alerts_of(world) == [], "it is being repaired: nobody needs to be told"
    assert "pay-b" in world.arm.names()
    assert await drift_of(world, executor) == {}


async def test_observe_reports_and_leaves(wheel: Path) -> None:
    world, executor = await built(wheel, managementPolicy="observe")
    assert (await world.record_now()).spec.management_policy is ManagementPolicy.OBSERVE
    rules = tamper(world, "pay-nsg")
    assert await drift_of(world, executor) == {"networkSecurityGroups/pay-nsg": "changed"}
    assert (await world.record_now()).state is ProvisioningState.SUCCEEDED
    (event,) = (await world.store.events.page(world.clock().date(), None, 10)).items
    assert event.data["rule"] == "drift-reported"
    assert await alerts_of(world) == ["drift/resources"]
    assert not await check_drift(executor, await world.record_now())
    world.pass_time(minutes=3)
    stored = next(stored for stored in world.arm.resources.values() if stored.ref.name == "pay-nsg")
    stored.body["properties"]["securityRules"] = rules
    assert await check_drift(executor, await world.record_now()), "looked at sooner than a cluster without drift"
    assert await alerts_of(world) == []


async def test_a_pause_holds_the_repair_up(wheel: Path) -> None:
    world, executor = await built(wheel)
    found = await world.store.clusters.get("pay")
    assert found is not None
    paused = found.value.spec.model_copy(update={"remediation": RemediationPolicy(pause_reasons=("audit week",))})
    await world.store.clusters.replace(found.value.model_copy(update={"spec": paused}), found.etag)
    tamper(world, "pay-nsg")
    await drift_of(world, executor)
    assert (await world.record_now()).state is ProvisioningState.SUCCEEDED


async def test_what_belongs_to_others_is_a_matter_for_people(wheel: Path) -> None:
    world, executor = await built(wheel)
    stored = next(stored for stored in world.arm.resources.values() if stored.ref.name == "pay-lb")
    stored.body["tags"] = {}
    assert await drift_of(world, executor) == {"loadBalancers/pay-lb": "refused"}
    assert await alerts_of(world) == ["drift/resources"]
    assert (await world.record_now()).state is ProvisioningState.SUCCEEDED


async def test_what_differs_again_after_its_repair_is_not_repaired_for_ever(wheel: Path) -> None:
    world, executor = await built(wheel)
    tamper(world, "pay-nsg")
    await drift_of(world, executor)
    await world.drive()
    tamper(world, "pay-nsg")
    before = (await world.record_now()).operation.id
    await drift_of(world, executor)
    assert (await world.record_now()).operation.id == before


async def test_nothing_is_concluded_when_azure_does_not_answer(wheel: Path) -> None:
    world, executor = await built(wheel)
    world.arm.answer("get", "pay-lb", 503, "ServiceUnavailable")
    assert await check_drift(executor, await world.record_now(), period=NO_PAUSE)
    assert await world.store.remediations.get(world.record.id) is None


async def test_a_cluster_is_compared_once_in_a_period(wheel: Path) -> None:
    world, executor = await built(wheel)
    assert await check_drift_of_fleet(executor) == 1
    assert await check_drift_of_fleet(executor) == 0
    world.pass_time(minutes=16)
    assert await check_drift_of_fleet(executor) == 1
