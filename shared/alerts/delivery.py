"""Carrying notices out: every delivery that is due is claimed, tried once, and finished, put back or given up.

It runs on its own timer, so a slow receiver never holds up the audit. Of two ticks at once the one whose conditional
write claims a delivery sends it. At least once: a sender that dies between sending and recording leaves a claim that
runs out, and the notice goes out again under the same id. Limits: `MAX_SENT_PER_TICK`, `SENT_AT_ONCE`, 10 s each.
"""

from __future__ import annotations

import asyncio
import json

from shared.alerts.backoff import Again, Done, GivenUp, judged
from shared.alerts.limits import CLAIM, MAX_PENDING_READ, MAX_SENT_PER_TICK, SENT_AT_ONCE
from shared.alerts.message import cloud_event
from shared.api.plane import ControlPlane
from shared.model.alert import DeadLetter, DeadLetterKind, Delivery
from shared.store.ports import Changed, Versioned
from shared.structured_log import Log

KEPT_TEXT_CHARS = 2000
log = Log("mirrorplane.delivery")


async def deliver_due(plane: ControlPlane) -> dict[str, int]:
    """How many were sent, put back and given up. Raises Unavailable."""
    now = plane.clock()
    waiting = await plane.store.alerting.deliveries.waiting(MAX_PENDING_READ)
    due = [entry for entry in waiting if entry.value.next_attempt_at <= now]
    due.sort(key=lambda entry: (entry.value.next_attempt_at, entry.value.id))
    gate = asyncio.Semaphore(SENT_AT_ONCE)
    counts = {"sent": 0, "again": 0, "given-up": 0, "lost": 0}

    async def carry(entry: Versioned[Delivery]) -> None:
        async with gate:
            counts[await _carry(plane, entry)] += 1

    await asyncio.gather(*(carry(entry) for entry in due[:MAX_SENT_PER_TICK]))
    if due:
        log.info("deliveries", waiting=len(waiting), due=len(due), **counts)
    return counts


async def _carry(plane: ControlPlane, entry: Versioned[Delivery]) -> str:
    deliveries, now = plane.store.alerting.deliveries, plane.clock()
    attempt = {"attempts": entry.value.attempts + 1, "next_attempt_at": now + CLAIM}
    try:
        claimed = await deliveries.replace(entry.value.model_copy(update=attempt), entry.etag)
    except Changed:
        return "lost"  # another tick has it
    delivery = claimed.value
    outcome = await plane.courier.send(delivery.channel, delivery.notice)
    try:
        match judged(delivery, outcome, plane.clock()):
            case Done():
                await deliveries.finish(delivery, claimed.etag)
                return "sent"
            case Again(later):
                await deliveries.replace(later, claimed.etag)
                return "again"
            case GivenUp(reason):
                await _bury(plane, delivery, reason)
                await deliveries.finish(delivery, claimed.etag)
                return "given-up"
    except Changed:
        return "lost"  # the claim ran out while sending: the other sender's word counts


async def _bury(plane: ControlPlane, delivery: Delivery, reason: str) -> None:
    text = json.dumps(cloud_event(delivery.notice), ensure_ascii=False)[:KEPT_TEXT_CHARS]
    await plane.store.alerting.dead_letters.record(
        DeadLetter(
            id=f"{delivery.id}@{delivery.channel}",
            kind=DeadLetterKind.DELIVERY,
            at=plane.clock(),
            reason=f"{delivery.channel}: {reason}",
            text=text,
        )
    )
    log.warning("delivery_given_up", notice=delivery.id, channel=delivery.channel, reason=reason)
