"""`clusters:estimate` and `clusters:validate`: what would be, without anything being written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from shared.composition import installed
from shared.model.cluster import ProvisioningState
from shared.model.operation import OperationKind
from shared.model.principal import AccessRole
from shared.provisioning.records import plan_of
from shared.provisioning.specs.cluster import cluster_specs
from shared.provisioning.specs.load_balancer import load_balancer
from tests.control_plane_app import App, Reply, running_app
from tests.control_plane_samples import cluster_body
from tests.unit.provisioning.memory_arm import SUBSCRIPTION, MemoryArm
from tests.unit.windows.boot_samples import PARAMETERS

SUBNET = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/network-rg/providers/Microsoft.Network/virtualNetworks/hub"
    "/subnets/payments"
)


@pytest.fixture
def app() -> Iterator[App]:
    """An app whose Azure is in memory."""
    with running_app() as running:
        settings = replace(running.plane.settings, subscription_id=SUBSCRIPTION)
        plane = replace(running.plane, settings=settings, arm=MemoryArm(running.clock))
        with installed(plane):
            yield replace(running, plane=plane)


def arm_of(app: App) -> MemoryArm:
    assert isinstance(app.plane.arm, MemoryArm)
    return app.plane.arm


async def ask(app: App, word: str, name: str = "pay", **changes: Any) -> Reply:
    return await app.send("POST", f"clusters:{word}", {"name": name, "cluster": cluster_body(**changes)})


async def built(app: App) -> None:
    """The cluster with its resources, as the reconciler leaves them."""
    record = await app.provisioned()
    plan = plan_of(record, subscription_id=SUBSCRIPTION)
    for spec in cluster_specs(plan):
        arm_of(app).place(spec.ref, dict(spec.wanted))


async def test_an_estimate_names_resources_cost_quotas_and_where_the_prices_are_from(app: App) -> None:
    reply = await ask(app, "estimate")
    assert reply.status == 200, reply.content
    body = reply.body
    assert body["monthlyCost"] == pytest.approx(sum(item["monthlyCost"] for item in body["resources"]), abs=0.05)
    assert body["complete"] is True
    assert (body["prices"]["region"], body["prices"]["ofRegion"]) == ("eastus", False)
    assert {"provider": "Microsoft.Compute", "name": "cores", "needed": 4} in body["quotas"]
    assert body["publicAddresses"] == 4


async def test_neither_writes_anything(app: App) -> None:
    before = app.rows.everything()
    monitor = await app.token(AccessRole.MONITOR)
    after_token = app.rows.everything()
    assert (await ask(app, "estimate")).status == (await ask(app, "validate")).status == 200
    assert app.rows.everything() == after_token != before
    assert not arm_of(app).puts
    refused = await app.send("POST", "clusters:validate", {"name": "pay", "cluster": cluster_body()}, token=monitor)
    assert refused.status == 403


async def test_a_new_cluster_is_all_creations(app: App) -> None:
    body = (await ask(app, "validate")).body
    assert (body["valid"], body["problems"]) == (True, [])
    assert {change["action"] for change in body["changes"]} == {"create"}
    assert body["counts"]["create"] == len(body["changes"]) == 15
    assert body["changes"][0] | {"problem": None} == {
        "type": "Microsoft.Resources/resourceGroups",
        "resourceGroup": "mirrorplane-pay",
        "name": "mirrorplane-pay",
        "action": "create",
        "brought": False,
        "differences": [],
        "problem": None,
    }


async def test_an_unchanged_cluster_needs_nothing(app: App) -> None:
    await built(app)
    body = (await ask(app, "validate")).body
    assert body["valid"] is True
    assert {change["action"] for change in body["changes"]} == {"none"}


async def test_a_change_is_shown_property_by_property(app: App) -> None:
    await built(app)
    rules = [{"name": "ledger", "protocol": "tcp", "frontendPort": 80, "backendPort": 8080}]
    body = (await ask(app, "validate", network__rules=rules)).body
    changed = {change["name"]: change for change in body["changes"] if change["action"] == "update"}
    assert changed.keys() == {"pay-lb"}
    assert changed["pay-lb"]["differences"] == [
        {"path": "properties.loadBalancingRules[ledger].properties.frontendPort", "before": "8080", "after": "80"}
    ]


async def test_a_rule_more_and_a_tag_more(app: App) -> None:
    await built(app)
    usual = {"name": "ledger", "protocol": "tcp", "frontendPort": 8080, "backendPort": 8080}
    more = {"name": "reports", "protocol": "tcp", "frontendPort": 81, "backendPort": 8081}
    body = (await ask(app, "validate", network__rules=[usual, more], tags={"team": "ledger", "stage": "test"})).body
    changed = {change["name"]: change for change in body["changes"] if change["action"] == "update"}
    assert len(changed) == len(body["changes"])
    paths = {entry["path"]: entry for entry in changed["pay-lb"]["differences"]}
    assert paths.keys() == {"tags.stage", "properties.loadBalancingRules[reports]"}
    assert paths["properties.loadBalancingRules[reports]"]["before"] is None


async def test_what_goes_away_is_shown_too(app: App) -> None:
    record = await app.provisioned(network__dnsLabel="pay-example")
    for spec in cluster_specs(plan_of(record, subscription_id=SUBSCRIPTION)):
        arm_of(app).place(spec.ref, dict(spec.wanted))
    body = (await ask(app, "validate")).body
    (changed,) = (change for change in body["changes"] if change["action"] == "update")
    assert changed["name"] == "pay-vip"
    (difference,) = changed["differences"]
    assert (difference["path"], difference["after"]) == ("properties.dnsSettings", None)
    assert "pay-example" in difference["before"]


async def test_what_put_would_refuse_is_a_problem_of_the_answer(app: App) -> None:
    await built(app)
    body = (await ask(app, "validate", compute__vmSize="Standard_D8s_v5")).body
    assert body["valid"] is False
    assert {problem["code"] for problem in body["problems"]} == {"PropertyChangeNotAllowed", "ImmutableProperty"}
    assert {change["action"] for change in body["changes"]} == {"none", "refused"}


async def test_somebody_elses_resource_in_the_way_is_a_problem(app: App) -> None:
    record = await app.provisioned("other")
    spec = load_balancer(plan_of(record, subscription_id=SUBSCRIPTION))
    arm_of(app).place(replace(spec.ref, group="mirrorplane-pay", name="pay-lb"), dict(spec.wanted))
    body = (await ask(app, "validate")).body
    assert [problem["code"] for problem in body["problems"]] == ["ResourceNotOwned"]


async def test_a_brought_subnet_that_is_not_there(app: App) -> None:
    body = (await ask(app, "validate", network__subnetId=SUBNET)).body
    assert [(problem["code"], problem["target"]) for problem in body["problems"]] == [
        ("BroughtResourceMissing", "network.subnetId")
    ]


async def test_a_subnet_of_another_subscription_is_refused_by_put_and_told_by_validate(app: App) -> None:
    elsewhere = SUBNET.replace(SUBSCRIPTION, "99999999-0000-4000-8000-000000000001")
    refused = await app.put(network__subnetId=elsewhere)
    assert (refused.status, refused.target) == (400, "network.subnetId")
    body = (await ask(app, "validate", network__subnetId=elsewhere)).body
    assert (body["valid"], body["changes"], body["problems"][0]["target"]) == (False, [], "network.subnetId")


async def test_a_body_that_is_no_cluster_is_refused(app: App) -> None:
    reply = await app.send("POST", "clusters:validate", {"name": "Pay", "cluster": cluster_body()})
    assert (reply.status, reply.target) == (400, "name")
    reply = await ask(app, "estimate", network__dnsLable="pay")
    assert (reply.status, reply.code, reply.target) == (400, "UnknownField", "cluster.network.dnsLable")


async def test_an_operation_under_way_is_told(app: App) -> None:
    await app.put()
    assert (await app.record()).state is ProvisioningState.CREATING
    assert (await app.record()).operation.kind is OperationKind.CREATE
    body = (await ask(app, "validate", tags={})).body
    assert [problem["code"] for problem in body["problems"]] == ["OperationInProgress"]


async def test_when_azure_does_not_answer_nothing_is_concluded(app: App) -> None:
    arm_of(app).answer("get", "pay-lb", 500, "InternalServerError")
    reply = await ask(app, "validate")
    assert (reply.status, reply.code) == (503, "AzureUnavailable")


async def test_a_windows_cluster_has_its_licence_in_the_estimate_and_its_extension_in_the_preview(app: App) -> None:
    settings = replace(app.plane.settings, windows=PARAMETERS.artifacts)
    windows: dict[str, Any] = {
        "compute": {"os": "windows", "image": "windows-2025"},
        "application__replicatedPaths": [{"path": "M:\\ledger"}],
    }
    with installed(replace(app.plane, settings=settings)):
        found = (await ask(app, "validate", **windows)).body
        dear = (await ask(app, "estimate", **windows)).body
    assert found["valid"] is True, found["problems"]
    made = [(change["type"], change["name"]) for change in found["changes"] if change["action"] == "create"]
    kind = "Microsoft.Compute/virtualMachines/extensions"
    assert (kind, "pay-a/bootstrap") in made
    assert (kind, "pay-b/bootstrap") in made
    cheap = (await ask(app, "estimate")).body
    cost = {item["name"]: item["monthlyCost"] for item in dear["resources"]}
    assert cost["pay-a"] > {item["name"]: item["monthlyCost"] for item in cheap["resources"]}["pay-a"]
    assert cost["pay-a/bootstrap"] == 0
