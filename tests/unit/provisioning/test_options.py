"""The options of a cluster: refused with value, place and remedy; what is brought is never touched."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from mirror_agent.contract import MIRROR_NODES
from pydantic import ValidationError

from shared.azure.resources import ResourceRef, ResourceType
from shared.model.cluster_network import node_address, virtual_address
from shared.model.cluster_spec import refused_changes
from shared.model.operation import OperationKind, OperationStatus
from shared.provisioning.specs.brought import brought_network
from shared.provisioning.specs.spec import SpecError
from tests.control_plane_samples import spec
from tests.unit.provisioning.test_specs import BROUGHT, IMAGE_ID, SUBNET_ID, brought_plan
from tests.unit.provisioning.world import World, bootstrap_of

NETWORK = ResourceRef(ResourceType.VIRTUAL_NETWORK, "network-rg", "hub")
GROUP = ResourceRef(ResourceType.GROUP, "payments-rg", "payments-rg")
PROXIMITY_ID = f"{BROUGHT}/Microsoft.Compute/proximityPlacementGroups/close"


def hub(**changes: Any) -> dict[str, Any]:
    """The network as ARM shows it: one subnet of its keeper, one for us."""
    properties = {"addressPrefix": "10.9.8.0/24", **changes}
    other = {"name": "other", "properties": {"addressPrefix": "10.9.9.0/24"}}
    return {
        "location": "westeurope",
        "tags": {"team": "network"},
        "properties": {
            "addressSpace": {"addressPrefixes": ["10.9.0.0/16"]},
            "subnets": [other, {"name": "payments", "properties": properties}],
        },
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"compute__availabilitySet": True}, "zones ['1', '2'] exclude each other; set zones to []"),
        ({"compute__proximityPlacementGroup": "own"}, "set zones to []"),
        ({"compute__proximityPlacementGroup": "close"}, "'close' is no id of a proximity placement group"),
        ({"compute__zones": [], "compute__dataDiskSku": "PremiumV2_LRS"}, "need zones"),
        ({"compute__imageId": IMAGE_ID.replace("galleries/golden/", "")}, "no image of a compute gallery"),
        ({"network__subnetId": f"{BROUGHT}/Microsoft.Network/virtualNetworks/hub"}, "no id of a subnet"),
        ({"network__nodeAddresses": {"a": "10.0.0.9"}}, "an address for each node: a, b"),
        ({"network__nodeAddresses": {"a": "10.0.0.9", "b": "10.0.0.9"}}, "node a and node b both have"),
        ({"network__nodeAddresses": {"a": "10.0.0.3", "b": "10.0.0.9"}}, "10.0.0.4 is the first usable"),
        ({"network__nodeAddresses": {"a": "10.0.1.9", "b": "10.0.0.9"}}, "outside of subnet 10.0.0.0/24"),
        ({"network__nodeAddresses": {"a": "ten", "b": "10.0.0.9"}}, "'ten' is no IPv4 address"),
        ({"network__subnet": "10.0.0.0/29", "network__nodeAddresses": {"a": "x", "b": "y"}}, "example '10.0.0.4'"),
        ({"network__privateAddress": "10.0.0.9"}, "needs a private frontend"),
        ({"network__frontend": "private", "network__privateAddress": "10.0.0.5"}, "node b and the virtual IP"),
        ({"network__controlPlaneUrl": "http://plane.internal"}, "no https address"),
        ({"network__controlPlaneUrl": "https://plane.internal/api"}, "more than a host and a port"),
        ({"network__proxy": {"url": "http://user:secret@proxy:3128"}}, "no http or https address"),
        ({"network__proxy": {"url": "http://proxy:3128", "noProxy": ["http://x"]}}, "without a scheme"),
        ({"resourceGroup": "mirrorplane-pay"}, "name one of your own"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**changes)
    assert said in str(caught.value)


def test_addresses_are_the_first_usable_ones_or_the_named_ones() -> None:
    usual = spec().network
    assert [node_address(usual, node) for node in ("a", "b")] == ["10.0.0.4", "10.0.0.5"]
    assert virtual_address(usual, MIRROR_NODES) == "10.0.0.6"
    named = spec(network__nodeAddresses={"a": "10.0.0.20", "b": "10.0.0.21"}).network
    assert [node_address(named, node) for node in ("a", "b")] == ["10.0.0.20", "10.0.0.21"]


def test_the_address_space_means_nothing_in_a_brought_subnet() -> None:
    assert spec(network__subnet="172.20.1.0/24", network__subnetId=SUBNET_ID).network.subnet == "172.20.1.0/24"


def test_what_azure_fixes_at_creation_cannot_change_later() -> None:
    after = spec(
        resourceGroup="payments-rg",
        compute__zones=[],
        compute__availabilitySet=True,
        compute__proximityPlacementGroup=PROXIMITY_ID,
        compute__imageId=IMAGE_ID,
        compute__dataDiskSku="StandardSSD_LRS",
        network__subnetId=SUBNET_ID,
    )
    assert {
        *("resourceGroup", "compute.availabilitySet", "compute.proximityPlacementGroup", "compute.imageId"),
        *("compute.dataDiskSku", "network.subnetId"),
    } <= {target for target, _ in refused_changes(spec(), after)}


@pytest.mark.parametrize(
    ("existing", "code", "said"),
    [
        (None, "BroughtResourceMissing", "network-rg"),
        ({**hub(), "location": "northeurope"}, "BroughtResourceElsewhere", "choose one in the cluster's region"),
        (hub(addressPrefix="10.9.7.0/24"), "SubnetRangeMismatch", "10.9.7.0/24, the spec says 10.9.8.0/24"),
        (hub(delegations=[{"name": "Microsoft.Web"}]), "SubnetDelegated", "Microsoft.Web"),
        ({**hub(), "properties": {"subnets": []}}, "BroughtResourceMissing", "has no subnet 'payments'"),
    ],
)
def test_a_network_that_cannot_be_used_is_an_error(existing: dict[str, Any] | None, code: str, said: str) -> None:
    plan = brought_plan()
    assert plan.brought_subnet is not None
    with pytest.raises(SpecError, match=said) as caught:
        brought_network(plan, plan.brought_subnet).parameters(existing)
    assert caught.value.code == code


def test_a_range_given_as_a_list_is_recognised() -> None:
    plan = brought_plan()
    assert plan.brought_subnet is not None
    existing = hub(addressPrefix=None, addressPrefixes=["10.9.8.0/24"])
    existing["location"] = "West Europe"
    assert brought_network(plan, plan.brought_subnet).parameters(existing, force=True) is None


def brought_world(wheel: Path) -> World:
    return World(
        wheel,
        resourceGroup="payments-rg",
        network__subnet="10.9.8.0/24",
        network__subnetId=SUBNET_ID,
        network__nodePublicAddresses=False,
    )


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "mirror_agent-0.1.0-py3-none-any.whl"
    path.write_bytes(b"wheel")
    return path


class TestBrought:
    @pytest.fixture
    def world(self, wheel: Path) -> World:
        world = brought_world(wheel)
        world.arm.place(GROUP, {"location": "northeurope", "tags": {"team": "payments"}})
        network_group = ResourceRef(ResourceType.GROUP, "network-rg", "network-rg")
        world.arm.place(network_group, {"location": "westeurope", "tags": {}})
        world.arm.place(NETWORK, hub())
        return world

    async def test_the_cluster_is_made_in_it_and_it_stays_as_it_was(self, world: World) -> None:
        before = {name: world.arm.body(name) for name in ("payments-rg", "hub")}
        operation_id = await world.request(OperationKind.CREATE)
        await world.drive()
        assert (await world.operation_now(operation_id)).status is OperationStatus.SUCCEEDED
        names = {"pay-nsg", "pay-vip", "pay-lb", *(f"pay-{node}{of}" for node in "ab" for of in ("", "-nic", "-data"))}
        assert world.arm.names() == {"payments-rg", "network-rg", "hub", *names}
        removal = await world.request(OperationKind.DELETE)
        await world.drive()
        assert (await world.operation_now(removal)).status is OperationStatus.SUCCEEDED
        assert world.arm.names() == {"payments-rg", "network-rg", "hub"}
        assert {name: world.arm.body(name) for name in before} == before
        assert not world.arm.puts.keys() & before.keys()
        assert not world.arm.deletes.keys() & before.keys()

    async def test_a_missing_one_ends_the_operation_at_once(self, wheel: Path) -> None:
        world = brought_world(wheel)
        operation_id = await world.request(OperationKind.CREATE)
        await world.drive(seconds=20)
        found = await world.operation_now(operation_id)
        assert found.status is OperationStatus.FAILED
        assert found.error is not None
        assert (found.error.code, found.error.target) in (
            ("BroughtResourceMissing", "resourceGroup"),
            ("BroughtResourceMissing", "network.subnetId"),
        )


async def test_nodes_are_told_the_private_address_of_the_control_plane_and_the_proxy(wheel: Path) -> None:
    proxy = {"url": "http://proxy.example.org:3128", "noProxy": [".internal"]}
    world = World(wheel, network__controlPlaneUrl="https://plane.internal:8443/", network__proxy=proxy)
    await world.request(OperationKind.CREATE)
    await world.drive()
    (document,) = world.arm.custom_data["pay-b"]
    assert bootstrap_of(document)["controlPlaneUrl"] == "https://plane.internal:8443"
    text = base64.b64decode(document).decode()
    assert "no_proxy=localhost,127.0.0.1,169.254.169.254,168.63.129.16,10.0.0.4,10.0.0.5,.internal" in text


async def test_an_availability_set_and_a_proximity_group_come_and_go(wheel: Path) -> None:
    world = World(wheel, compute__zones=[], compute__availabilitySet=True, compute__proximityPlacementGroup="own")
    operation_id = await world.request(OperationKind.CREATE)
    await world.drive()
    assert (await world.operation_now(operation_id)).status is OperationStatus.SUCCEEDED
    assert {"pay-avset", "pay-ppg"} <= world.arm.names()
    properties = world.arm.body("pay-a")["properties"]
    assert properties["availabilitySet"]["id"].endswith("/pay-avset")
    assert properties["proximityPlacementGroup"]["id"].endswith("/pay-ppg")
    await world.request(OperationKind.DELETE)
    await world.drive()
    assert world.arm.names() == set()
