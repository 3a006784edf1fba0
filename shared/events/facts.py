"""Facts for the audit out of what platform events said. Pure.

An event is a hint where to look and a reason to keep still; it is no proof that a node is up or down.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from mirror_agent.contract import NodeName

from shared.health.facts import Fact, FactKind, Notice, ResourceHealthSeen, Trust
from shared.model.event_fact import EventFact, EventFactKind

SOURCE: Final = "event-grid"


def standing(found: Iterable[EventFact]) -> list[EventFact]:
    """Without the words that something stopped a VM which later news about the same VM outdates: it was started again,
    was deleted, or Azure reports it as available. Of one cluster, all facts, open or not."""
    facts = list(found)
    return [fact for fact in facts if not (_says_stopped(fact) and any(_outdates(other, fact) for other in facts))]


def _says_stopped(fact: EventFact) -> bool:
    power = fact.kind is EventFactKind.RESOURCE and fact.subject.startswith("power/")
    return fact.open and (power or fact.kind is EventFactKind.ANNOTATION)


def _outdates(news: EventFact, fact: EventFact) -> bool:
    if news.resource != fact.resource or news.at <= fact.at:
        return False
    started = {"start", "restart", "redeploy", "delete"}
    available = news.kind is EventFactKind.RESOURCE_HEALTH and news.value == "Available"
    return available or (news.kind is EventFactKind.RESOURCE and news.value in started)


def as_facts(found: Iterable[EventFact], now: datetime) -> list[Fact]:
    """Facts of one cluster, from all that is kept of it. What is open stands at `now`, when the control plane looks,
    however long ago it was said; Azure's resource health is as old as its arrival."""
    facts: list[Fact] = []
    for entry in standing(found):
        match entry.kind:
            case EventFactKind.RESOURCE_HEALTH:
                facts.append(_fact(entry, FactKind.RESOURCE_HEALTH, ResourceHealthSeen(entry.value), entry.received_at))
            case EventFactKind.RESOURCE | EventFactKind.ANNOTATION | EventFactKind.SCHEDULED_EVENT if entry.open:
                notice = Notice(entry.value, entry.event_id, entry.sentence, entry.customer_initiated)
                facts.append(_fact(entry, FactKind.NOTICE, notice, now))
            case _:
                continue  # alerts of Azure Monitor and conditions raised by ourselves are told, not judged
    return facts


def _fact(entry: EventFact, kind: FactKind, value: Notice | ResourceHealthSeen, at: datetime) -> Fact:
    return Fact(kind, _node(entry.node), SOURCE, at, Trust.PLATFORM, value)


def _node(text: str | None) -> NodeName | None:
    match text:
        case "a":
            return "a"
        case "b":
            return "b"
        case _:
            return None
