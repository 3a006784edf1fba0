"""Operations: shown, and waited for with a progress line."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Final

from mirrorplane_cli.outcome import ExitCode, Failed
from mirrorplane_cli.session import Session

POLL_S: Final = 1.0
FINAL: Final = ("Succeeded", "Failed", "Canceled")
FACTS: Final = {
    "operation": "id",
    "cluster": "cluster",
    "kind": "kind",
    "action": "action",
    "status": "status",
    "per cent": "percentComplete",
    "step": "step",
    "asked for by": "requestedBy",
    "error": "error.message",
}


def show(session: Session, given: Namespace) -> None:
    session.screen.facts(session.api.get(f"operations/{given.id}"), FACTS)


def wait(session: Session, given: Namespace) -> None:
    await_end(session, given.id, given.timeout)


def await_end(session: Session, operation_id: str, timeout_s: float) -> dict[str, Any]:
    """The ended operation. Raises Failed when it failed, or is still at work at the deadline; it goes on then."""
    limit_s = session.now_s() + timeout_s
    while True:
        operation: dict[str, Any] = session.api.get(f"operations/{operation_id}")
        name = operation.get("action") or operation["kind"]
        session.screen.progress(operation["percentComplete"], operation.get("step") or operation["status"])
        if operation["status"] in FINAL:
            break
        if session.now_s() >= limit_s:
            session.screen.progress_ends()
            raise Failed(
                ExitCode.TIMED_OUT,
                f"{name} is at {operation['percentComplete']} % after {timeout_s:g} s and goes on; "
                f"look again with: mirrorplane operation wait {operation_id}",
            )
        session.sleep(POLL_S)
    session.screen.progress_ends()
    if operation["status"] != "Succeeded":
        why = (operation.get("error") or {}).get("message", operation["status"])
        raise Failed(ExitCode.OPERATION_FAILED, f"{name} of cluster {operation['cluster']}: {why}")
    if session.screen.form == "json":
        session.screen.json(operation)
    else:
        session.screen.line(f"{name} of cluster {operation['cluster']}: {operation['status']}")
    return operation


def began(session: Session, operation_id: str | None, given: Namespace, what: str) -> None:
    """After a request that goes on in an operation: wait for it if that was asked for."""
    if operation_id is None:
        session.screen.line(f"{what}: nothing to do")
    elif given.wait:
        await_end(session, operation_id, given.timeout)
    elif session.screen.form == "json":
        session.screen.json({"operation": operation_id})
    else:
        session.screen.line(f"{what}: accepted, operation {operation_id}")
        session.screen.line(f"follow it with: mirrorplane operation wait {operation_id}")
