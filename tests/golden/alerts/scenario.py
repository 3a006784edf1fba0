"""Reads and plays a scenario of alerts: what is seen at which second, and what is true and told after it.

A file is `{"story", "steps": [{"at_s", "see", "alerts", "notices"}]}`. `see` holds: `clusters` (name → state, and
`nodes`, `pauses`), `calm`, `storm`, `events` (short forms, or whole deliveries), `silence`, `acknowledge`, `deleted`; a
cluster that is not named keeps its state; `unseen` ones get no verdict. The scenario runs through the real tick over
the store in memory, so its rows, groups and deliveries are the product's own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from mirror_agent.contract import ALL_NODES, NodeName

from shared.alerts.courier import Courier, Line, Outcome, Sent
from shared.alerts.delivery import deliver_due
from shared.alerts.mutes import mutes
from shared.alerts.tick import advance_alerts
from shared.api.events import record_event
from shared.health.verdict import ClusterVerdict, Fleet, Health, NodeVerdict
from shared.model.alert import ACTIVE, Notice
from shared.model.cluster import ProvisioningState
from shared.store.ports import Exists
from tests.control_plane_app import App, running_app
from tests.control_plane_samples import NOW, record

SCENARIOS: Final = Path(__file__).parent / "scenarios"
_NODES: Final[dict[str, NodeName]] = {node: node for node in ALL_NODES}


class UnreadableScenario(Exception):
    """A word of the file is not known."""


@dataclass
class Ear:
    """A channel that hears everything."""

    heard: list[Notice] = field(default_factory=list)

    async def send(self, notice: Notice) -> Outcome:
        self.heard.append(notice)
        return Sent()


@dataclass
class World:
    app: App
    ear: Ear
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    since: dict[str, datetime] = field(default_factory=dict)
    storm: bool = False
    number: int = 0


def files() -> list[Path]:
    return sorted(SCENARIOS.glob("*.json"))


def content_of(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


async def played(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps with what happened in them."""
    with running_app() as app:
        ear = Ear()
        app.plane = replace(app.plane, courier=Courier({"ear": Line(ear)}))
        world = World(app, ear)
        return [await _step(world, step) for step in steps]


async def _step(world: World, step: dict[str, Any]) -> dict[str, Any]:
    world.app.clock.now = NOW + timedelta(seconds=step["at_s"])
    see: dict[str, Any] = step["see"]
    known = {"clusters", "unseen", "storm", "events", "silence", "acknowledge", "deleted", "calm"}
    if set(see) - known:
        raise UnreadableScenario(f"{sorted(set(see) - known)}; known: {sorted(known)}")
    for name in see.get("calm", []):
        world.states[name] = {"state": "healthy"}
    for name, state in see.get("clusters", {}).items():
        world.states[name] = {"state": state} if isinstance(state, str) else state
    world.storm = see.get("storm", world.storm)
    for name in world.states:
        await _exists(world, name)
    for event in see.get("events", []):
        await record_event(world.app.plane, delivery(event, world.number))
        world.number += 1
    for body in see.get("silence", []):
        until = (world.app.clock() + timedelta(seconds=body["for_s"])).isoformat()
        wanted = {key: value for key, value in body.items() if key != "for_s"}
        assert (await world.app.send("POST", "silences", {**wanted, "until": until})).status == 201
    for rule in see.get("acknowledge", []):
        for alert in [entry.value for entry in await world.app.plane.store.alerting.alerts.open()]:
            if alert.rule == rule:
                assert (await world.app.send("POST", f"alerts/{alert.key}:acknowledge")).status == 200
    for name in see.get("deleted", []):
        world.states.pop(name, None)
        found = await world.app.plane.store.clusters.get(name)
        assert found is not None
        await world.app.plane.store.clusters.delete(found.value, found.etag)
    unseen = set(see.get("unseen", []))
    verdicts = [
        verdict_of(name, state, world.app.clock()) for name, state in world.states.items() if name not in unseen
    ]
    fleet = Fleet(storm=world.storm, sentence="many clusters at once" if world.storm else "")
    await advance_alerts(world.app.plane, verdicts, world.app.clock(), fleet)
    await deliver_due(world.app.plane)
    heard, world.ear.heard = world.ear.heard, []
    return {"at_s": step["at_s"], "see": see, "alerts": await _alerts(world), "notices": _told(heard)}


async def _exists(world: World, name: str) -> None:
    try:
        await world.app.plane.store.clusters.create(record(name, state=ProvisioningState.SUCCEEDED))
    except Exists:
        return


def verdict_of(name: str, given: dict[str, Any], now: datetime) -> ClusterVerdict:
    nodes = {
        _NODES[node]: NodeVerdict(_NODES[node], Health(state), "as-told", f"node {node} is {state}", now)
        for node, state in given.get("nodes", {}).items()
    }
    return ClusterVerdict(
        cluster=name,
        cluster_id=name,
        state=Health(given["state"]),
        rule=given.get("rule", "as-told"),
        sentence=f"{name} is {given['state']}",
        since=now,
        at=now,
        nodes=nodes,
        paused_by=tuple(given.get("pauses", ())),
    )


def delivery(event: Any, number: int) -> str:
    """The raw text of an event: `"vm pay-a deallocate @ -5"` is a short form; text in JSON goes as it is."""
    if not isinstance(event, str):
        return json.dumps(event)
    if event.startswith("{"):
        return event
    what, name, word, *when = event.split()
    at = (NOW + timedelta(seconds=float(when[-1]) if when else 0)).isoformat()
    cluster = name.rpartition("-")[0]
    group = f"/subscriptions/S/resourceGroups/mirrorplane-{cluster}/providers"
    base = {"specversion": "1.0", "id": f"e{number}", "source": "/subscriptions/S", "time": at}
    vm = f"{group}/Microsoft.Compute/virtualMachines/{name}"
    match what:
        case "vm" | "lb":
            kind = "Microsoft.Compute/virtualMachines" if what == "vm" else "Microsoft.Network/loadBalancers"
            verb = {"delete": "Delete", "write": "Write"}.get(word, "Action")
            operation = f"{kind}/{word}" + ("/action" if verb == "Action" else "")
            uri = vm if what == "vm" else f"{group}/Microsoft.Network/loadBalancers/{name}"
            data: dict[str, Any] = {"resourceUri": uri, "operationName": operation}
            return json.dumps(
                {**base, "type": f"Microsoft.Resources.Resource{verb}Success", "subject": uri, "data": data}
            )
        case "health" | "customer" | "platform":
            last = "AvailabilityStatusChanged" if what == "health" else "ResourceAnnotated"
            context = {"customer": "Customer Initiated", "platform": "Platform Initiated"}.get(what, "")
            properties = {"targetResourceId": vm, "availabilityState": word, "annotationName": word, "context": context}
            data = {"resourceInfo": {"properties": properties}}
            kind = f"Microsoft.ResourceNotifications.HealthResources.{last}"
            return json.dumps({**base, "type": kind, "subject": vm, "data": data})
        case "maintenance":
            properties = {"EventId": "m1", "EventType": "Reboot", "EventStatus": word, "NotBefore": ""}
            data = {"resourceInfo": {"id": vm, "properties": properties}}
            kind = "Microsoft.ResourceNotifications.MaintenanceResources.ScheduledEventEmitted"
            return json.dumps({**base, "type": kind, "subject": vm, "data": data})
        case "azure":
            essentials = {"alertId": "/alerts/1", "alertRule": "lb-dip", "severity": "Sev1", "monitorCondition": word}
            essentials |= {"firedDateTime": at, "resolvedDateTime": at, "alertTargetIDs": [vm.lower()]}  # type: ignore[dict-item]
            return json.dumps({"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": essentials}})
        case other:
            raise UnreadableScenario(f"an event cannot begin with {other!r}")


async def _alerts(world: World) -> list[str]:
    """`cluster-down pay/cluster: firing (opened)`, without the watchdog unless it changed."""
    alerts = [entry.value for entry in await world.app.plane.store.alerting.alerts.open()]
    silences = await world.app.plane.store.alerting.silences.all()
    pauses = {name: tuple(state.get("pauses", ())) for name, state in world.states.items()}
    muted = mutes(alerts, silences, pauses, world.storm, world.app.clock())
    lines = []
    for alert in sorted(alerts, key=lambda alert: (alert.cluster, alert.rule, alert.subject)):
        if alert.rule == "watchdog" and alert.step == "fired-at-once":
            continue
        mute = f", {muted[alert.key].rule}" if alert.key in muted and alert.state in ACTIVE else ""
        where = f"{alert.cluster}/{alert.subject}" if alert.cluster else alert.subject
        lines.append(f"{alert.rule} {where}: {alert.state.value} ({alert.step}{mute})")
    return lines


def _told(heard: list[Notice]) -> list[str]:
    lines = []
    for notice in sorted(heard, key=lambda notice: notice.id):
        if notice.group == "watchdog":
            continue
        shown = ", ".join(
            f"{alert.rule} {alert.cluster}/{alert.subject} {alert.state.value}" for alert in notice.alerts
        )
        lines.append(f"{notice.group} {notice.reason.value} [{notice.severity.value}]: {shown}")
    return lines
