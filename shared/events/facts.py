"""Facts for the audit out of what platform events said. Pure.

An event is a hint where to look and a reason to keep still; it is no proof that a node is up or down.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mirror_agent.contract import NodeName

from shared.health.facts import Fact, FactKind, Notice, ResourceHealthSeen, Trust
from shared.model.event_fact import EventFact, EventFactKind

SOURCE: Final = "event-grid"


def as_facts(found: Iterable[EventFact]) -> list[Fact]:
    """Facts of one cluster. Azure's resource health is always a fact; the others only while they are open."""
    facts: list[Fact] = []
    for entry in found:
        match entry.kind:
            case EventFactKind.RESOURCE_HEALTH:
                facts.append(_fact(entry, FactKind.RESOURCE_HEALTH, ResourceHealthSeen(entry.value)))
            case EventFactKind.RESOURCE | EventFactKind.ANNOTATION | EventFactKind.SCHEDULED_EVENT if entry.open:
                notice = Notice(entry.value, entry.event_id, entry.sentence, entry.customer_initiated)
                facts.append(_fact(entry, FactKind.NOTICE, notice))
            case _:
                continue  # alerts of Azure Monitor and conditions raised by ourselves are told, not judged
    return facts


def _fact(entry: EventFact, kind: FactKind, value: Notice | ResourceHealthSeen) -> Fact:
    return Fact(kind, _node(entry.node), SOURCE, entry.received_at, Trust.PLATFORM, value)


def _node(text: str | None) -> NodeName | None:
    match text:
        case "a":
            return "a"
        case "b":
            return "b"
        case _:
            return None
