"""Ten thousand events, in any order, twice, some of them damaged: the same final state as the clean order."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from typing import Any, Final

from shared.alerts.tick import advance_alerts
from shared.api.events import record_event
from shared.model.alert import DeadLetterKind
from shared.model.cluster import ProvisioningState
from tests.control_plane_app import App, running_app
from tests.control_plane_samples import NOW, record

EVENTS: Final = 10_000
CLUSTERS: Final = 50
SEED: Final = 20261122
HEALTH: Final = "Microsoft.ResourceNotifications.HealthResources"


def _event(dice: random.Random, number: int) -> dict[str, Any]:
    """One event in one of the two schemas; events of one thing may share their instant."""
    cluster = f"c{dice.randrange(CLUSTERS)}"
    node = dice.choice("ab")
    at = (NOW - timedelta(seconds=dice.randrange(36_000) / 10)).isoformat()
    group = f"/subscriptions/S/resourceGroups/{dice.choice(('mirrorplane', 'MIRRORPLANE'))}-{cluster}/providers"
    vm = f"{group}/Microsoft.Compute/virtualMachines/{cluster}-{node}"
    properties: dict[str, Any] = {"targetResourceId": vm}
    subject, kind = vm, ""
    data: dict[str, Any] = {}
    match dice.randrange(5):
        case 0:
            kind = f"{HEALTH}.AvailabilityStatusChanged"
            properties["availabilityState"] = dice.choice(("Available", "Unavailable", "Degraded", "Unknown"))
            data = {"resourceInfo": {"properties": properties}}
        case 1:
            kind = f"{HEALTH}.ResourceAnnotated"
            properties["annotationName"] = dice.choice(("VirtualMachineDeallocationInitiated", "VirtualMachineStarted"))
            properties["context"] = dice.choice(("Customer Initiated", "Platform Initiated"))
            data = {"resourceInfo": {"properties": properties}}
        case 2:
            verb, operation = dice.choice(
                (("Write", "write"), ("Delete", "delete"), ("Action", "deallocate/action"), ("Action", "start/action"))
            )
            kind = f"Microsoft.Resources.Resource{verb}Success"
            data = {"resourceUri": vm, "operationName": f"Microsoft.Compute/virtualMachines/{operation}"}
        case 3:
            kind = "Microsoft.ResourceNotifications.MaintenanceResources.ScheduledEventEmitted"
            status = dice.choice(("Scheduled", "Started", "Completed"))
            properties |= {"EventId": f"m{dice.randrange(20)}", "EventType": "Reboot", "EventStatus": status}
            data = {"resourceInfo": {"id": vm, "properties": properties}}
        case _:
            kind, condition = "Azure.Alert", dice.choice(("Fired", "Resolved"))
            essentials = {"alertId": f"/alerts/{dice.randrange(200)}", "monitorCondition": condition}
            essentials |= {"severity": dice.choice(("Sev0", "Sev2")), "alertTargetIDs": [vm.lower()]}  # type: ignore[dict-item]
            essentials |= {"firedDateTime": at, "resolvedDateTime": at}
            data = {"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": essentials}}
    if dice.random() < 0.5:
        cloud = {"specversion": "1.0", "source": "/subscriptions/S", "type": kind, "time": at}
        return {**cloud, "id": f"e{number}", "subject": subject, "data": data}
    grid = {"topic": "/subscriptions/S", "eventType": kind, "eventTime": at, "dataVersion": "1"}
    return {**grid, "id": f"e{number}", "subject": subject, "data": data}


def _damaged(dice: random.Random, event: dict[str, Any]) -> str:
    """One of the ways in which a sender or a wire can spoil an event."""
    text = json.dumps(event)
    match dice.randrange(4):
        case 0:
            return text[: len(text) // 2]
        case 1:
            return json.dumps({**event, "id": None})
        case 2:
            return json.dumps(
                {**event, "time": "yesterday", "eventTime": "yesterday", "data": _timeless(event["data"])}
            )
        case _:
            kind = f"{HEALTH}.AvailabilityStatusChanged"
            return json.dumps({**event, "type": kind, "eventType": kind, "data": {"resourceInfo": []}})


def _timeless(data: dict[str, Any]) -> dict[str, Any]:
    essentials = data.get("data", {}).get("essentials")
    if essentials is None:
        return data
    return {**data, "data": {"essentials": {**essentials, "firedDateTime": None, "resolvedDateTime": None}}}


async def _final_state(texts: list[str]) -> dict[str, Any]:
    with running_app() as app:
        for number in range(CLUSTERS):
            made = record(f"c{number}", cluster_id=f"id-{number}", state=ProvisioningState.SUCCEEDED)
            early = made.model_copy(update={"created_at": NOW - timedelta(days=30)})
            await app.plane.store.clusters.create(early)
        for text in texts:
            app.clock.advance(0.001)  # arrivals differ in every order, and must not matter
            await record_event(app.plane, text)
        return await _state(app, NOW + timedelta(hours=1))


async def _state(app: App, now: datetime) -> dict[str, Any]:
    app.clock.now = now
    await advance_alerts(app.plane, [], now)
    store = app.plane.store.alerting
    facts = [fact for number in range(CLUSTERS) for fact in await store.event_facts.of_cluster(f"c{number}")]
    letters = await store.dead_letters.page(DeadLetterKind.EVENT, None, EVENTS)
    alerts = await store.alerts.open()
    return {
        "facts": sorted(fact.model_dump_json(exclude={"received_at"}) for fact in facts),
        "open": sorted(fact.model_dump_json(exclude={"received_at"}) for fact in await store.event_facts.open()),
        "letters": sorted((letter.id, letter.reason, letter.text) for letter in letters.items),
        "alerts": sorted((entry.value.key, entry.value.state, entry.value.severity) for entry in alerts),
        "sentences": sorted(
            entry.value.sentence for entry in alerts if entry.value.rule not in ("events-malformed", "watchdog")
        ),
    }


async def test_shuffled_duplicated_and_damaged_events_end_in_the_same_state() -> None:
    dice = random.Random(SEED)
    unique = EVENTS * 2 // 3
    damaged = EVENTS // 100
    events = [_event(dice, number) for number in range(unique)]
    clean = [json.dumps(event) for event in sorted(events, key=lambda e: str(e.get("time") or e.get("eventTime")))]
    spoilt = [_damaged(dice, _event(dice, unique + number)) for number in range(damaged)]
    mixed = clean + spoilt
    mixed += dice.choices(mixed, k=EVENTS - len(mixed))
    dice.shuffle(mixed)
    assert len(mixed) == EVENTS

    expected, found = await _final_state(clean + spoilt), await _final_state(mixed)
    assert found == expected
    assert len(found["letters"]) == damaged
    assert all(reason for _, reason, _ in found["letters"])
    assert len(found["facts"]) > CLUSTERS
    assert len(found["alerts"]) > CLUSTERS
