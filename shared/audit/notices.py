"""What platform events of the last minutes say, as facts of the audit.

The handlers of Event Grid have recorded them; here the newest recorded ones are read once per audit, whatever the
number of clusters. An event is a hint where to look and a reason to keep still, never the only ground of a verdict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from mirror_agent.contract import ALL_NODES

from shared.api.plane import ControlPlane
from shared.events.facts import as_facts
from shared.events.interpret import Malformed, fact_of
from shared.health.facts import Fact, FactKind, Notice, ResourceHealthSeen, Trust
from shared.health.limits import NOTICE_FRESH_S
from shared.model.event import RecordedEvent
from shared.model.event_fact import EventFact, EventFactKind
from shared.store.ports import StoreError
from shared.structured_log import Log

MAX_EVENTS: Final = 500
SOURCE: Final = "event-grid"
log = Log("mirrorplane.audit")


async def fresh_notices(plane: ControlPlane, now: datetime) -> Mapping[str, tuple[Fact, ...]]:
    """By cluster name. Events that cannot be read cost the audit nothing but this source."""
    oldest = now - timedelta(seconds=NOTICE_FRESH_S)
    try:
        pages = [await plane.store.events.page(day, None, MAX_EVENTS) for day in sorted({now.date(), oldest.date()})]
    except StoreError as error:
        log.failure("collector_failed", error, collector="events")
        return {}
    found: dict[str, list[Fact]] = defaultdict(list)
    for event in (event for page in pages for event in page.items):
        if event.cluster is not None and not event.malformed and event.received_at >= oldest:
            fact = notice_of(event, now)
            if fact is not None:
                found[event.cluster].append(fact)
    for cluster, standing in (await _standing(plane, now)).items():
        found[cluster] += standing
    return {cluster: tuple(facts) for cluster, facts in found.items()}


async def _standing(plane: ControlPlane, now: datetime) -> Mapping[str, list[Fact]]:
    """What was said earlier and still stands: a person stopped the VM, maintenance is under way. Only clusters with
    something open cost a read."""
    store = plane.store.alerting.event_facts
    try:
        names = sorted({fact.cluster for fact in await store.open()})
        found = {name: as_facts(await store.of_cluster(name), now) for name in names}
    except StoreError as error:
        log.failure("collector_failed", error, collector="event-facts")
        return {}
    return {
        name: notices for name, facts in found.items() if (notices := [f for f in facts if f.kind is FactKind.NOTICE])
    }


def notice_of(event: RecordedEvent, now: datetime) -> Fact | None:
    """`observed_at` is our time of arrival, whatever time the event bears."""
    try:
        said = fact_of(event, now)
    except Malformed:
        return None  # the handler has put it aside with the reason
    if said is None:
        return None
    node = next((name for name in ALL_NODES if said.node == name), None)
    if said.kind is EventFactKind.RESOURCE_HEALTH:
        health = ResourceHealthSeen(said.value, said.customer_initiated, said.sentence)
        return Fact(FactKind.RESOURCE_HEALTH, node, SOURCE, event.received_at, Trust.PLATFORM, health)
    if not _explains(said):
        return None
    notice = Notice(said.kind.value, event.id, said.sentence, said.customer_initiated)
    return Fact(FactKind.NOTICE, node, SOURCE, event.received_at, Trust.PLATFORM, notice)


def _explains(said: EventFact) -> bool:
    """Whether it is a reason to keep still: a person did it, or the platform is about to act."""
    return said.customer_initiated or (said.open and said.kind is EventFactKind.SCHEDULED_EVENT)
