"""Two lines of the history for an order: before it begins, and what came of it, also when it crashed.

An agent that dies in between leaves the first line alone; the outbox of orders then says that the outcome is unknown.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from mirror_agent.eventlog import EventLog
from mirror_agent.web.actions import RequestOutcome

BEGUN: Final = "command.begun"
ENDED: Final = "command.ended"


@dataclass
class Order:
    """`outcome` is set by who carries it out."""

    outcome: RequestOutcome


@asynccontextmanager
async def noted(log: EventLog, action: str, who: str, principal: str, why: str) -> AsyncIterator[Order]:
    """The second line is the one that tells it all: who, why, what came of it."""
    told: dict[str, object] = {"order": secrets.token_hex(8), "action": action, "who": who, "principal": principal}
    told["why"] = why
    order = Order(RequestOutcome("failed", "it ended without an outcome"))
    log.record_decision(BEGUN, **told)
    try:
        yield order
    except Exception as error:
        log.record_decision(ENDED, **told, status="failed", message=f"{type(error).__name__}: {error}")
        raise
    log.record_decision(ENDED, **told, status=order.outcome.status, message=order.outcome.message)
