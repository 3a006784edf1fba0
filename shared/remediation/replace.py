"""Replacing a VM: delete the old one, let the reconciler make the new one, wait for its resynchronisation.

Repeatable at every point: what is deleted is the VM whose unique id was written down at the beginning, and no other,
so a VM that was made meanwhile is never deleted by a late or repeated step. The look right before acting is repeated
before every deletion. The data disk is kept if it is there (the mirror engine puts divergent data aside, it
overwrites nothing silently); if it is gone, the reconciler makes a new one and everything is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mirror_agent.contract import NodeName

from shared.azure.async_resource import Done, Failed, InProgress, remove
from shared.azure.faults import Fault
from shared.azure.resources import ResourceRef, ResourceType
from shared.model.cluster import ClusterRecord
from shared.model.remediation import ActionRecord
from shared.provisioning.plan import Owner
from shared.provisioning.specs.spec import owned
from shared.remediation.context import Executor
from shared.remediation.update import Asked, ask_reconciler


@dataclass(frozen=True, slots=True)
class Waiting:
    words: str


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The old VM is gone and the reconciler is at work on the new one."""


@dataclass(frozen=True, slots=True)
class CannotReplace:
    why: str
    fault: Fault | None = None


Replacing = Waiting | HandedOver | CannotReplace


def machine_ref(cluster: ClusterRecord, node: NodeName) -> ResourceRef:
    return ResourceRef(ResourceType.VIRTUAL_MACHINE, cluster.group, f"{cluster.name}-{node}")


def unique_id(body: dict[str, Any] | None) -> str:
    """Azure's id of this very VM; "" if there is none."""
    return "" if body is None else str((body.get("properties") or {}).get("vmId") or "")


async def advance_replacement(executor: Executor, cluster: ClusterRecord, action: ActionRecord) -> Replacing:
    """One step. The caller has looked, right now, that the action is still allowed. Raises ArmError, StoreError."""
    ref = machine_ref(cluster, action.node)
    body = await executor.arm.get(ref)
    if body is not None and action.machine_id and unique_id(body) == action.machine_id:
        if not owned(Owner(cluster.name, cluster.id), body):
            return CannotReplace(f"{ref} does not carry the tags of this cluster; it is left untouched")
        match await remove(executor.arm, ref, None):
            case InProgress(message=message):
                return Waiting(message)
            case Failed(fault=fault):
                return CannotReplace(fault.message, fault)
            case Done():
                pass
    asked = await ask_reconciler(executor.plane, cluster.name, cluster.id, action.id, action.sentence)
    match asked:
        case Asked.UNDER_WAY:
            return HandedOver()
        case Asked.BUSY:
            return Waiting("another operation is at work on the cluster")
        case Asked.GONE:
            return CannotReplace("the cluster is gone or being deleted")
