"""What an accepted PUT, DELETE or action does to a cluster's record. Pure: record and wish in, decision out.

- `Write`: the record to be written conditionally; its `operation` (or `action`) is then made real.
- `Same`: the wish is already being fulfilled, or fulfilled; nothing is written. Asking twice makes no second operation.
- `Problem` is raised for what cannot be: a stale ETag, another operation at work, a change Azure does not allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mirror_agent.contract import CommandAction, NodeName

from shared.api.problem import Problem
from shared.model.cluster import SETTLED, ClusterRecord, OperationRef, ProvisioningState
from shared.model.cluster_spec import ClusterSpec, refused_changes
from shared.model.operation import ErrorDetail, Operation, OperationKind


@dataclass(frozen=True)
class Wish:
    """`operation_id` is the caller's (header Operation-Id) or a new one, `named` says which."""

    principal: str
    operation_id: str
    named: bool
    now: datetime
    if_match: str | None = None
    if_none_match: str | None = None


@dataclass(frozen=True)
class Write:
    record: ClusterRecord
    created: bool = False
    replaces: OperationRef | None = None
    """The operation that this one cancels."""


@dataclass(frozen=True)
class Same:
    record: ClusterRecord
    operation: OperationRef | None
    """None when there is nothing left to do."""


def decide_put(
    name: str, existing: ClusterRecord | None, spec: ClusterSpec, wish: Wish, new_cluster_id: str
) -> Write | Same:
    """Create or update. Raises Problem."""
    if existing is None:
        if wish.if_match is not None:
            raise Problem("ConditionNotMet", f"cluster {name!r} does not exist, so If-Match cannot hold")
        ref = _ref(wish, OperationKind.CREATE, generation=1)
        return Write(
            ClusterRecord(
                id=new_cluster_id,
                name=name,
                spec=spec,
                generation=1,
                state=ProvisioningState.CREATING,
                operation=ref,
                created_at=wish.now,
                updated_at=wish.now,
            ),
            created=True,
        )
    if wish.named and existing.operation.id == wish.operation_id:
        if existing.spec == spec and existing.operation.kind in (OperationKind.CREATE, OperationKind.UPDATE):
            return Same(existing, existing.operation)
        raise _reused(wish)
    _check_conditions(existing, wish)
    if existing.state is ProvisioningState.DELETING:
        raise Problem(
            "ClusterBeingDeleted", f"cluster {name!r} is being deleted; wait until it is gone, then create it"
        )
    if existing.spec == spec:
        if existing.state is ProvisioningState.SUCCEEDED:
            return Same(existing, None)
        if existing.state not in SETTLED:
            return Same(existing, existing.operation)
        return _update(existing, spec, existing.generation, wish)
    if existing.state not in SETTLED:
        raise Problem(
            "OperationInProgress",
            f"cluster {name!r} is {existing.state.value} (operation {existing.operation.id}); "
            "wait for its end, then send the change",
        )
    refused = refused_changes(existing.spec, spec)
    if refused:
        details = tuple(
            ErrorDetail(code="PropertyChangeNotAllowed", message=f"{target} cannot change: {reason}", target=target)
            for target, reason in refused
        )
        raise Problem(
            "PropertyChangeNotAllowed",
            f"{details[0].message}; delete the cluster and create it anew to change it",
            details[0].target,
            details,
        )
    return _update(existing, spec, existing.generation + 1, wish)


def decide_delete(existing: ClusterRecord, wish: Wish) -> Write | Same:
    """Raises Problem for a stale ETag. A running operation is replaced."""
    if existing.state is ProvisioningState.DELETING:
        return Same(existing, existing.operation)
    if wish.named and existing.operation.id == wish.operation_id:
        raise _reused(wish)
    _check_conditions(existing, wish)
    generation = existing.generation + 1
    return Write(
        existing.model_copy(
            update={
                "generation": generation,
                "state": ProvisioningState.DELETING,
                "operation": _ref(wish, OperationKind.DELETE, generation),
                "updated_at": wish.now,
            }
        ),
        replaces=None if existing.state in SETTLED else existing.operation,
    )


def decide_action(
    existing: ClusterRecord,
    current: Operation | None,
    wish: Wish,
    action: CommandAction,
    node: NodeName | None,
    reason: str,
) -> Write | Same:
    """`current` is the operation row of the record's last action, None if there is none. Raises Problem."""
    if existing.state is ProvisioningState.DELETING:
        raise Problem("ClusterBeingDeleted", f"cluster {existing.name!r} is being deleted")
    if not existing.ever_succeeded:
        raise Problem(
            "ClusterNotReady", f"cluster {existing.name!r} is {existing.state.value}; wait until it Succeeded"
        )
    last = existing.action
    open_action = last is not None and (current is None or not current.is_final)
    if last is not None and open_action:
        if last.action is action and last.node == node:
            return Same(existing, last)
        word = last.action.value if last.action is not None else "action"
        raise Problem("ActionInProgress", f"{word!r} of cluster {existing.name!r} is at work (operation {last.id})")
    ref = OperationRef(
        id=wish.operation_id,
        kind=OperationKind.ACTION,
        generation=existing.generation,
        requested_at=wish.now,
        requested_by=wish.principal,
        action=action,
        node=node,
        reason=reason,
    )
    return Write(existing.model_copy(update={"action": ref, "updated_at": wish.now}))


def operation_of(record: ClusterRecord, ref: OperationRef, now: datetime) -> Operation:
    """The operation row that belongs to a reference in the record."""
    return Operation(
        id=ref.id,
        kind=ref.kind,
        cluster=record.name,
        cluster_id=record.id,
        generation=ref.generation,
        action=None if ref.action is None else ref.action.value,
        requested_by=ref.requested_by,
        reason=ref.reason,
        created_at=ref.requested_at,
        updated_at=now,
    )


def _update(existing: ClusterRecord, spec: ClusterSpec, generation: int, wish: Wish) -> Write:
    kind = OperationKind.UPDATE if existing.ever_succeeded else OperationKind.CREATE
    state = ProvisioningState.UPDATING if existing.ever_succeeded else ProvisioningState.CREATING
    return Write(
        existing.model_copy(
            update={
                "spec": spec,
                "generation": generation,
                "state": state,
                "operation": _ref(wish, kind, generation),
                "updated_at": wish.now,
            }
        )
    )


def _ref(wish: Wish, kind: OperationKind, generation: int) -> OperationRef:
    return OperationRef(
        id=wish.operation_id,
        kind=kind,
        generation=generation,
        requested_at=wish.now,
        requested_by=wish.principal,
    )


def _reused(wish: Wish) -> Problem:
    return Problem(
        "OperationIdReused", f"Operation-Id {wish.operation_id!r} was used for another request", "Operation-Id"
    )


def _check_conditions(existing: ClusterRecord, wish: Wish) -> None:
    if wish.if_none_match is not None and _matches(wish.if_none_match, existing.etag):
        raise Problem("ResourceExists", f"cluster {existing.name!r} exists (ETag {existing.etag})", "If-None-Match")
    if wish.if_match is not None and not _matches(wish.if_match, existing.etag):
        raise Problem(
            "ConditionNotMet",
            f"cluster {existing.name!r} was changed: its ETag is {existing.etag}; read it again, then send the change",
            "If-Match",
        )


def _matches(header: str, etag: str) -> bool:
    """RFC 9110 §13.1: `*` or a list of entity tags; weak tags never match strongly."""
    return header.strip() == "*" or etag in [tag.strip() for tag in header.split(",")]
