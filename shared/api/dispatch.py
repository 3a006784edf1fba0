"""Making an accepted wish real: operation row, then commands or queue message; and repairing what a crash left.

The record is written before anything here runs, and names its operation, so every step can be repeated from the
record: a crash before the operation row, between row and message, or a lost message is found by `repair_cluster`,
which a timer calls. Doubled calls are harmless: rows are created once, and the reconciler accepts doubled messages.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from shared.api.commands import planned, progressed, time_limit
from shared.api.problem import Problem
from shared.api.wishes import operation_of
from shared.model.cluster import SETTLED, ClusterRecord, OperationRef
from shared.model.node_state import NodeCommand
from shared.model.operation import ErrorDetail, Operation, OperationStatus, finished
from shared.store.ports import Changed, Exists, ReconcileMessage, Store, Versioned
from shared.structured_log import Log

log = Log("mirrorplane.dispatch")

# A reconcile tick re-enqueues itself within seconds and touches its operation; after this silence its message is lost.
UNTOUCHED: Final = timedelta(seconds=30)
# The reconciler settles the record first and ends the operation after it; a crash in between is looked for so long.
JUST_SETTLED: Final = timedelta(hours=1)
MAX_ATTEMPTS: Final = 5


async def start_operation(store: Store, record: ClusterRecord, now: datetime) -> Operation:
    """Row and message of the record's create, update or delete."""
    operation = await _row(store, record, record.operation, now)
    if not operation.is_final:
        await store.queue.enqueue(ReconcileMessage(operation.id, record.name))
    return operation


async def start_action(store: Store, record: ClusterRecord, ref: OperationRef, now: datetime) -> Operation:
    """Row and commands of an action."""
    operation = await _row(store, record, ref, now)
    if operation.is_final:
        return operation
    states = await store.node_states.of_cluster(record.id)
    try:
        commands = planned(record, ref, states, now)
    except Problem as problem:  # the serving node changed since the wish was accepted
        return await _end(store, operation.id, OperationStatus.FAILED, now, problem.error) or operation
    for command in commands:
        await store.commands.create(command)
    return operation


async def cancel(store: Store, operation_id: str, now: datetime, by: str) -> None:
    error = ErrorDetail(code="Superseded", message=f"replaced by operation {by}")
    await _end(store, operation_id, OperationStatus.CANCELED, now, error)


async def advance_action(
    store: Store, record: ClusterRecord, commands: list[Versioned[NodeCommand]], now: datetime
) -> Operation | None:
    """Moves the record's action on by what its commands say; ended commands are removed with it."""
    ref = record.action
    if ref is None:
        return None
    mine = [entry.value for entry in commands if entry.value.operation_id == ref.id]
    for _ in range(MAX_ATTEMPTS):
        current = await store.operations.get(ref.id)
        if current is None:
            return None
        operation = current.value
        if not operation.is_final:
            moved = progressed(operation, mine, time_limit(record), now)
            if moved is None:
                return operation
            try:
                operation = (await store.operations.replace(moved, current.etag)).value
            except Changed:
                continue
        if operation.is_final:
            for command in mine:
                await store.commands.delete(record.id, command.id)
        return operation
    log.warning("action_contended", operation=ref.id, cluster=record.name)
    return None


async def repair_cluster(store: Store, record: ClusterRecord, now: datetime) -> list[str]:
    """Finds what a crash left undone; returns what was repaired, as words for the log."""
    repaired: list[str] = []
    if record.state not in SETTLED or now - record.updated_at < JUST_SETTLED:
        repaired += await _repair_operation(store, record, now)
    if record.action is not None:
        repaired += await _repair_action(store, record, record.action, now)
    return repaired


async def _repair_operation(store: Store, record: ClusterRecord, now: datetime) -> list[str]:
    current = await store.operations.get(record.operation.id)
    if current is None:
        if record.state in SETTLED:
            return []
        if now - record.operation.requested_at < UNTOUCHED:
            return []  # the request is probably still at work
        await start_operation(store, record, now)
        return ["operation-row-missing"]
    settled = record.state in SETTLED
    if now - current.value.updated_at < UNTOUCHED or (settled and current.value.is_final):
        return []
    if not current.value.is_final:
        # Touched before it is enqueued, so that a lost message costs one repetition in each period, not one a run.
        try:
            await store.operations.replace(current.value.model_copy(update={"updated_at": now}), current.etag)
        except Changed:
            return []
    await store.queue.enqueue(ReconcileMessage(record.operation.id, record.name))
    return ["record-unsettled" if current.value.is_final else "operation-untouched"]


async def _repair_action(store: Store, record: ClusterRecord, ref: OperationRef, now: datetime) -> list[str]:
    current = await store.operations.get(ref.id)
    commands = [entry for entry in await store.commands.of_cluster(record.id) if entry.value.operation_id == ref.id]
    if current is not None and current.value.is_final:
        for entry in commands:
            await store.commands.delete(record.id, entry.value.id)
        return ["ended-commands"] if commands else []
    if now - ref.requested_at < UNTOUCHED:
        return []
    if current is None or not commands:
        if current is None and now - ref.requested_at > timedelta(days=1):
            return []  # its row was removed by retention long after it ended
        await start_action(store, record, ref, now)
        return ["action-not-started"]
    moved = await advance_action(store, record, commands, now)
    return ["action-ended"] if moved is not None and moved.is_final else []


async def _row(store: Store, record: ClusterRecord, ref: OperationRef, now: datetime) -> Operation:
    try:
        return (await store.operations.create(operation_of(record, ref, now))).value
    except Exists:
        current = await store.operations.get(ref.id)
        if current is None or current.value.cluster_id != record.id:
            raise Problem(
                "OperationIdReused", f"Operation-Id {ref.id!r} was used for another request", "Operation-Id"
            ) from None
        return current.value


async def _end(
    store: Store, operation_id: str, status: OperationStatus, now: datetime, error: ErrorDetail
) -> Operation | None:
    for _ in range(MAX_ATTEMPTS):
        current = await store.operations.get(operation_id)
        if current is None or current.value.is_final:
            return None if current is None else current.value
        try:
            return (await store.operations.replace(finished(current.value, status, now, error), current.etag)).value
        except Changed:
            continue
    log.warning("operation_contended", operation=operation_id)
    return None
