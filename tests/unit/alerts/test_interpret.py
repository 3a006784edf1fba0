"""What each platform event means, in both schemas; what is malformed and why; what is none of our business."""

from __future__ import annotations

import ast
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.alerts.raising import clear_alert, raise_alert
from shared.alerts.tick import advance_alerts
from shared.api.events import understood
from shared.audit.notices import fresh_notices
from shared.events.facts import as_facts
from shared.health.facts import FactKind, Notice, ResourceHealthSeen
from shared.model.event_fact import EventFact, EventFactKind, newer
from shared.model.remediation import RemediationRecord, Tracked
from tests.control_plane_app import App
from tests.control_plane_samples import NOW
from tests.golden.alerts.scenario import delivery

ROOT = Path(__file__).parents[3]
TIME = "2026-11-22T11:59:00.1234567Z"
GROUP = "/subscriptions/S/resourceGroups/mirrorplane-pay/providers"
VM = f"{GROUP}/Microsoft.Compute/virtualMachines/pay-b"
STRANGE = VM.replace("mirrorplane-pay", "payments-rg")
LB = f"{GROUP}/Microsoft.Network/loadBalancers/pay-lb"
HEALTH = "Microsoft.ResourceNotifications.HealthResources.AvailabilityStatusChanged"
CHANGE = "Microsoft.Resources.Resource"


def _cloud(kind: str, data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    base = {"specversion": "1.0", "id": "e", "source": "/subscriptions/S", "subject": VM, "time": TIME}
    return {**base, "type": kind, "data": data, **changes}


def _grid(event: dict[str, Any]) -> dict[str, Any]:
    """The same in Event Grid's own schema."""
    names = {"source": "topic", "type": "eventType", "time": "eventTime"}
    return {names.get(name, name): value for name, value in event.items() if name != "specversion"}


def _fact(event: dict[str, Any]) -> EventFact | None:
    found, fact = understood(json.dumps(event), NOW)
    assert not found.malformed, found.reason
    return fact


def _reason(event: dict[str, Any]) -> str:
    found, fact = understood(json.dumps(event), NOW)
    assert found.malformed
    assert fact is None
    return found.reason


def _change(verb: str, operation: str, uri: str = VM, **changes: Any) -> dict[str, Any]:
    return _cloud(f"{CHANGE}{verb}Success", {"resourceUri": uri, "operationName": operation, **changes}, subject=uri)


MEANINGS = [
    (_change("Delete", "Microsoft.Compute/virtualMachines/delete"), "delete", True, "b"),
    (_change("Write", "Microsoft.Compute/virtualMachines/write"), "write", False, "b"),
    (_change("Action", "Microsoft.Compute/virtualMachines/deallocate/action"), "deallocate", True, "b"),
    (_change("Action", "Microsoft.Compute/virtualMachines/powerOff/action"), "power-off", True, "b"),
    (_change("Action", "Microsoft.Compute/virtualMachines/restart/action"), "restart", False, "b"),
    (_change("Delete", "Microsoft.Network/loadBalancers/delete", LB), "delete", True, None),
    (_change("Delete", "microsoft.network/LOADBALANCERS/delete", LB.upper()), "delete", True, None),
    (
        _cloud(HEALTH, {"resourceInfo": {"properties": {"targetResourceId": VM, "availabilityState": "Degraded"}}}),
        "Degraded",
        True,
        "b",
    ),
]


@pytest.mark.parametrize(("event", "value", "is_open", "node"), MEANINGS)
@pytest.mark.parametrize("schema", ["cloud", "grid"])
def test_the_meaning_is_the_same_in_both_schemas(
    event: dict[str, Any], value: str, is_open: bool, node: str | None, schema: str
) -> None:
    fact = _fact(event if schema == "cloud" else _grid(event))
    assert fact is not None
    assert (fact.cluster, fact.value, fact.open, fact.node) == ("pay", value, is_open, node)
    assert fact.at == datetime(2026, 11, 22, 11, 59, 0, 123456, UTC)


NOTHING = [
    _change("Write", "Microsoft.Compute/virtualMachines/extensions/write"),
    _change("Delete", "Microsoft.Compute/disks/delete", f"{GROUP}/Microsoft.Compute/disks/pay-b-os"),
    _change("Delete", "Microsoft.Compute/virtualMachines/delete", STRANGE.replace("pay-b", "pay-e")),
    _change(
        "Delete", "Microsoft.Compute/virtualMachines/delete", VM.replace("mirrorplane-pay", "mirrorplane-" + 600 * "x")
    ),
    _cloud("Microsoft.Resources.ResourceDeleteFailure", {"resourceUri": VM}),
    _cloud("Mirrorplane.Alerts.Notice", {"reason": "fired"}),
]


@pytest.mark.parametrize("event", NOTHING)
def test_what_is_none_of_our_business_is_recorded_and_means_nothing(event: dict[str, Any]) -> None:
    assert _fact(event) is None


BROKEN = [
    (_change("Action", ""), "operationName is missing"),
    (_cloud(f"{CHANGE}ActionSuccess", {"resourceUri": VM}), "operationName is missing"),
    (_cloud(HEALTH, {}), "resourceInfo.properties is missing"),
    (_cloud(HEALTH, {"resourceInfo": {"properties": {"availabilityState": "Weird"}}}), "'Weird'; known: Available"),
    (_cloud(HEALTH, {"resourceInfo": {"properties": {}}}), "availabilityState is missing"),
    ({**_change("Delete", "Microsoft.Compute/virtualMachines/delete"), "time": None}, "has no time"),
    ({**_change("Delete", "Microsoft.Compute/virtualMachines/delete"), "time": "noon"}, "'noon' is neither ISO"),
    (
        {**_change("Delete", "Microsoft.Compute/virtualMachines/delete"), "time": "2036-01-01T00:00:00Z"},
        "ahead of ours",
    ),
    ({"schemaId": "azureMonitorCommonAlertSchema", "data": {}}, "id is missing"),
]


@pytest.mark.parametrize(("event", "reason"), BROKEN)
def test_what_lacks_what_we_must_know_is_malformed_and_says_what(event: dict[str, Any], reason: str) -> None:
    assert reason in _reason(event)


def test_a_failed_or_unknown_alert_condition_is_malformed() -> None:
    text = delivery("azure pay-a Burning", 1)
    found, _ = understood(text, NOW)
    assert "known: Fired, Resolved" in found.reason
    found, fact = understood(delivery("azure pay-a Fired", 1), NOW)
    assert fact is not None
    assert (found.cluster, fact.severity, fact.node) == ("pay", "error", "a")


@given(st.text(max_size=200))
def test_no_text_raises(text: str) -> None:
    event, fact = understood(text, NOW)
    assert event.malformed == (fact is None)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner)))
def test_no_data_raises(value: object) -> None:
    for kind in (HEALTH, HEALTH.replace("AvailabilityStatusChanged", "ResourceAnnotated"), f"{CHANGE}ActionSuccess"):
        for data in ({"resourceInfo": value}, {"resourceInfo": {"properties": value}}, {"resourceUri": value}, value):
            understood(json.dumps({**_cloud(kind, {}), "data": data}), NOW)
        wrapped = {"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": value}}
        understood(json.dumps(wrapped), NOW)
        understood(json.dumps({**_cloud("x", {}), "data": wrapped}), NOW)


FACT = st.builds(
    lambda second, rank, name: EventFact(
        cluster="pay",
        kind=EventFactKind.RESOURCE,
        subject="x",
        value=name,
        open=False,
        at=NOW + timedelta(seconds=second),
        received_at=NOW,
        rank=rank,
        event_id=name,
    ),
    st.integers(0, 3),
    st.integers(0, 2),
    st.sampled_from("abc"),
)


@given(FACT, FACT, FACT)
def test_the_newer_fact_is_the_same_whoever_is_asked_first(one: EventFact, two: EventFact, three: EventFact) -> None:
    assert newer(one, two).order == newer(two, one).order
    assert newer(newer(one, two), three).order == newer(one, newer(two, three)).order
    assert newer(one, one) == one


async def test_facts_reach_the_audit_as_hints_and_reasons_to_keep_still(app: App) -> None:
    await app.provisioned()
    words = [
        "customer pay-b VirtualMachineDeallocationInitiated -5",
        "health pay-b Unavailable -4",
        "vm pay-b write -3",
    ]
    for number, event in enumerate(words):
        await app.fire("platform_event", delivery(event, number))
    facts = as_facts(await app.plane.store.alerting.event_facts.of_cluster("pay"), app.clock())
    assert {(fact.kind, fact.subject) for fact in facts} == {(FactKind.NOTICE, "b"), (FactKind.RESOURCE_HEALTH, "b")}
    [notice] = [fact.value for fact in facts if isinstance(fact.value, Notice)]
    assert notice.customer_initiated
    assert [fact.value.state for fact in facts if isinstance(fact.value, ResourceHealthSeen)] == ["Unavailable"]
    assert all(fact.observed_at == app.clock() for fact in facts), "our time of arrival, not the sender's"


async def test_a_stop_stands_until_news_of_the_same_machine_outdates_it(app: App) -> None:
    await app.provisioned()
    app.clock.advance(600)
    store = app.plane.store.alerting.event_facts
    words = ["customer pay-b VirtualMachineDeallocationInitiated 10", "vm pay-b deallocate 11", "vm pay-b write 30"]
    for number, event in enumerate([*words, "vm pay-b runCommand 31", "vm pay-a start 32"]):
        await app.fire("platform_event", delivery(event, number))
    app.clock.advance(8 * 3600)
    facts = [fact for fact in as_facts(await store.of_cluster("pay"), app.clock()) if fact.kind is FactKind.NOTICE]
    assert len(facts) == 1, "a write, a command and another machine's start do not outdate it"
    assert all(fact.age_s(app.clock()) == 0 for fact in facts)
    await app.fire("platform_event", delivery("health pay-b Available 40", 9))
    assert not [f for f in as_facts(await store.of_cluster("pay"), app.clock()) if f.kind is FactKind.NOTICE]
    await advance_alerts(app.plane, [], app.clock())
    assert [entry.value.rule for entry in await app.plane.store.alerting.alerts.open()] == ["watchdog"]


async def test_a_machine_stopped_by_a_person_pauses_repair_for_as_long_as_it_stands(app: App) -> None:
    await app.provisioned()
    await app.fire("platform_event", delivery("customer pay-b VirtualMachineDeallocationInitiated -5", 1))
    app.clock.advance(8 * 3600)
    notices = await fresh_notices(app.plane, app.clock())
    assert [fact.value.customer_initiated for fact in notices["pay"] if isinstance(fact.value, Notice)] == [True]
    await app.fire("platform_event", delivery("vm pay-b start 100", 2))
    assert await fresh_notices(app.plane, app.clock()) == {}


async def test_announced_maintenance_without_an_end_ends_by_itself(app: App) -> None:
    await app.provisioned()
    await app.fire("platform_event", delivery("maintenance pay-b Started", 1))
    app.clock.advance(3600)
    assert "pay" in await fresh_notices(app.plane, app.clock())
    app.clock.advance(24 * 3600)
    assert await fresh_notices(app.plane, app.clock()) == {}


async def test_what_the_control_plane_does_itself_is_no_strangers_deed(app: App) -> None:
    await app.put()
    await app.fire("platform_event", delivery("vm pay-b delete", 1))
    await advance_alerts(app.plane, [], app.clock())
    assert [entry.value.rule for entry in await app.plane.store.alerting.alerts.open()] == ["watchdog"]
    await app.settle()
    await advance_alerts(app.plane, [], app.clock())
    assert {entry.value.rule for entry in await app.plane.store.alerting.alerts.open()} == {"watchdog", "vm-deleted"}


async def test_a_fact_of_an_earlier_cluster_of_the_same_name_does_not_count(app: App) -> None:
    await app.fire("platform_event", delivery("vm pay-b delete -5", 1))
    await app.provisioned()
    await advance_alerts(app.plane, [], app.clock())
    assert [entry.value.rule for entry in await app.plane.store.alerting.alerts.open()] == ["watchdog"]


async def test_facts_of_a_deleted_cluster_are_removed(app: App) -> None:
    await app.fire("platform_event", delivery("vm pay-b delete", 1))
    for _ in range(2):
        await advance_alerts(app.plane, [], app.clock())
    assert await app.plane.store.alerting.event_facts.of_cluster("pay") == []
    assert await app.plane.store.alerting.event_facts.open() == []


async def test_another_part_may_raise_an_alert_and_clear_it(app: App) -> None:
    await app.provisioned()
    rule = "remediation-needs-a-person"
    for _ in range(2):
        await raise_alert(app.plane, "pay", rule, "b", "the ladder is at its end", app.clock())
        await advance_alerts(app.plane, [], app.clock())
        app.clock.advance(30)
    [alert] = (await app.send("GET", "alerts?cluster=pay")).body["value"]
    assert (alert["rule"], alert["subject"], alert["sentence"]) == (rule, "b", "the ladder is at its end")
    await clear_alert(app.plane, "pay", rule, "b", app.clock())
    for _ in range(2):
        await advance_alerts(app.plane, [], app.clock())
        app.clock.advance(90)
    assert (await app.send("GET", "alerts?cluster=pay")).body["value"][0]["state"] == "resolved"
    with pytest.raises(KeyError):
        await raise_alert(app.plane, "pay", "storm", "b", "", app.clock())


async def test_a_repair_that_is_at_its_end_calls_a_person_until_it_is_not(app: App) -> None:
    record = await app.provisioned()
    store = app.plane.store.remediations
    await store.track(Tracked(cluster_id=record.id, cluster="pay"))
    ended = RemediationRecord(cluster_id=record.id, cluster="pay", rule="ladder-exhausted", sentence="nothing helped")
    made = await store.put(ended, None)
    await advance_alerts(app.plane, [], app.clock())
    [alert] = (await app.send("GET", "alerts?cluster=pay")).body["value"]
    assert (alert["rule"], alert["sentence"]) == ("remediation-needs-a-person", "nothing helped")
    await store.put(made.value.model_copy(update={"rule": "nothing-to-do"}), made.etag)
    for _ in range(2):
        await advance_alerts(app.plane, [], app.clock())
        app.clock.advance(90)
    assert (await app.send("GET", "alerts?cluster=pay")).body["value"][0]["state"] == "resolved"


PURE = ["conditions", "lifecycle", "mutes", "notices", "rules", "limits", "backoff", "message", "courier"]
IMPURE = (
    "time",
    "asyncio",
    "os",
    "random",
    "secrets",
    "logging",
    "uuid",
    "aiohttp",
    "azure",
    "shared.store",
    "shared.api",
)


@pytest.mark.parametrize("file", [*(f"alerts/{name}" for name in PURE), "events/interpret", "events/facts"])
def test_what_decides_is_pure(file: str) -> None:
    tree = ast.parse((ROOT / "shared" / f"{file}.py").read_text(encoding="utf-8"))
    found = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    found += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in found if name.startswith(IMPURE)]


async def test_a_machine_named_like_ours_counts_only_in_the_group_its_cluster_was_given(app: App) -> None:
    event = _change("Delete", "Microsoft.Compute/virtualMachines/delete", STRANGE)
    record = await app.provisioned(resourceGroup="other-rg")
    await app.fire("platform_event", json.dumps(event))
    assert await app.plane.store.alerting.event_facts.of_cluster("pay") == []
    await app.send("DELETE", "clusters/pay")
    found = await app.plane.store.clusters.get("pay")
    assert found is not None
    await app.plane.store.clusters.delete(found.value, found.etag)
    assert (await app.provisioned(resourceGroup="payments-rg")).group == "payments-rg" != record.group
    await app.fire("platform_event", json.dumps({**event, "id": "again"}))
    (fact,) = await app.plane.store.alerting.event_facts.of_cluster("pay")
    assert (fact.node, fact.value) == ("b", "delete")
    assert [entry["cluster"] for entry in (await app.send("GET", "events")).body["value"]] == ["pay", None]
