"""Facts for the audit out of what platform events said. Pure.

What a person or the platform is known to be doing is a reason to keep still for as long as it stands, not only for the
minutes after it was said: a machine somebody stopped in the evening must not be started again at night. An event is no
proof that a node is up or down.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from mirror_agent.contract import ALL_NODES, NodeName

from shared.health.facts import Fact, FactKind, Notice, ResourceHealthSeen, Trust
from shared.model.event_fact import EventFact, EventFactKind

SOURCE: Final = "event-grid"
# Azure gives notice of 15 minutes at most and is done within the hour; the event of the end is a preview feature.
MAINTENANCE_ENDS_AFTER: Final = timedelta(hours=24)


def standing(found: Iterable[EventFact], now: datetime) -> list[EventFact]:
    """Without the words that something stopped a VM which later news about the same VM outdates (it was started again,
    was deleted, or Azure reports it as available), and without announced maintenance whose end was never announced.
    `found`: of one cluster, all facts, open or not."""
    facts = list(found)
    return [
        fact
        for fact in facts
        if not (_says_stopped(fact) and any(_outdates(other, fact) for other in facts)) and not _expired(fact, now)
    ]


def _expired(fact: EventFact, now: datetime) -> bool:
    return fact.kind is EventFactKind.SCHEDULED_EVENT and now - fact.received_at > MAINTENANCE_ENDS_AFTER


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
    for entry in standing(found, now):
        match entry.kind:
            case EventFactKind.RESOURCE_HEALTH:
                facts.append(_fact(entry, FactKind.RESOURCE_HEALTH, ResourceHealthSeen(entry.value), entry.received_at))
            case EventFactKind.ANNOTATION | EventFactKind.SCHEDULED_EVENT if entry.open:
                notice = Notice(entry.kind.value, entry.event_id, entry.sentence, entry.customer_initiated)
                facts.append(_fact(entry, FactKind.NOTICE, notice, now))
            case _:
                continue  # changes by strangers, Azure's alerts and conditions raised by ourselves are told, not judged
    return facts


def _fact(entry: EventFact, kind: FactKind, value: Notice | ResourceHealthSeen, at: datetime) -> Fact:
    return Fact(kind, _node(entry.node), SOURCE, at, Trust.PLATFORM, value)


def _node(text: str | None) -> NodeName | None:
    return next((node for node in ALL_NODES if node == text), None)
