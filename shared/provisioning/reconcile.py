"""One idempotent step per queue message: load, work, write down, say when to come again.

Guarantees
- Killed at any point, delivered twice, delivered late: the next tick reads the record and Azure and goes on. Nothing
  in memory matters; what is written is written conditionally, and the record (the truth) before the operation's row.
- An operation ends in every case: succeeded, failed with the code and message of ARM (or of ours) within the budget, or
  cancelled because a later request has replaced it. A finished operation is never touched again.
- The operation shows success only after the record does, so a client that polls the operation never reads an older
  state of the cluster afterwards.
Limits: a tick makes short calls only and never waits; the pause between ticks is the queue's (whole seconds).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from shared.model.cluster import SETTLED, ClusterRecord, ProvisioningState, settled
from shared.model.operation import (
    ErrorDetail,
    Operation,
    OperationKind,
    OperationStatus,
    finished,
    shortened,
    with_step,
    with_steps,
)
from shared.provisioning.build import build, steps_of
from shared.provisioning.context import Context
from shared.provisioning.images import ImageError
from shared.provisioning.notebook import Notebook
from shared.provisioning.progress import Broken, Complete, Progress, Working, plan_steps
from shared.provisioning.resource_work import gave_up
from shared.provisioning.teardown import DELETE_STEPS, teardown
from shared.rollout.tick import upgrade, upgrade_steps
from shared.store.ports import Changed, Exists, ReconcileMessage, Versioned
from shared.structured_log import Log

_log = Log("mirrorplane.provisioning")

_CONTENDED_S: Final = 1.0
_EARLY_S: Final = 0.5


class TickOutcome(StrEnum):
    AGAIN = "again"
    FINISHED = "finished"
    NOT_MINE = "not-mine"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Tick:
    """`delay_s`: when the message should come again; None: not at all."""

    outcome: TickOutcome
    delay_s: float | None = None


_FINISHED: Final = Tick(TickOutcome.FINISHED)


async def handle(context: Context, message: ReconcileMessage) -> Tick:
    """A tick, and the next message if one is needed. Raises StoreError: then the queue delivers the message again."""
    result = await tick(context, message)
    if result.delay_s is not None:
        await context.store.queue.enqueue(message, result.delay_s)
    return result


async def tick(context: Context, message: ReconcileMessage) -> Tick:
    """One step of the operation. Raises StoreError."""
    try:
        return await _tick(context, message)
    except Changed:
        # Another instance, or a request, wrote meanwhile. Its writes count; look again.
        return Tick(TickOutcome.AGAIN, _CONTENDED_S)


async def abandon(context: Context, message: ReconcileMessage) -> None:
    """The message has failed so often that the queue gave it up: the operation fails, visibly. Raises StoreError."""
    error = ErrorDetail(
        code="ReconcileAbandoned",
        message="every attempt to work on this operation ended in an internal error; see the log of the function "
        "app, then send the request again",
    )
    stored = await context.store.operations.get(message.operation_id)
    if stored is None or stored.value.is_final:
        return
    cluster = await context.store.clusters.get(message.cluster)
    now = context.clock()
    _log.warning("operation_abandoned", operation=message.operation_id, cluster=message.cluster)
    if cluster is not None and cluster.value.operation.id == message.operation_id:
        await _settle(context, cluster, ProvisioningState.FAILED, now, error)
    await context.store.operations.replace(finished(stored.value, OperationStatus.FAILED, now, error), stored.etag)


async def _tick(context: Context, message: ReconcileMessage) -> Tick:
    now = context.clock()
    cluster = await context.store.clusters.get(message.cluster)
    operation = await context.store.operations.get(message.operation_id)
    if operation is None:
        if cluster is None or cluster.value.operation.id != message.operation_id:
            _log.warning("operation_unknown", operation=message.operation_id, cluster=message.cluster)
            return Tick(TickOutcome.NOT_MINE)
        operation = await _recreate(context, cluster.value)
    if operation.value.kind is OperationKind.ACTION:
        return Tick(TickOutcome.NOT_MINE)
    if operation.value.is_final:
        return await _after_the_end(context, cluster, operation.value, now)
    gone = await _without_record(context, cluster, operation, now)
    if gone is not None:
        return gone
    assert cluster is not None  # _without_record has answered that
    if cluster.value.state in SETTLED:
        return await _finish_like_record(context, cluster.value, operation, now)
    return await _work(context, cluster, operation, now)


async def _work(
    context: Context, cluster: Versioned[ClusterRecord], operation: Versioned[Operation], now: datetime
) -> Tick:
    record = cluster.value
    notebook = Notebook.read(record.resources.facts, operation.value.id)
    early_s = 0.0 if notebook.due is None else (notebook.due - now).total_seconds()
    if early_s > _EARLY_S:
        # A second delivery: the message of the tick that is due is on its way, and were it lost, the repair of
        # untouched operations would send a new one. Going on here would make two chains of messages for ever.
        return Tick(TickOutcome.DUPLICATE)
    deleting = operation.value.kind is OperationKind.DELETE
    names = _names(operation.value.kind, record)
    current = with_steps(operation.value, plan_steps(names), now)
    progress = await _progress(context, record, notebook, now, operation.value.kind)
    # A rollout has limits of its own, and ends by them with the reason.
    if isinstance(progress.state, Working) and progress.rollout is None and _over(context, operation.value, now):
        progress = replace(progress, state=Broken(gave_up(progress.notebook, context.limits, _waiting(current))))
    for name, news in progress.steps.items():
        current = with_step(current, name, news.status, news.message, now)
    match progress.state:
        case Working(delay_s):
            due = now + timedelta(seconds=delay_s)
            _log.info(
                "tick", operation=current.id, cluster=record.name, percent=current.percent_complete, delay_s=delay_s
            )
            await _save(context, cluster, progress, replace(progress.notebook, due=due), now)
            await context.store.operations.replace(current, operation.etag)
            return Tick(TickOutcome.AGAIN, delay_s)
        case Complete():
            _log.info("operation_succeeded", operation=current.id, cluster=record.name)
            await _end_well(context, cluster, progress, now, deleting=deleting)
            await context.store.operations.replace(finished(current, OperationStatus.SUCCEEDED, now), operation.etag)
        case Broken(error):
            error = error.model_copy(update={"message": shortened(error.message)})
            current = _with_failed_step(current, error, now)
            kept = replace(cluster, value=_with(record, progress, progress.notebook))
            await _settle(context, kept, ProvisioningState.FAILED, now, error)
            await context.store.operations.replace(
                finished(current, OperationStatus.FAILED, now, error), operation.etag
            )
            _log.warning(
                "operation_failed", operation=current.id, cluster=record.name, code=error.code, error=error.message
            )
    return _FINISHED


def _names(kind: OperationKind, record: ClusterRecord) -> tuple[str, ...]:
    match kind:
        case OperationKind.DELETE:
            return DELETE_STEPS
        case OperationKind.UPGRADE:
            return upgrade_steps(record)
        case _:
            return steps_of(record)


async def _progress(
    context: Context, record: ClusterRecord, notebook: Notebook, now: datetime, kind: OperationKind
) -> Progress:
    if kind is OperationKind.DELETE:
        return await teardown(context, record, notebook, now)
    if kind is OperationKind.UPGRADE:
        return await upgrade(context, record, notebook, now)
    try:
        return await build(context, record, notebook, now)
    except ImageError as error:
        detail = ErrorDetail(code=error.code, message=str(error), target="compute.image")
        return Progress(notebook, record.resources, Broken(detail))


async def _recreate(context: Context, record: ClusterRecord) -> Versioned[Operation]:
    """The row of an operation whose writer was stopped between the record and the row."""
    reference = record.operation
    operation = Operation(
        id=reference.id,
        kind=reference.kind,
        cluster=record.name,
        cluster_id=record.id,
        generation=reference.generation,
        requested_by=reference.requested_by,
        reason=reference.reason,
        created_at=reference.requested_at,
        updated_at=reference.requested_at,
    )
    try:
        return await context.store.operations.create(operation)
    except Exists:
        raise Changed(f"operation {operation.id} was written meanwhile") from None


async def _without_record(
    context: Context, cluster: Versioned[ClusterRecord] | None, operation: Versioned[Operation], now: datetime
) -> Tick | None:
    """The end of an operation whose cluster is gone or has moved on; None if the operation is the current one."""
    wanted = operation.value
    if cluster is not None and cluster.value.id == wanted.cluster_id and cluster.value.operation.id == wanted.id:
        return None
    if wanted.kind is OperationKind.DELETE and (cluster is None or cluster.value.id != wanted.cluster_id):
        steps = [step.name for step in wanted.steps]
        for name in steps:
            wanted = with_step(wanted, name, OperationStatus.SUCCEEDED, "removed", now)
        end = finished(wanted, OperationStatus.SUCCEEDED, now)
    elif cluster is None or cluster.value.id != wanted.cluster_id:
        error = ErrorDetail(code="ClusterNotFound", message=f"cluster {wanted.cluster!r} no longer exists")
        end = finished(wanted, OperationStatus.CANCELED, now, error)
    else:
        later = cluster.value.operation
        error = ErrorDetail(code="OperationSuperseded", message=f"replaced by operation {later.id} ({later.kind})")
        end = finished(wanted, OperationStatus.CANCELED, now, error)
    await context.store.operations.replace(end, operation.etag)
    return _FINISHED


async def _after_the_end(
    context: Context, cluster: Versioned[ClusterRecord] | None, operation: Operation, now: datetime
) -> Tick:
    """Also settles a record that is still open although its operation has ended, whoever ended it."""
    if (
        cluster is not None
        and cluster.value.operation.id == operation.id
        and cluster.value.state not in SETTLED
        and operation.kind is not OperationKind.DELETE
    ):
        well = operation.status is OperationStatus.SUCCEEDED
        state = ProvisioningState.SUCCEEDED if well else ProvisioningState.FAILED
        await _settle(context, cluster, state, now, operation.error)
    return _FINISHED


async def _finish_like_record(
    context: Context, record: ClusterRecord, operation: Versioned[Operation], now: datetime
) -> Tick:
    """Killed between settling the record and ending the operation."""
    current = operation.value
    if record.state is ProvisioningState.SUCCEEDED:
        for step in current.steps:
            current = with_step(current, step.name, OperationStatus.SUCCEEDED, step.message, now)
        end = finished(current, OperationStatus.SUCCEEDED, now)
    else:
        noted = Notebook.read(record.resources.facts, current.id).error
        error = (
            ErrorDetail(code="ProvisioningFailed", message="the cluster is in state Failed")
            if noted is None
            else ErrorDetail.model_validate_json(noted)
        )
        end = finished(_with_failed_step(current, error, now), OperationStatus.FAILED, now, error)
    await context.store.operations.replace(end, operation.etag)
    return _FINISHED


async def _end_well(
    context: Context, cluster: Versioned[ClusterRecord], progress: Progress, now: datetime, *, deleting: bool
) -> None:
    if deleting:
        await context.store.clusters.delete(cluster.value, cluster.etag)
        return
    notebook = Notebook(progress.notebook.operation_id, witness_ready=progress.notebook.witness_ready)
    kept = replace(cluster, value=_with(cluster.value, progress, notebook))
    await _settle(context, kept, ProvisioningState.SUCCEEDED, now, None)


async def _settle(
    context: Context,
    cluster: Versioned[ClusterRecord],
    state: ProvisioningState,
    now: datetime,
    error: ErrorDetail | None,
) -> None:
    record = cluster.value
    if error is not None:
        notebook = Notebook.read(record.resources.facts, record.operation.id)
        notebook = replace(notebook, error=error.model_dump_json(by_alias=True))
        resources = record.resources.model_copy(update={"facts": notebook.facts()})
        record = record.model_copy(update={"resources": resources})
    # Whatever ended the operation, no node has a turn any more.
    ended = settled(record.model_copy(update={"rollout": None}), state, now)
    await context.store.clusters.replace(ended, cluster.etag)


async def _save(
    context: Context, cluster: Versioned[ClusterRecord], progress: Progress, notebook: Notebook, now: datetime
) -> None:
    record = _with(cluster.value, progress, notebook).model_copy(update={"updated_at": now})
    await context.store.clusters.replace(record, cluster.etag)


def _with(record: ClusterRecord, progress: Progress, notebook: Notebook) -> ClusterRecord:
    resources = progress.observed.model_copy(update={"facts": notebook.facts()})
    return record.model_copy(update={"resources": resources, "rollout": progress.rollout})


def _with_failed_step(operation: Operation, error: ErrorDetail, now: datetime) -> Operation:
    """The step that was at work carries the error too, unless one does already."""
    if any(step.status is OperationStatus.FAILED for step in operation.steps):
        return operation
    for step in operation.steps:
        if step.status is not OperationStatus.SUCCEEDED:
            return with_step(operation, step.name, OperationStatus.FAILED, error.message, now)
    return operation


def _over(context: Context, operation: Operation, now: datetime) -> bool:
    return (now - operation.created_at).total_seconds() > context.limits.budget_s


def _waiting(operation: Operation) -> str:
    for step in operation.steps:
        if step.status is not OperationStatus.SUCCEEDED:
            return f"step {step.name}" + (f" ({step.message})" if step.message else "")
    return "the end"
