"""One tick of alerting: what was seen becomes alerts, and what changed becomes notices on their way.

Correct if skipped, doubled or killed anywhere. Every change is one conditional write of one row; of two auditors the
loser's change is dropped, because the winner saw the same. A notice is decided and stored in one write of its group's
row (see `notices`), and handed to the deliveries after it, again if a crash came between. Nothing is sent here.
Cost of a steady fleet: one query of open alerts, five short ones beside it, and a read per group that was ever told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from shared.alerts.conditions import CLUSTER, ClusterWork, Condition, Seen, condition, seen
from shared.alerts.lifecycle import absence, advanced, opened
from shared.alerts.limits import MAX_OPENED_PER_TICK, RESOLVED_SHOWN
from shared.alerts.message import change_event
from shared.alerts.mutes import Mute, mutes
from shared.alerts.notices import group_of, planned
from shared.api.plane import ControlPlane
from shared.events.facts import standing
from shared.health.verdict import ClusterVerdict, Fleet
from shared.model.alert import ACTIVE, FLEET, Alert, AlertState, DeadLetterKind, Delivery, Group
from shared.model.cluster import SETTLED, ClusterRecord, ProvisioningState
from shared.model.event_fact import EventFact
from shared.model.remediation import Tracked
from shared.remediation.rules import PEOPLE
from shared.store.ports import Changed, Exists, Versioned
from shared.structured_log import Log

T = TypeVar("T")
R = TypeVar("R")
AT_ONCE: Final = 16
FRESH_LETTER: Final = timedelta(hours=1)  # a dead letter holds its alert for so long
log = Log("mirrorplane.alerts")


async def advance_alerts(
    plane: ControlPlane, verdicts: Iterable[ClusterVerdict], now: datetime, fleet: Fleet | None = None
) -> dict[str, int]:
    """How many alerts were opened, changed and put away, and how many notices were made. Raises StoreError."""
    stored = await plane.store.alerting.alerts.open()
    looked = await _look(plane, list(verdicts), fleet, [entry.value for entry in stored], now)
    counts = {"opened": 0, "changed": 0, "removed": 0, "notices": 0}
    current = await _advance_all(plane, stored, looked, now, counts)
    silences = await plane.store.alerting.silences.all()
    muted = mutes([entry.value for entry in current], silences, looked.pauses, looked.storm, now)
    await _tell_all(plane, [entry.value for entry in current], muted, now, counts)
    await _put_away(plane, current, now, counts)
    if any(counts.values()):
        log.info("alerts", open=len(current), muted=len(muted), storm=looked.storm, **counts)
    return counts


async def _look(
    plane: ControlPlane, verdicts: Sequence[ClusterVerdict], fleet: Fleet | None, alerts: Sequence[Alert], now: datetime
) -> Seen:
    facts = await _standing_facts(plane, now)
    judged = {verdict.cluster for verdict in verdicts}
    asked = {fact.cluster for fact in facts} | {alert.cluster for alert in alerts} - judged
    names = sorted(asked - {FLEET})
    records = dict(zip(names, await _each(names, lambda name: _record(plane, name)), strict=True))
    gone = frozenset(name for name, record in records.items() if record is None or _is_ending(record))
    ours = [record for name, record in sorted(records.items()) if record is not None and name not in gone]
    work = {entry.name: found for entry, found in zip(ours, await _each(ours, _work_of(plane)), strict=True)}
    for name in sorted({fact.cluster for fact in facts if records[fact.cluster] is None}):
        await plane.store.alerting.event_facts.purge(name)  # of a deleted cluster, its own end included
    kept = [fact for fact in facts if fact.cluster not in gone]
    return seen(verdicts, fleet, kept, work, gone, await _own_conditions(plane, now))


async def _standing_facts(plane: ControlPlane, now: datetime) -> list[EventFact]:
    """The open facts that no later news about the same thing outdates."""
    names = sorted({fact.cluster for fact in await plane.store.alerting.event_facts.open()})
    found = await _each(names, plane.store.alerting.event_facts.of_cluster)
    return [fact for some in found for fact in standing(some, now) if fact.open]


async def _record(plane: ControlPlane, name: str) -> ClusterRecord | None:
    found = await plane.store.clusters.get(name)
    return None if found is None else found.value


def _is_ending(record: ClusterRecord) -> bool:
    return record.state is ProvisioningState.DELETING


def _work_of(plane: ControlPlane) -> Callable[[ClusterRecord], Coroutine[Any, Any, ClusterWork]]:
    """An update, an action or a repair may delete, write and stop VMs: that is our own doing."""

    async def read(record: ClusterRecord) -> ClusterWork:
        if record.state not in SETTLED or record.action is not None:
            return ClusterWork(record.created_at, True)
        found = await plane.store.remediations.get(record.id)
        return ClusterWork(record.created_at, found is not None and found.value.open_action is not None)

    return read


async def _own_conditions(plane: ControlPlane, now: datetime) -> list[Condition]:
    found: list[Condition] = []
    for kind, rule in ((DeadLetterKind.EVENT, "events-malformed"), (DeadLetterKind.DELIVERY, "delivery-failed")):
        page = await plane.store.alerting.dead_letters.page(kind, None, 1)
        if page.items and now - page.items[0].at < FRESH_LETTER:
            found.append(condition(FLEET, rule, "control-plane", f"the last one: {page.items[0].reason}"))
    return found + [
        entry for entry in await _each(await plane.store.remediations.tracked(), _needs_a_person(plane)) if entry
    ]


def _needs_a_person(plane: ControlPlane) -> Callable[[Tracked], Coroutine[Any, Any, Condition | None]]:
    """Only clusters with an open incident are tracked: a healthy fleet costs one query."""

    async def read(entry: Tracked) -> Condition | None:
        record = await plane.store.remediations.get(entry.cluster_id)
        if record is None or record.value.rule not in PEOPLE:
            return None
        return condition(entry.cluster, "remediation-needs-a-person", CLUSTER, record.value.sentence)

    return read


async def _advance_all(
    plane: ControlPlane, stored: Sequence[Versioned[Alert]], looked: Seen, now: datetime, counts: dict[str, int]
) -> list[Versioned[Alert]]:
    """The open alerts after this tick. One that another auditor changed meanwhile is left to that one."""

    async def advance(entry: Versioned[Alert]) -> Versioned[Alert] | None:
        found = looked.conditions.get(entry.value.key) or absence(entry.value, looked)
        step = advanced(entry.value, found, now)
        if step.alert is entry.value:
            return entry
        try:
            if step.alert is None:
                await plane.store.alerting.alerts.remove(entry.value, entry.etag)
                counts["removed"] += 1
                return None
            changed = await plane.store.alerting.alerts.replace(step.alert, entry.etag)
        except Changed:
            return entry  # as it was: what is told compares times, so an old state of an alert tells nothing new
        counts["changed"] += 1
        await _note(plane, step.rule, entry.value, changed.value, now)
        return changed

    async def open_new(found: Condition) -> Versioned[Alert] | None:
        try:
            made = await plane.store.alerting.alerts.create(opened(found, now))
        except Exists:
            return None
        counts["opened"] += 1
        await _note(plane, made.value.step, None, made.value, now)
        return made

    known = {entry.value.key for entry in stored}
    new = [found for key, found in sorted(looked.conditions.items()) if key not in known]
    new.sort(key=lambda found: found.cluster != FLEET)  # the storm's own alert is never among those that must wait
    if len(new) > MAX_OPENED_PER_TICK:
        log.warning("alerts_wait", new=len(new), limit=MAX_OPENED_PER_TICK)
    kept = await _each(stored, advance)
    made = await _each(new[:MAX_OPENED_PER_TICK], open_new)
    return [entry for entry in (*kept, *made) if entry is not None]


async def _note(plane: ControlPlane, rule: str, before: Alert | None, after: Alert, now: datetime) -> None:
    """Into the log and, where the state changed, into the timeline of events."""
    told = {"cluster": after.cluster or None, "rule": after.rule, "subject": after.subject, "state": after.state.value}
    log.info("alert", step=rule, severity=after.severity.value, sentence=after.sentence, **told)
    moved = before is None or (before.state, before.severity, before.incident) != (
        after.state,
        after.severity,
        after.incident,
    )
    event = change_event(after, now) if moved else None
    if event is not None:
        await plane.store.events.record(event)


async def _tell_all(
    plane: ControlPlane, alerts: Sequence[Alert], muted: Mapping[str, Mute], now: datetime, counts: dict[str, int]
) -> None:
    groups: dict[str, list[Alert]] = {}
    for alert in alerts:  # pending ones too: one may have replaced an incident whose end was not told yet
        groups.setdefault(group_of(alert), []).append(alert)
    in_storm = [alert for alert in alerts if alert.cluster != FLEET and alert.state in ACTIVE]

    async def tell(key: str) -> int:
        members = sorted(groups[key], key=lambda alert: alert.key)
        return await _tell(plane, key, members, muted, in_storm, now)

    counts["notices"] += sum(await _each(sorted(groups), tell))


async def _tell(
    plane: ControlPlane,
    key: str,
    members: Sequence[Alert],
    muted: Mapping[str, Mute],
    in_storm: Sequence[Alert],
    now: datetime,
) -> int:
    """How many notices were made: none or one."""
    store = plane.store.alerting
    found = await store.groups.get(key)
    before = Group(key=key) if found is None else found.value
    plan = planned(before, members, muted, now, in_storm=in_storm)
    try:
        if plan.group is not before:
            found = await store.groups.put(plan.group, None if found is None else found.etag)
        if found is not None and found.value.outbox is not None:
            await _hand_over(plane, found, now)
    except (Exists, Changed):
        return 0  # the other auditor told it
    if plan.notice is None:
        return 0
    log.info("notice", group=key, rule=plan.rule, id=plan.notice.id, alerts=len(plan.notice.alerts))
    return 1


async def _hand_over(plane: ControlPlane, found: Versioned[Group], now: datetime) -> None:
    notice = found.value.outbox
    if notice is None:
        return
    for channel in plane.courier.channels_for(notice):
        delivery = Delivery(id=notice.id, channel=channel, notice=notice, created_at=now, next_attempt_at=now)
        await plane.store.alerting.deliveries.add(delivery)
    await plane.store.alerting.groups.put(found.value.model_copy(update={"outbox": None}), found.etag)


async def _put_away(
    plane: ControlPlane, alerts: Sequence[Versioned[Alert]], now: datetime, counts: dict[str, int]
) -> None:
    async def put_away(entry: Versioned[Alert]) -> None:
        resolved_at = entry.value.resolved_at
        if entry.value.state is not AlertState.RESOLVED or resolved_at is None or now - resolved_at < RESOLVED_SHOWN:
            return
        try:
            await plane.store.alerting.alerts.remove(entry.value, entry.etag)
            counts["removed"] += 1
        except Changed:
            return  # a new incident, or the other auditor put it away

    await _each(alerts, put_away)


async def _each(items: Sequence[T], work: Callable[[T], Coroutine[Any, Any, R]]) -> list[R]:
    """The results in order; at most AT_ONCE at work."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> R:
        async with gate:
            return await work(item)

    return list(await asyncio.gather(*(one(item) for item in items)))
