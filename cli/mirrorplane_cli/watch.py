"""Alerts, events and the operators' journal."""

from __future__ import annotations

from argparse import Namespace
from itertools import islice
from typing import Any, Final

from mirrorplane_cli.session import Session

FOLLOW_S: Final = 3.0
NEWEST: Final = 50
ALERTS: Final = {
    "SEVERITY": "severity",
    "STATE": "state",
    "CLUSTER": "cluster",
    "RULE": "rule",
    "SUBJECT": "subject",
    "SINCE": "startedAt",
    "WHAT": "sentence",
    "ID": "id",
}
EVENTS: Final = {"AT": "receivedAt", "CLUSTER": "cluster", "TYPE": "type", "SUBJECT": "subject"}
STORY: Final = {"AT": "at", "WHO": "kind", "WHAT": "title", "DETAIL": "detail"}
JOURNAL: Final = {
    "AT": "at",
    "WHO": "principalName",
    "WHAT": "what",
    "TO": "target",
    "RESULT": "result",
    "WHY": "reason",
}


def alerts(session: Session, given: Namespace) -> None:
    session.screen.rows(session.api.every("alerts", cluster=given.cluster, state=given.state, top="100"), ALERTS)


def acknowledge(session: Session, given: Namespace) -> None:
    taken = session.api.send("POST", f"alerts/{given.id}:acknowledge", {"note": given.note}).body
    session.screen.facts(taken, {"alert": "rule", "cluster": "cluster", "state": "state", "by": "acknowledgedBy"})


def silence(session: Session, given: Namespace) -> None:
    body = {key: getattr(given, key) for key in ("cluster", "rule", "subject") if getattr(given, key)}
    body |= {"reason": given.reason, "until": given.until}
    made = session.api.send("POST", "silences", body).body
    session.screen.facts(made, {"silence": "id", "cluster": "cluster", "rule": "rule", "until": "until"})


def events(session: Session, given: Namespace) -> None:
    """Oldest first. With --cluster the story of that cluster, else what the platform said. Followed as JSON, each event
    is one line of its own."""
    columns = STORY if given.cluster else EVENTS
    shown = _newest(session, given)
    if given.follow and session.screen.form == "json":
        for row in shown:
            session.screen.json_line(row)
    else:
        session.screen.rows(shown, columns)
    seen = {_key(row) for row in shown}
    while given.follow:
        session.sleep(FOLLOW_S)
        fresh = [row for row in _newest(session, given) if _key(row) not in seen]
        for row in fresh:
            seen.add(_key(row))
            session.screen.json_line(row)
            words = [str(row.get(path)) for path in columns.values() if row.get(path)]
            session.screen.line("  ".join(words))


def journal(session: Session, given: Namespace) -> None:
    rows = session.api.every("journal", cluster=given.cluster, top="50", **{"from": given.since})
    session.screen.rows(islice(rows, given.limit), JOURNAL)


def _newest(session: Session, given: Namespace) -> list[dict[str, Any]]:
    path = f"clusters/{given.cluster}/history" if given.cluster else "events"
    query: dict[str, str | None] = {} if given.cluster else {"top": str(NEWEST)}
    found: list[dict[str, Any]] = session.api.get(path, **query)["value"][:NEWEST]
    return found[::-1]


def _key(row: dict[str, Any]) -> str:
    return f"{row.get('id', '')}{row.get('at', '')}{row.get('title', '')}"
