"""What an accepted upgrade does to a cluster's record. Pure: record, release and sight in, record out.

An upgrade is an operation like an update: it is the record's one operation, so nothing else changes the cluster
meanwhile, and the reconciler carries it on. It never begins while the nodes are not all well or something else is at
work; that is refused at once, with the reason.
"""

from __future__ import annotations

from mirror_agent.contract import AgentRelease

from shared.api.problem import Problem
from shared.api.wishes import Wish
from shared.model.cluster import SETTLED, ClusterRecord, OperationRef, ProvisioningState
from shared.model.operation import OperationKind
from shared.model.rollout import Rollout
from shared.rollout.plan import lacks, skew
from shared.rollout.sight import Sight


def decide_upgrade(
    existing: ClusterRecord, release: AgentRelease, sight: Sight, control_plane: str, wish: Wish, reason: str
) -> ClusterRecord | None:
    """The record to be written; None when this very upgrade is under way. Raises Problem."""
    name, last = existing.name, existing.operation
    if existing.state is ProvisioningState.DELETING:
        raise Problem("ClusterBeingDeleted", f"cluster {name!r} is being deleted")
    if existing.state not in SETTLED:
        rollout = existing.rollout
        if last.kind is OperationKind.UPGRADE and rollout is not None and rollout.agent == release:
            return None
        raise Problem(
            "OperationInProgress", f"cluster {name!r} is {existing.state.value} (operation {last.id}); wait for its end"
        )
    if not existing.ever_succeeded:
        raise Problem("ClusterNotReady", f"cluster {name!r} is {existing.state.value}; wait until it Succeeded")
    if existing.state is ProvisioningState.FAILED and last.kind is not OperationKind.UPGRADE:
        raise Problem(
            "ClusterNotReady", f"the last update of cluster {name!r} failed; send its PUT again before an upgrade"
        )
    wanted = Rollout(operation_id=wish.operation_id, requested_by=wish.principal, agent=release)
    if any(lacks(wanted, node) for node in sight.nodes):
        _check_possible(wanted, sight, control_plane)
    ref = OperationRef(
        id=wish.operation_id,
        kind=OperationKind.UPGRADE,
        generation=existing.generation,
        requested_at=wish.now,
        requested_by=wish.principal,
        reason=reason,
    )
    update = {
        "operation": ref,
        "rollout": wanted,
        "state": ProvisioningState.UPDATING,
        "updated_at": wish.now,
    }
    return existing.model_copy(update=update)


def _check_possible(wanted: Rollout, sight: Sight, control_plane: str) -> None:
    """Raises Problem."""
    if reason := sight.unwell:
        raise Problem("UpgradeNotPossible", f"an upgrade begins only while all nodes are well: {reason}")
    if reason := sight.busy:
        raise Problem("UpgradeNotPossible", f"an upgrade begins only while nothing else is at work: {reason}")
    if reason := skew(wanted, sight.nodes, control_plane):
        raise Problem("AgentVersionRefused", reason, "version")
    for node in sight.nodes:
        if node.report is None:
            text = f"node {node.name} runs agent {node.version}, which cannot be told to change; replace its VM"
            raise Problem("UpgradeNotPossible", text)
