"""What remediation does, as events of the timeline (`GET /api/events`): each once, whoever writes it and how often.

The row in the store is the truth; an event is its announcement and may be missing after a crash between the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from shared.model.event import RecordedEvent
from shared.model.remediation import ActionRecord, RemediationRecord
from shared.remediation.rules import PEOPLE, sentence

SOURCE: Final = "/mirrorplane/remediation"
INCIDENT_OPENED: Final = "Mirrorplane.Remediation.IncidentOpened"
INCIDENT_CLOSED: Final = "Mirrorplane.Remediation.IncidentClosed"
ACTION: Final = "Mirrorplane.Remediation.Action"
PERSON_NEEDED: Final = "Mirrorplane.Remediation.PersonNeeded"
DRIFT: Final = "Mirrorplane.Drift"


def news(before: RemediationRecord, after: RemediationRecord, why: str, now: datetime) -> Iterator[RecordedEvent]:
    """The events that lie between two states of one record."""
    for node in sorted(after.nodes):
        old, new = before.ladder(node), after.ladder(node)
        if new.incident is not None and new.incident != old.incident:
            text = sentence("incident-opened", node=node, why=why)
            yield _event(INCIDENT_OPENED, f"{new.incident}-opened", after, now, node=node, sentence=text)
        if old.incident is not None and new.incident is None:
            healthy_s = (now - (new.healthy_since or now)).total_seconds()
            text = sentence("incident-closed", node=node, healthy_s=f"{healthy_s:.0f}")
            yield _event(INCIDENT_CLOSED, f"{old.incident}-closed", after, now, node=node, sentence=text)
    known = {(action.id, action.status, action.refusals) for action in before.actions}
    for action in after.actions:
        if (action.id, action.status, action.refusals) not in known:
            yield action_event(after, action, now)
    if after.rule in PEOPLE and after.rule != before.rule:
        identity = f"{after.cluster_id}-{after.rule}-{now.isoformat()}"
        yield _event(PERSON_NEEDED, identity, after, now, rule=after.rule, sentence=after.sentence)


def action_event(record: RemediationRecord, action: ActionRecord, now: datetime) -> RecordedEvent:
    identity = f"{action.id}-{action.status.value}-{action.refusals}"
    return _event(
        ACTION,
        identity,
        record,
        now,
        node=action.node,
        incident=action.incident,
        step=action.step.value,
        status=action.status.value,
        rule=action.rule,
        sentence=action.result or action.sentence,
    )


def drift_event(record: RemediationRecord, rule: str, text: str, identity: str, now: datetime) -> RecordedEvent:
    found = [deviation.model_dump(mode="json") for deviation in record.drift]
    return _event(DRIFT, identity, record, now, rule=rule, sentence=text, deviations=found)


def _event(kind: str, identity: str, record: RemediationRecord, now: datetime, **data: Any) -> RecordedEvent:
    return RecordedEvent(
        id=identity,
        source=SOURCE,
        type=kind,
        subject=f"clusters/{record.cluster}",
        time=now.isoformat(),
        cluster=record.cluster,
        data=data,
        received_at=now,
    )
