"""The lines of a cluster's story: in words, who first, nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from shared.console.story import Kind, event_line, turn_line
from shared.model.audit import TurnKind, VerdictTurn
from shared.model.event import RecordedEvent
from tests.control_plane_samples import NOW


def event(kind: str, **data: Any) -> RecordedEvent:
    return RecordedEvent(
        id="1", source="/mirrorplane", type=kind, subject="clusters/pay", cluster="pay", data=data, received_at=NOW
    )


@pytest.mark.parametrize(
    ("given", "kind", "title"),
    [
        (event("Mirrorplane.Alert.Fired", rule="node-down"), Kind.ALERT, "Alert node-down fires"),
        (
            event("Mirrorplane.Alert.Acknowledged", rule="node-down", acknowledgedBy="ann"),
            Kind.ALERT,
            "Alert node-down is acknowledged by ann",
        ),
        (
            event("Mirrorplane.Alert.Resolved", rule="node-down", acknowledgedBy="ann"),
            Kind.ALERT,
            "Alert node-down is resolved",
        ),
        (
            event("Mirrorplane.Remediation.Action", step="agent-restart", node="b", status="sent"),
            Kind.REPAIR,
            "Repair: agent-restart of node b, sent",
        ),
        (event("Mirrorplane.Remediation.IncidentOpened", node="b"), Kind.REPAIR, "Repair: incident opened"),
        (event("Microsoft.Resources.ResourceWriteSuccess"), Kind.PLATFORM, "Microsoft.Resources.ResourceWriteSuccess"),
    ],
)
def test_events_in_words(given: RecordedEvent, kind: Kind, title: str) -> None:
    line = event_line(given)
    assert line is not None
    assert (line.kind, line.title) == (kind, title)


def test_a_notice_is_no_line_of_its_own() -> None:
    assert event_line(event("Mirrorplane.Alerts.Notice")) is None


def test_a_node_that_changes_only_its_epoch_stays() -> None:
    turn = VerdictTurn(
        cluster_id="c",
        cluster="pay",
        kind=TurnKind.ROLE,
        node="a",
        at=NOW,
        before="SECOND",
        after="SECOND",
        rule="in-sync",
        sentence="epoch 4",
    )
    assert turn_line(turn).title == "Node a: still SECOND"
