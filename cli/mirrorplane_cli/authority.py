"""The certificate authority of a cluster, and the wrapping of keys."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Final

from mirrorplane_cli.operations import began
from mirrorplane_cli.session import Session

FACTS: Final = {
    "issues": "issues.sha256",
    "valid until": "issues.notAfter",
    "trusted": "trusted",
    "rotation": "rotation.stage",
    "since": "rotation.since",
    "overlap until": "rotation.overlapUntil",
    "waiting for": "rotation.waitingFor",
    "asked for by": "rotation.requestedBy",
    "operation": "rotation.operationId",
}
REWRAPPED: Final = {
    "wrapped with the present key": "current",
    "wrapped anew": "rewrapped",
    "need the previous key still": "previousNeeded",
    "cannot be opened": "unreadable",
}


def rotate(session: Session, given: Namespace) -> None:
    """Asking again while a rotation is under way changes the end of its overlap, and nothing else."""
    body: dict[str, Any] = {"reason": given.reason}
    if given.overlap_hours is not None:
        body["overlapHours"] = given.overlap_hours
    reply = session.api.send("POST", f"clusters/{given.name}:rotate-ca", body)
    began(session, reply.operation, given, f"rotate-ca of cluster {given.name}")


def show(session: Session, given: Namespace) -> None:
    found = session.api.get(f"clusters/{given.name}/authority")
    if session.screen.form == "json":
        session.screen.json(found)
        return
    issuing: dict[str, Any] = next((one for one in found["authorities"] if one["issues"]), {})
    trusted = [one["sha256"][:16] for one in found["authorities"]]
    session.screen.facts({**found, "issues": issuing, "trusted": trusted}, FACTS)


def rewrap(session: Session, given: Namespace) -> None:
    session.screen.facts(session.api.send("POST", "keys:rewrap").body, REWRAPPED)
