"""An operation: the record of one wish (create, update, delete, an action) from acceptance to its end.

Guarantee: statuses only move forward (NotStarted, Running, then one of Succeeded, Failed, Canceled) and a finished
operation never changes again, whatever message arrives late or twice. Steps are ordered and built once by whoever
carries the operation out; per cent is derived from them, never stored beside them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, StringConstraints

from shared.model.document import Document

MAX_STEPS: Final = 64
MAX_MESSAGE_CHARS: Final = 2000


class OperationKind(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    ACTION = "action"
    UPGRADE = "upgrade"


class OperationStatus(StrEnum):
    NOT_STARTED = "NotStarted"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELED = "Canceled"


FINAL: Final = frozenset({OperationStatus.SUCCEEDED, OperationStatus.FAILED, OperationStatus.CANCELED})

Message = Annotated[str, StringConstraints(max_length=MAX_MESSAGE_CHARS)]


def shortened(text: str) -> str:
    """`text` cut to what a message may hold, so that a long ARM error never makes the record itself fail."""
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


class ErrorDetail(Document):
    """The error of an operation, in the shape of the HTTP API."""

    code: str
    message: str
    target: str | None = None
    details: tuple[ErrorDetail, ...] = ()


class Step(Document):
    """One line of an operation's progress. `name` is a stable word, `title` is for people."""

    name: str
    title: str = ""
    status: OperationStatus = OperationStatus.NOT_STARTED
    message: Message = ""
    updated_at: AwareDatetime | None = None


class Operation(Document):
    id: str
    kind: OperationKind
    cluster: str
    cluster_id: str
    generation: int
    status: OperationStatus = OperationStatus.NOT_STARTED
    action: str | None = None
    steps: Annotated[tuple[Step, ...], Field(max_length=MAX_STEPS)] = ()
    error: ErrorDetail | None = None
    requested_by: str = ""
    reason: str = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    finished_at: AwareDatetime | None = None

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def percent_complete(self) -> int:
        """Finished steps of all steps; 100 only when the operation itself has succeeded."""
        if self.status is OperationStatus.SUCCEEDED:
            return 100
        if not self.steps:
            return 0
        done = sum(1 for step in self.steps if step.status is OperationStatus.SUCCEEDED)
        half = sum(1 for step in self.steps if step.status is OperationStatus.RUNNING)
        return min(99, (200 * done + 100 * half) // (2 * len(self.steps)))


def with_steps(operation: Operation, steps: tuple[Step, ...], now: AwareDatetime) -> Operation:
    """The operation with its plan. Steps that are already there (same name) keep their progress."""
    _require_open(operation)
    known = {step.name: step for step in operation.steps}
    return operation.model_copy(
        update={
            "steps": tuple(known.get(step.name, step) for step in steps),
            "status": OperationStatus.RUNNING,
            "updated_at": now,
        }
    )


def with_step(operation: Operation, name: str, status: OperationStatus, message: str, now: AwareDatetime) -> Operation:
    """The operation with one step moved on; unchanged steps keep their time. Raises KeyError for an unknown step."""
    _require_open(operation)
    if name not in {step.name for step in operation.steps}:
        raise KeyError(f"operation {operation.id} has no step {name!r}")
    message = shortened(message)

    def moved(step: Step) -> Step:
        if step.name != name or (step.status is status and step.message == message):
            return step
        return step.model_copy(update={"status": status, "message": message, "updated_at": now})

    return operation.model_copy(
        update={
            "steps": tuple(moved(step) for step in operation.steps),
            "status": OperationStatus.RUNNING,
            "updated_at": now,
        }
    )


def finished(
    operation: Operation, status: OperationStatus, now: AwareDatetime, error: ErrorDetail | None = None
) -> Operation:
    """The operation at its end. Calling it again with another end is an error: the first end stands."""
    if status not in FINAL:
        raise ValueError(f"{status.value} is no end of an operation")
    _require_open(operation)
    return operation.model_copy(update={"status": status, "error": error, "updated_at": now, "finished_at": now})


def _require_open(operation: Operation) -> None:
    if operation.is_final:
        raise ValueError(f"operation {operation.id} has already ended as {operation.status.value}")
