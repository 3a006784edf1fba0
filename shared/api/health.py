"""The dead-man's switch: open to anybody, without detail, and 503 as soon as the watch itself is blind.

An audit that stopped cannot raise an alert about itself; something outside asks here (the platform's health check, an
Azure Monitor availability test) and hears 503 when no audit ended for three periods, or when storage does not answer.
A control plane that has just started is given the same time before it must have audited once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from shared.api.call import Answer, Call
from shared.api.plane import ControlPlane
from shared.health.limits import OBSERVER_GAP_S
from shared.store.ports import StoreError
from shared.structured_log import Log

_OK: Final[Mapping[str, str]] = {"status": "ok"}
_BLIND: Final[Mapping[str, str]] = {"status": "unavailable"}
log = Log("mirrorplane.health")


async def answer_health(plane: ControlPlane, caller: None, call: Call) -> Answer:
    headers = {"Cache-Control": "no-store"}
    try:
        found = await plane.store.audits.fleet()
    except StoreError as error:
        log.failure("health_unreadable", error)
        return Answer(503, _BLIND, headers)
    ended = None if found is None else found.value.ended_at
    fresh = is_fresh(ended, plane.clock(), plane.process_age_s())
    return Answer(200, _OK, headers) if fresh else Answer(503, _BLIND, headers)


def is_fresh(ended_at: datetime | None, now: datetime, process_age_s: float) -> bool:
    """A control plane that never audited is judged by the age of its process."""
    if ended_at is None:
        return process_age_s <= OBSERVER_GAP_S
    return (now - ended_at).total_seconds() <= OBSERVER_GAP_S
