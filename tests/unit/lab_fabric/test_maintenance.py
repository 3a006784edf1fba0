"""Maintenance of a lab VM: announced, begun by approval or in its time, carried out, over."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from lab.control import CommandRefused
from lab.eventgrid.model import Schema
from lab.eventgrid.platform import maintenance_notice
from lab.imds import ScheduledEvents
from lab.maintenance import Maintenance
from shared.api.events import read_event
from shared.events.interpret import fact_of
from tests.agent_samples import eventually

VM = "/subscriptions/s/resourceGroups/mirrorplane-demo/providers/Microsoft.Compute/virtualMachines/demo-a"
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


@dataclass
class Machine:
    """What was done to it; `gate` holds a restart up."""

    done: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def vm_id(self, node: str) -> tuple[str, str]:
        if node != "demo/a":
            raise CommandRefused(f"no VM {node!r}")
        return VM, "demo-a"

    async def freeze(self, node: str) -> dict[str, Any]:
        return self._did("freeze")

    async def thaw(self, node: str) -> dict[str, Any]:
        return self._did("thaw")

    async def restart(self, node: str) -> dict[str, Any]:
        await self.gate.wait()
        return self._did("restart")

    async def shut_down(self, node: str) -> dict[str, Any]:
        return self._did("shut down")

    def _did(self, what: str) -> dict[str, Any]:
        self.done.append(what)
        return {}


@dataclass
class Told:
    """Event Grid's side: each turn is read as the control plane reads it."""

    facts: list[tuple[str | None, str, bool]] = field(default_factory=list)

    def __call__(self, vm_id: str, event: dict[str, Any], status: str) -> None:
        text = json.dumps(maintenance_notice("s", vm_id, event, status).render(Schema.EVENT_GRID))
        fact = fact_of(read_event(text, NOW), NOW)
        assert fact is not None
        self.facts.append((fact.node, fact.value, fact.open))


def shown(events: ScheduledEvents) -> list[tuple[str, str]]:
    return [(event["EventType"], event["EventStatus"]) for event in events.document(VM)["Events"]]


async def test_it_begins_with_the_approval_and_disappears_when_it_is_over() -> None:
    events, machine, told = ScheduledEvents(), Machine(), Told()
    maintenance = Maintenance(events, machine, told)
    said = await maintenance.announce("demo/a", "reboot")
    assert said["Resources"] == ["demo-a"]
    assert shown(events) == [("Reboot", "Scheduled")]
    events.approve(VM, [said["EventId"]])
    assert shown(events) == [("Reboot", "Started")]
    machine.gate.set()
    await eventually(lambda: shown(events) == [], "it is over")
    assert machine.done == ["restart"]
    assert told.facts == [
        ("a", "Reboot:Scheduled", True),
        ("a", "Reboot:Started", True),
        ("a", "Reboot:Completed", False),
    ]
    await maintenance.close()


@pytest.mark.parametrize(
    ("kind", "done"), [("Freeze", ["freeze", "thaw"]), ("Preempt", ["shut down"]), ("Terminate", ["shut down"])]
)
async def test_unapproved_it_begins_in_its_time(kind: str, done: list[str]) -> None:
    events, machine = ScheduledEvents(), Machine()
    maintenance = Maintenance(events, machine, Told())
    await maintenance.announce("demo/a", kind, notice_s=0.0, duration_s=0.0)
    await eventually(lambda: shown(events) == [], "it is over")
    assert machine.done == done
    await maintenance.close()


async def test_an_unknown_type_is_refused_with_the_nearest() -> None:
    maintenance = Maintenance(ScheduledEvents(), Machine(), Told())
    with pytest.raises(CommandRefused, match="did you mean 'Reboot'"):
        await maintenance.announce("demo/a", "Rebot")
    with pytest.raises(CommandRefused, match="no VM"):
        await maintenance.announce("demo/c", "Reboot")


async def test_what_was_announced_is_dropped_at_the_end_of_the_lab() -> None:
    events, machine = ScheduledEvents(), Machine()
    maintenance = Maintenance(events, machine, Told())
    await maintenance.announce("demo/a", "Redeploy")
    await maintenance.close()
    assert machine.done == []
