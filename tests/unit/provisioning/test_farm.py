"""A farm from request to serving: as many machines as asked for, all in the pool, and nothing of a mirror."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mirror_agent.contract import ALL_NODES, Configuration, Role
from pydantic import TypeAdapter, ValidationError

from shared.model.cluster_network import node_address, virtual_address
from shared.model.cluster_spec import refused_changes
from shared.model.operation import OperationKind, OperationStatus
from shared.provisioning.build import CREATE_FARM_STEPS
from shared.provisioning.configuration import farm_configuration
from tests.control_plane_samples import NOW, record, spec
from tests.unit.provisioning.test_specs import body_of, creating, farm_plan, private_farm_plan
from tests.unit.provisioning.world import CLUSTER_ID, World


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "mirror_agent-0.1.0-py3-none-any.whl"
    path.write_bytes(b"PK wheel")
    return path


@pytest.mark.parametrize("count", [2, 3, 4])
async def test_every_node_is_made_enrols_and_serves(wheel: Path, count: int) -> None:
    world = World(wheel, kind="farm", compute__nodes=count)
    operation_id = await world.request(OperationKind.CREATE)
    await world.drive()
    operation = await world.operation_now(operation_id)
    assert operation.status is OperationStatus.SUCCEEDED
    assert tuple(step.name for step in operation.steps) == CREATE_FARM_STEPS
    nodes = ALL_NODES[:count]
    names = world.arm.names()
    assert [node for node in ALL_NODES if f"pay-{node}" in names] == list(nodes)
    assert tuple((await world.record_now()).resources.nodes) == nodes
    assert await world.store.witness.read(CLUSTER_ID) is None, "a farm has nothing to agree on"


async def test_it_is_not_ready_before_the_last_node_serves(wheel: Path) -> None:
    world = World(wheel, kind="farm", compute__nodes=3)
    world.roles["c"] = Role.WAIT
    operation_id = await world.request(OperationKind.CREATE)
    with pytest.raises(AssertionError, match="still not quiet"):
        await world.drive(seconds=120)
    serving = (await world.operation_now(operation_id)).steps[-1]
    assert (serving.name, serving.status) == ("serving", OperationStatus.RUNNING)
    assert serving.message == "node a: UP ready, node b: UP ready, node c: WAIT ready"


async def test_deleting_leaves_nothing(wheel: Path) -> None:
    world = World(wheel, kind="farm", compute__nodes=4)
    await world.request(OperationKind.CREATE)
    await world.drive()
    await world.request(OperationKind.DELETE)
    await world.drive()
    assert [name for name in world.arm.names() if name.startswith("pay")] == []


def test_a_node_is_told_its_peers_and_no_secret_of_a_record() -> None:
    stored = record("web", kind="farm", compute__nodes=3, minimumHealthy=2)
    told = farm_configuration(stored, "b", NOW)
    assert [(peer.name, peer.addresses) for peer in told.peers] == [("a", ("10.0.0.4",)), ("c", ("10.0.0.6",))]
    assert (told.kind, told.address, told.minimum_healthy) == ("farm", "10.0.0.5", 2)
    wire = told.model_dump_json(by_alias=True)
    assert '"witness":' not in wire
    assert TypeAdapter[Configuration](Configuration).validate_json(wire) == told


def test_the_configuration_of_a_mirror_says_no_kind() -> None:
    """An agent of the release before farms refuses what it does not know."""
    fields = set(TypeAdapter(Configuration).json_schema()["$defs"]["NodeConfiguration"]["properties"])
    assert "kind" not in fields


def test_all_nodes_are_in_the_pool_and_nothing_replicates() -> None:
    for plan in (farm_plan(), private_farm_plan()):
        bodies = {str(made.ref): body_of(made) for made in creating(plan)}
        pools = {
            name: interface["properties"]["ipConfigurations"][0]["properties"]["loadBalancerBackendAddressPools"]
            for name, interface in bodies.items()
            if name.startswith("networkInterfaces")
        }
        assert len(pools) == len(plan.nodes)
        assert len({str(pool) for pool in pools.values()}) == 1
        rules = bodies[str(plan.security_group)]["properties"]["securityRules"]
        by_name = {rule["name"]: rule["properties"] for rule in rules}
        assert by_name["peer"]["destinationPortRanges"] == ["8888", "9453"]
        assert "handover" not in by_name


def test_nodes_take_turns_in_the_zones() -> None:
    four = private_farm_plan()
    assert [four.zone(node) for node in four.nodes] == [["1"], ["2"], ["1"], ["2"]]
    assert [farm_plan().zone(node) for node in "abc"] == [["1"], ["2"], ["3"]]  # type: ignore[arg-type]


def test_addresses_go_on_and_the_virtual_one_comes_after_them() -> None:
    network = spec(kind="farm", compute__nodes=4).network
    assert [node_address(network, node) for node in ALL_NODES] == ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"]
    assert virtual_address(network, ALL_NODES) == "10.0.0.8"


FARM = {"kind": "farm"}
CHECKER = {"name": "port", "kind": "tcp", "port": 8080}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({**FARM, "application__replicatedPaths": [{"path": "/data/x"}]}, "'/data/x' is listed; remove it or ask"),
        ({**FARM, "application__mirror": {"slowReplica": "leave-out"}}, "has no mirror to set up; remove the field"),
        (
            {**FARM, "application__checkers": [{**CHECKER, "when": "second", "action": "stop"}]},
            "no replica for 'second'",
        ),
        (
            {**FARM, "application__checkers": [{**CHECKER, "action": "failover"}]},
            "to fail over to; use 'restart'",
        ),
        ({**FARM, "defaultPrimary": "a"}, "'a': every node of a farm serves; remove it"),
        ({**FARM, "failover": False}, "a farm has no failover to switch off"),
        ({**FARM, "timing": {"promiseS": 6}}, "6: times the agreement of a mirror's nodes"),
        ({**FARM, "minimumHealthy": 2}, "2 of 2 nodes: no node could ever be repaired; give at most 1"),
        ({**FARM, "compute__nodes": 4, "network__subnet": "10.0.0.0/29"}, "has no address left for node d"),
        ({**FARM, "compute__nodes": 3, "network__nodeAddresses": {"a": "10.0.0.9", "b": "10.0.0.8"}}, "a, b, c"),
        ({**FARM, "compute__zones": ["1", "2", "3"]}, "give two different zones"),
        ({**FARM, "compute__nodes": 3, "compute__zones": ["2"]}, "give two or three different zones"),
        ({**FARM, "compute__nodes": 5}, "less than or equal to 4"),
        ({"compute__nodes": 3}, "a mirror has 2 nodes, not 3; leave the field out, or ask for kind 'farm'"),
        ({"minimumHealthy": 1}, "only a farm has a minimum of healthy nodes"),
        ({"defaultPrimary": "c"}, "'c' is no node of a mirror; give 'a' or 'b'"),
        ({"application__replicatedPaths": []}, "a mirror replicates at least one directory"),
    ],
)
def test_what_belongs_to_the_other_kind_is_refused_with_the_remedy(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**changes)
    assert said in str(caught.value)


def test_what_a_farm_does_use_of_the_timing_may_be_given() -> None:
    timing = {"controlPlaneHeartbeatS": 30, "probeIntervalS": 10, "probeThreshold": 2}
    assert spec(**FARM, timing=timing).timing.probe_threshold == 2


def test_kind_and_number_of_nodes_stay() -> None:
    refused = dict(refused_changes(spec(), spec(**FARM, compute__nodes=3)))
    assert {"kind", "compute.nodes"} <= set(refused)


def test_a_record_of_the_release_before_farms_is_a_mirror() -> None:
    stored = record("pay").model_dump(mode="json", by_alias=True)
    del stored["spec"]["kind"], stored["spec"]["compute"]["nodes"], stored["spec"]["minimumHealthy"]
    read = type(record("pay")).model_validate(stored, context={"stored": True})
    assert (read.is_farm, read.nodes) == (False, ("a", "b"))
    assert read.created_at - NOW == timedelta(0)
