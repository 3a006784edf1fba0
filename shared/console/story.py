"""A line of a cluster's story from each kind of record. Pure.

What a reader wants first is who or what it was and what changed; the sentence and the named rule follow.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from mirror_agent.contract import ALL_NODES, NodeName
from pydantic import AwareDatetime

from shared.model.audit import TurnKind, VerdictTurn
from shared.model.document import ApiModel
from shared.model.event import RecordedEvent
from shared.model.journal import LOST, JournalEntry


class Kind(StrEnum):
    ROLE = "role"
    VERDICT = "verdict"
    OPERATOR = "operator"
    ALERT = "alert"
    REPAIR = "repair"
    PLATFORM = "platform"


class HistoryLine(ApiModel):
    """`title` says it in a few words, `detail` in a sentence; `rule` is the named rule that decided, if one did."""

    at: AwareDatetime
    kind: Kind
    title: str
    detail: str = ""
    node: NodeName | None = None
    rule: str | None = None
    who: str | None = None


_ENDPOINTS: Final = {
    "cluster_put": "create or change",
    "cluster_delete": "delete",
    "credential_create": "offer access to the nodes",
    "credential_delete": "revoke access to the nodes",
    "credential_redeem": "download access to the nodes",
}
_ENDS: Final = {"refused": ", refused", "failed": ", failed", "unknown": ", outcome unknown", LOST: ""}
_REPAIRS: Final = {
    "Mirrorplane.Remediation.IncidentOpened": "Repair: incident opened",
    "Mirrorplane.Remediation.IncidentClosed": "Repair: incident closed",
    "Mirrorplane.Remediation.PersonNeeded": "Repair: a person is needed",
    "Mirrorplane.Drift": "Repair: resources differ from what was asked for",
}
_ALERTS: Final = {
    "Mirrorplane.Alert.Fired": "fires",
    "Mirrorplane.Alert.Acknowledged": "is acknowledged",
    "Mirrorplane.Alert.Resolved": "is resolved",
}
# That somebody was told of alerts; the alerts themselves are in the story.
_NOTICE: Final = "Mirrorplane.Alerts.Notice"


def turn_line(turn: VerdictTurn) -> HistoryLine:
    kind = Kind.ROLE if turn.kind is TurnKind.ROLE else Kind.VERDICT
    return HistoryLine(at=turn.at, kind=kind, title=_turn(turn), detail=turn.sentence, node=turn.node, rule=turn.rule)


def _turn(turn: VerdictTurn) -> str:
    if turn.kind is TurnKind.ROLE:
        if turn.before == turn.after:
            return f"Node {turn.node}: still {turn.after}"
        return f"Node {turn.node}: {turn.before or 'start'} → {turn.after}"
    what = "Cluster" if turn.node is None else f"Node {turn.node}"
    return f"{what} is {turn.after}" + (f", was {turn.before}" if turn.before else "")


def operator_line(entry: JournalEntry) -> HistoryLine:
    name, _, action = entry.what.partition(":")
    word = action or _ENDPOINTS.get(name, name)
    where = "" if entry.node is None else f" on node {entry.node}"
    detail = f"{entry.reason} ({entry.message})" if entry.reason and entry.message else entry.reason or entry.message
    return HistoryLine(
        at=entry.at,
        kind=Kind.OPERATOR,
        title=f"{entry.principal_name}: {word}{where}{_end(entry)}",
        detail=detail,
        node=entry.node,
        who=entry.principal,
    )


def _end(entry: JournalEntry) -> str:
    if entry.status < 400:
        return ""
    return _ENDS.get(entry.result, f", refused ({entry.result})")


def event_line(event: RecordedEvent) -> HistoryLine | None:
    """None for what the story tells otherwise."""
    data = event.data
    if event.type == _NOTICE:
        return None
    if event.type in _ALERTS:
        who = data.get("acknowledgedBy")
        by = f" by {who}" if who and event.type == "Mirrorplane.Alert.Acknowledged" else ""
        title = f"Alert {_word(data, 'rule')} {_ALERTS[event.type]}{by}"
        return _line(event, Kind.ALERT, title, who=who if by else None)
    if event.type == "Mirrorplane.Remediation.Action":
        return _line(
            event, Kind.REPAIR, f"Repair: {_word(data, 'step')} of node {_word(data, 'node')}, {_word(data, 'status')}"
        )
    if event.type in _REPAIRS:
        return _line(event, Kind.REPAIR, _REPAIRS[event.type])
    return HistoryLine(at=event.received_at, kind=Kind.PLATFORM, title=event.type, detail=event.reason or event.subject)


def _line(event: RecordedEvent, kind: Kind, title: str, who: str | None = None) -> HistoryLine:
    node = next((name for name in ALL_NODES if name == event.data.get("node")), None)
    rule = event.data.get("rule") if kind is Kind.REPAIR else None
    detail = _word(event.data, "sentence")
    return HistoryLine(at=event.received_at, kind=kind, title=title, detail=detail, node=node, rule=rule, who=who)


def _word(data: dict[str, Any], name: str) -> str:
    return str(data.get(name) or "")
