"""Resource specs: bodies as files a person can read, "nothing to do" on what ARM returns, refusal of what is not ours.

`REWRITE_GOLDEN=1 pytest tests/unit/provisioning/test_specs.py` rewrites the files; read the difference.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from lab.arm.schema import BodyCheck, model_class
from shared.azure.resources import ResourceRef, ResourceType
from shared.provisioning.images import IMAGES
from shared.provisioning.plan import ClusterPlan, ForwardingRule
from shared.provisioning.records import plan_of
from shared.provisioning.specs.cluster import DELETE_RANK, DELETED_WITH_PARENT, cluster_specs, ready
from shared.provisioning.specs.extension import extension
from shared.provisioning.specs.load_balancer import load_balancer
from shared.provisioning.specs.network_interface import network_interface
from shared.provisioning.specs.security_group import security_group
from shared.provisioning.specs.spec import ImmutableProperty, NotOwned, Spec
from shared.provisioning.specs.virtual_machine import virtual_machine
from shared.provisioning.specs.virtual_network import virtual_network
from tests.control_plane_samples import record

SUBSCRIPTION = "00000000-0000-4000-8000-000000000001"
BROUGHT = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/network-rg/providers"
SUBNET_ID = f"{BROUGHT}/Microsoft.Network/virtualNetworks/hub/subnets/payments"
IMAGE_ID = f"{BROUGHT}/Microsoft.Compute/galleries/golden/images/debian-12-hardened/versions/1.4.0"
GOLDEN = Path(__file__).parents[2] / "golden" / "specs"
MODELS = {
    ResourceType.GROUP: ("azure.mgmt.resource.resources", "ResourceGroup"),
    ResourceType.PUBLIC_IP: ("azure.mgmt.network", "PublicIPAddress"),
    ResourceType.SECURITY_GROUP: ("azure.mgmt.network", "NetworkSecurityGroup"),
    ResourceType.NAT_GATEWAY: ("azure.mgmt.network", "NatGateway"),
    ResourceType.VIRTUAL_NETWORK: ("azure.mgmt.network", "VirtualNetwork"),
    ResourceType.LOAD_BALANCER: ("azure.mgmt.network", "LoadBalancer"),
    ResourceType.NETWORK_INTERFACE: ("azure.mgmt.network", "NetworkInterface"),
    ResourceType.DISK: ("azure.mgmt.compute", "Disk"),
    ResourceType.AVAILABILITY_SET: ("azure.mgmt.compute", "AvailabilitySet"),
    ResourceType.PROXIMITY_GROUP: ("azure.mgmt.compute", "ProximityPlacementGroup"),
    ResourceType.VIRTUAL_MACHINE: ("azure.mgmt.compute", "VirtualMachine"),
    ResourceType.VM_EXTENSION: ("azure.mgmt.compute", "VirtualMachineExtension"),
}


def plan(**changes: Any) -> ClusterPlan:
    stored = record("pay", cluster_id="6f1d2c3b-0000-4000-8000-00000000abcd", network__dnsLabel="pay-example")
    made = plan_of(stored, subscription_id=SUBSCRIPTION, control_plane_addresses=("198.51.100.7/32",))
    return dataclasses.replace(made, **changes)


def private_plan() -> ClusterPlan:
    return plan(frontend="private", dns_label=None, zones=(), control_plane_addresses=())


def brought_plan() -> ClusterPlan:
    """Everything that a caller may bring: group, subnet, image; nodes without public addresses."""
    stored = record(
        "pay",
        cluster_id="6f1d2c3b-0000-4000-8000-00000000abcd",
        resourceGroup="payments-rg",
        compute__imageId=IMAGE_ID,
        compute__dataDiskSku="Premium_ZRS",
        network__subnet="10.9.8.0/24",
        network__subnetId=SUBNET_ID,
        network__nodeAddresses={"a": "10.9.8.20", "b": "10.9.8.21"},
        network__privateAddress="10.9.8.30",
        network__frontend="private",
        network__nodePublicAddresses=False,
    )
    return plan_of(stored, subscription_id=SUBSCRIPTION)


def placed_plan() -> ClusterPlan:
    """Machines of one data centre, on different racks."""
    stored = record(
        "pay",
        cluster_id="6f1d2c3b-0000-4000-8000-00000000abcd",
        compute__zones=[],
        compute__availabilitySet=True,
        compute__proximityPlacementGroup="own",
        compute__dataDiskSku="StandardSSD_LRS",
        compute__dataDiskGb=512,
    )
    return plan_of(stored, subscription_id=SUBSCRIPTION)


def farm_plan() -> ClusterPlan:
    """Three nodes in three zones, all in the pool; nothing for replication."""
    stored = record(
        "web",
        cluster_id="6f1d2c3b-0000-4000-8000-00000000abcd",
        kind="farm",
        compute__nodes=3,
        compute__zones=["1", "2", "3"],
    )
    return plan_of(stored, subscription_id=SUBSCRIPTION, control_plane_addresses=("198.51.100.7/32",))


def private_farm_plan() -> ClusterPlan:
    """Four nodes in two zones, behind an internal frontend after the last node's address."""
    stored = record(
        "web",
        cluster_id="6f1d2c3b-0000-4000-8000-00000000abcd",
        kind="farm",
        compute__nodes=4,
        network__frontend="private",
        network__nodePublicAddresses=False,
    )
    return plan_of(stored, subscription_id=SUBSCRIPTION)


def windows_plan() -> ClusterPlan:
    return plan(image=IMAGES["windows-2025"], admin_password="generated-for-one-put")


def creating(made: ClusterPlan) -> list[Spec]:
    """All specs of our own as when nothing exists: the machines with what boots them."""
    booted = {made.machine(node): virtual_machine(made, node, "#cloud-config\n{}\n") for node in made.nodes}
    booted |= {made.boot_extension(node): extension(made, node, f"boot {node}") for node in made.nodes}
    return [booted.get(spec.ref, spec) for spec in cluster_specs(made) if not spec.brought]


def body_of(spec: Spec) -> dict[str, Any]:
    body = spec.parameters(None)
    assert body is not None
    return body


def returned(spec: Spec) -> dict[str, Any]:
    """The resource as ARM shows it after creation: with additions, other case of ids, and without secrets."""
    body: dict[str, Any] = json.loads(json.dumps(body_of(spec)).replace("/resourceGroups/", "/resourcegroups/"))
    body |= {"id": spec.ref.id(SUBSCRIPTION), "name": spec.ref.name, "type": spec.ref.type.value, "etag": 'W/"1"'}
    properties = body.setdefault("properties", {})
    properties |= {"provisioningState": "Succeeded", "resourceGuid": "1", "somethingNewOfAzure": {"x": 1}}
    properties.get("osProfile", {}).pop("customData", None)
    properties.get("osProfile", {}).pop("adminPassword", None)
    properties.pop("protectedSettings", None)
    for name in ("subnets", "loadBalancingRules", "securityRules", "ipConfigurations", "backendAddressPools"):
        for child in properties.get(name, []):
            child["id"] = f"{body['id']}/{name}/{child['name']}"
            child.setdefault("properties", {})["provisioningState"] = "Succeeded"
    return body


PLANS = {
    "public": plan,
    "private": private_plan,
    "windows": windows_plan,
    "brought": brought_plan,
    "placed": placed_plan,
    "farm": farm_plan,
    "private-farm": private_farm_plan,
}


class TestBodies:
    @pytest.mark.parametrize("kind", PLANS)
    def test_are_the_golden_ones(self, kind: str) -> None:
        found = {str(spec.ref): body_of(spec) for spec in creating(PLANS[kind]())}
        if kind == "windows":
            ours = ("virtualMachines", "networkSec", "extensions")
            found = {name: body for name, body in found.items() if name.startswith(ours)}
        text = json.dumps(found, indent=2, sort_keys=True) + "\n"
        path = GOLDEN / f"{kind}.json"
        if os.environ.get("REWRITE_GOLDEN") == "1":
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert text == path.read_text()

    @pytest.mark.parametrize("kind", PLANS)
    def test_are_known_to_the_sdk_to_the_last_property(self, kind: str) -> None:
        for spec in creating(PLANS[kind]()):
            module, name = MODELS[spec.ref.type]
            BodyCheck(spec.ref.type.value.partition("/")[0]).check(model_class(module, name), body_of(spec))

    def test_the_graph_has_no_dead_end(self) -> None:
        specs = cluster_specs(plan())
        done: frozenset[ResourceRef] = frozenset()
        waves = 0
        while len(done) < len(specs):
            wave = ready(specs, done)
            assert wave, f"stuck at {done}"
            done |= {spec.ref for spec in wave}
            waves += 1
        assert waves == 6

    def test_dependants_are_deleted_before_what_they_need(self) -> None:
        for spec in (spec for made in PLANS.values() for spec in cluster_specs(made())):
            for needed in spec.needs if spec.ref.type not in DELETED_WITH_PARENT else ():
                assert DELETE_RANK[spec.ref.type] < DELETE_RANK[needed.type]


class TestNothingToDo:
    @pytest.mark.parametrize("kind", PLANS)
    def test_when_azure_returns_what_was_wanted(self, kind: str) -> None:
        for spec in creating(PLANS[kind]()):
            assert spec.parameters(returned(spec)) is None, spec.ref

    def test_but_a_failed_resource_is_put_again(self) -> None:
        for spec in creating(plan()):
            assert spec.parameters(returned(spec), force=True) is not None

    def test_location_is_compared_as_azure_does(self) -> None:
        spec = load_balancer(plan())
        existing = returned(spec)
        existing["location"] = "West Europe"
        assert spec.parameters(existing) is None


class TestUpdate:
    def test_a_rule_is_added_and_another_goes_with_everything_else_kept(self) -> None:
        existing = returned(load_balancer(plan()))
        existing["properties"]["inboundNatRules"] = [{"name": "theirs"}]
        changed = plan(rules=(ForwardingRule("reports", "tcp", 80, 8081),))
        body = load_balancer(changed).parameters(existing)
        assert body is not None
        assert [rule["name"] for rule in body["properties"]["loadBalancingRules"]] == ["console", "reports"]
        assert body["properties"]["inboundNatRules"] == [{"name": "theirs"}]
        assert body["properties"]["somethingNewOfAzure"] == {"x": 1}
        assert "etag" not in body

    def test_a_foreign_subnet_stays(self) -> None:
        existing = returned(virtual_network(plan()))
        theirs = {"name": "AzureBastionSubnet", "properties": {"addressPrefix": "10.0.1.0/26"}}
        existing["properties"]["subnets"].append(theirs)
        assert virtual_network(plan()).parameters(existing) is None
        existing["properties"]["subnets"][0]["properties"]["defaultOutboundAccess"] = True
        body = virtual_network(plan()).parameters(existing)
        assert body is not None
        assert theirs in body["properties"]["subnets"]
        assert body["properties"]["subnets"][0]["properties"]["defaultOutboundAccess"] is False

    def test_a_rule_somebody_added_to_our_security_group_is_removed(self) -> None:
        existing = returned(security_group(plan()))
        existing["properties"]["securityRules"].append({"name": "open-door", "properties": {"priority": 101}})
        body = security_group(plan()).parameters(existing)
        assert body is not None
        assert "open-door" not in [rule["name"] for rule in body["properties"]["securityRules"]]

    def test_an_interface_that_left_the_pool_comes_back(self) -> None:
        existing = returned(network_interface(plan(), "a"))
        existing["properties"]["ipConfigurations"][0]["properties"].pop("loadBalancerBackendAddressPools")
        body = network_interface(plan(), "a").parameters(existing)
        assert body is not None
        assert body["properties"]["ipConfigurations"][0]["properties"]["loadBalancerBackendAddressPools"]

    def test_a_security_group_that_somebody_put_on_an_interface_stays(self) -> None:
        existing = returned(network_interface(plan(), "a"))
        existing["properties"]["networkSecurityGroup"] = {"id": "/subscriptions/s/theirs"}
        assert network_interface(plan(), "a").parameters(existing) is None
        assert network_interface(brought_plan(), "a").parameters(existing) is not None

    def test_tags_of_others_stay(self) -> None:
        existing = returned(load_balancer(plan()))
        existing["tags"]["cost-centre"] = "4711"
        assert load_balancer(plan()).parameters(existing) is None
        body = load_balancer(plan(tags={"team": "new"})).parameters(existing)
        assert body is not None
        assert body["tags"]["cost-centre"] == "4711"
        assert body["tags"]["team"] == "new"

    def test_a_machine_is_never_sent_its_boot_document_again(self) -> None:
        existing = returned(virtual_machine(plan(), "a", "#cloud-config\n{}\n"))
        body = virtual_machine(plan(), "a", None).parameters(existing, force=True)
        assert body is not None
        assert "customData" not in json.dumps(body)

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"vm_size": "Standard_D4s_v5"}, "vmSize"),
            ({"zones": ("3", "1")}, "zones"),
            ({"location": "northeurope"}, "location"),
        ],
    )
    def test_what_azure_cannot_change_is_said_not_ignored(self, changes: dict[str, Any], named: str) -> None:
        existing = returned(virtual_machine(plan(), "a", "#cloud-config\n{}\n"))
        with pytest.raises(ImmutableProperty, match=named) as caught:
            virtual_machine(plan(**changes), "a", None).parameters(existing)
        assert caught.value.code == "ImmutableProperty"


class TestOwnership:
    @pytest.mark.parametrize(
        "tags",
        [
            {},
            {"mirrorplane-owned": "true"},
            {"mirrorplane-owned": "true", "mirrorplane-cluster-id": "another"},
            {"mirrorplane-cluster-id": "6f1d2c3b-0000-4000-8000-00000000abcd"},
            None,
        ],
    )
    def test_a_resource_without_our_tags_is_never_written(self, tags: dict[str, str] | None) -> None:
        for spec in creating(plan()):
            existing = copy.deepcopy(returned(spec))
            existing["tags"] = tags
            existing["location"] = "elsewhere"
            with pytest.raises(NotOwned, match="left untouched"):
                spec.parameters(existing, force=True)


class TestSecurityRules:
    def rules(self, made: ClusterPlan) -> dict[str, dict[str, Any]]:
        return {
            rule["name"]: rule["properties"] for rule in body_of(security_group(made))["properties"]["securityRules"]
        }

    def test_the_last_one_refuses_everything(self) -> None:
        rules = self.rules(plan())
        assert max(rules.values(), key=lambda rule: rule["priority"])["access"] == "Deny"
        assert rules["deny-all"]["destinationPortRange"] == "*"

    def test_peer_ports_are_open_to_the_subnet_only(self) -> None:
        peer = self.rules(plan())["peer"]
        assert (peer["sourceAddressPrefix"], peer["destinationPortRanges"]) == ("10.0.0.0/24", ["8888", "5600", "9453"])

    def test_a_node_may_pass_connections_on_to_the_other_one(self) -> None:
        """The relay of a planned swap: TCP ports of the application, from inside the subnet only."""
        udp = ForwardingRule("time", "udp", 123, 123)
        handover = self.rules(plan(rules=(ForwardingRule("reports", "tcp", 80, 8081), udp)))["handover"]
        assert handover["destinationPortRange"] == "8081"
        assert handover["sourceAddressPrefix"] == handover["destinationAddressPrefix"] == "10.0.0.0/24"
        assert "handover" not in self.rules(plan(rules=(udp,)))

    def test_remote_login_is_open_to_the_given_addresses_only(self) -> None:
        for made, port in ((plan(), "22"), (windows_plan(), "3389")):
            rules = self.rules(made)
            with_login = [
                name
                for name, rule in rules.items()
                if port in (rule.get("destinationPortRanges") or [rule.get("destinationPortRange")])
            ]
            assert with_login == ["administration"]
            assert rules["administration"]["sourceAddressPrefix"] == "203.0.113.0/24"
        assert "administration" not in self.rules(plan(admin_addresses=()))

    def test_a_private_frontend_lets_nobody_in_from_the_internet(self) -> None:
        assert "Internet" not in json.dumps(self.rules(private_plan()))
        assert "control-plane" not in self.rules(private_plan())

    def test_no_two_rules_share_a_priority(self) -> None:
        many = tuple(ForwardingRule(f"r{n}", "tcp", 10_000 + n, 10_000 + n) for n in range(32))
        priorities = [rule["priority"] for rule in self.rules(plan(rules=many)).values()]
        assert len(set(priorities)) == len(priorities)
