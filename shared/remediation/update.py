"""Asking the reconciler to bring a cluster's resources back to what its spec says.

The desired state is not changed and neither is the ETag that callers see: an update operation of the same generation.
The operation's id is derived from the reason, so asking twice for one reason makes one operation.
"""

from __future__ import annotations

import uuid
from enum import StrEnum
from typing import Final

from shared.api.dispatch import start_operation
from shared.api.plane import ControlPlane
from shared.model.cluster import SETTLED, OperationRef, ProvisioningState
from shared.model.operation import OperationKind
from shared.remediation.commands import REQUESTED_BY
from shared.store.ports import Changed

_NAMESPACE: Final = uuid.UUID("5b0f6b6e-7d0c-5c55-9c0e-2f6f0f6d1b0a")


class Asked(StrEnum):
    UNDER_WAY = "under-way"
    BUSY = "busy"  # another operation is at work, or the record was changed meanwhile: ask again later
    GONE = "gone"


def operation_id_for(key: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, key))


async def ask_reconciler(plane: ControlPlane, cluster: str, cluster_id: str, key: str, reason: str) -> Asked:
    """Raises StoreError."""
    found = await plane.store.clusters.get(cluster)
    if found is None or found.value.id != cluster_id or found.value.state is ProvisioningState.DELETING:
        return Asked.GONE
    record, now, operation_id = found.value, plane.clock(), operation_id_for(key)
    if record.operation.id == operation_id:
        await start_operation(plane.store, record, now)
        return Asked.UNDER_WAY
    if record.state not in SETTLED or not record.ever_succeeded:
        return Asked.BUSY
    reference = OperationRef(
        id=operation_id,
        kind=OperationKind.UPDATE,
        generation=record.generation,
        requested_at=now,
        requested_by=REQUESTED_BY,
        reason=reason,
    )
    wish = {"state": ProvisioningState.UPDATING, "operation": reference, "updated_at": now}
    try:
        written = await plane.store.clusters.replace(record.model_copy(update=wish), found.etag)
    except Changed:
        return Asked.BUSY
    await start_operation(plane.store, written.value, now)
    return Asked.UNDER_WAY
