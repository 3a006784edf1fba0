"""Clusters: created from a file, listed, shown, acted on, deleted."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mirrorplane_cli.operations import began
from mirrorplane_cli.outcome import ExitCode, Failed
from mirrorplane_cli.session import Session
from mirrorplane_cli.show import Column


def _serves(row: Mapping[str, Any]) -> Any:
    """The one node of a mirror, all of a farm."""
    return row.get("up") or row.get("serving")


def _nodes(row: Mapping[str, Any]) -> list[str]:
    return [f"{node} {seen['state']}" for node, seen in sorted(row.get("nodes", {}).items())]


LIST: Final[dict[str, Column]] = {
    "CLUSTER": "cluster",
    "VERDICT": "state",
    "SERVES": _serves,
    "NODES": _nodes,
    "SINCE": "since",
    "WHY": "sentence",
}
FACTS: Final = {
    "cluster": "cluster.name",
    "data": "safety.state",
    "": "safety.sentence",
    "exposed since": "safety.since",
    "virtual IP": "cluster.virtualIp.address",
    "verdict": "verdict.state",
    "why": "verdict.sentence",
    "resources": "cluster.provisioningState",
    "under way": "operation.id",
}
HISTORY: Final = {"AT": "at", "WHO": "kind", "WHAT": "title", "DETAIL": "detail", "RULE": "rule"}


def create(session: Session, given: Namespace) -> None:
    """PUT; with --update an existing cluster is changed, else it is an error."""
    body = read_cluster(given.file)
    headers = {} if given.update else {"If-None-Match": "*"}
    reply = session.api.send("PUT", f"clusters/{given.name}", body, headers=headers)
    began(session, reply.operation, given, f"cluster {given.name}")


def fleet(session: Session, given: Namespace) -> None:
    session.screen.rows(session.api.every("fleet", search=given.search, verdict=given.verdict, top="100"), LIST)


def show(session: Session, given: Namespace) -> None:
    document = session.api.get(f"clusters/{given.name}/overview")
    facts = dict(FACTS)
    for node in (entry["name"] for entry in document["cluster"]["nodes"]):
        facts |= {
            f"node {node}": f"reports.{node}.heartbeat.role",
            f"  {node} says": f"reports.{node}.heartbeat.sentence",
        }
    session.screen.facts(document, facts)


def upgrade(session: Session, given: Namespace) -> None:
    body: dict[str, Any] = {"reason": given.reason}
    if given.version:
        body["version"] = given.version
    reply = session.api.send("POST", f"clusters/{given.name}:upgrade", body)
    began(session, reply.operation, given, f"upgrade of cluster {given.name}")


def act(session: Session, given: Namespace) -> None:
    body: dict[str, Any] = {"reason": given.reason}
    if given.node:
        body["node"] = given.node
    reply = session.api.send("POST", f"clusters/{given.name}:{given.action}", body)
    began(session, reply.operation, given, f"{given.action} of cluster {given.name}")


def delete(session: Session, given: Namespace) -> None:
    """Wants the name twice: everything the cluster owns goes, its data included."""
    if given.confirm != given.name:
        raise Failed(
            ExitCode.USAGE,
            f"deleting takes both machines, their disks and all data; add --confirm {given.name} if that is meant",
        )
    headers = {"Mirrorplane-Reason": _header(given.reason)} if given.reason else {}
    reply = session.api.send("DELETE", f"clusters/{given.name}", headers=headers)
    began(session, reply.operation, given, f"deletion of cluster {given.name}")


def history(session: Session, given: Namespace) -> None:
    session.screen.rows(session.api.get(f"clusters/{given.name}/history")["value"], HISTORY)


def read_cluster(file: str) -> Any:
    """The cluster in a file, or on standard input."""
    text = sys.stdin.read() if file == "-" else _read(file)
    try:
        return json.loads(text)
    except ValueError as error:
        raise Failed(ExitCode.USAGE, f"{file} is no JSON: {error}") from None


def _header(text: str) -> str:
    """A header is ASCII; what is not is left out rather than refused."""
    return " ".join(text.encode("ascii", "ignore").decode().split())


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(ExitCode.USAGE, f"{file} cannot be read: {error}") from None
