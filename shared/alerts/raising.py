"""How another part of the control plane asks for an alert that no verdict and no platform event can tell.

`raised` and `cleared` may be repeated at every tick; the fact they leave is the newest word, as with any event.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from shared.alerts.rules import ALERTS
from shared.api.plane import ControlPlane
from shared.events.interpret import SUMMARY_CHARS
from shared.model.event_fact import EventFact, EventFactKind

RAISABLE: Final = frozenset({"remediation-needs-a-person", "drift", "certificate-expires"})
assert set(ALERTS) >= RAISABLE


async def raise_alert(plane: ControlPlane, cluster: str, rule: str, subject: str, sentence: str, now: datetime) -> None:
    """From the next audit on the condition holds. Raises KeyError for a rule that may not be raised, Unavailable."""
    await _say(plane, cluster, rule, subject, sentence, True, now)


async def clear_alert(plane: ControlPlane, cluster: str, rule: str, subject: str, now: datetime) -> None:
    """The condition is away; nothing is written if it never held. Raises KeyError, Unavailable."""
    known = await plane.store.alerting.event_facts.of_cluster(cluster)
    name = f"{rule}/{subject}"
    if any(fact.open and fact.kind is EventFactKind.RAISED and fact.subject == name for fact in known):
        await _say(plane, cluster, rule, subject, "", False, now)


async def _say(
    plane: ControlPlane, cluster: str, rule: str, subject: str, sentence: str, holds: bool, now: datetime
) -> None:
    if rule not in RAISABLE:
        raise KeyError(f"{rule!r} may not be raised; known: {', '.join(sorted(RAISABLE))}")
    await plane.store.alerting.event_facts.merge(
        EventFact(
            cluster=cluster,
            kind=EventFactKind.RAISED,
            subject=f"{rule}/{subject}",
            value="raised" if holds else "cleared",
            open=holds,
            at=now,
            received_at=now,
            event_id="control-plane",
            sentence=sentence[:SUMMARY_CHARS],
        )
    )
