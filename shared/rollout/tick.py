"""The rollout's part of a reconcile tick: of an update after its configuration is stored, of an upgrade from the start.

The reconciler writes the record and the operation; here is only what they will say.
"""

from __future__ import annotations

from datetime import datetime

from shared.model.cluster import ClusterRecord
from shared.model.rollout import Rollout
from shared.provisioning.context import Context
from shared.provisioning.notebook import Notebook
from shared.provisioning.progress import HAND_OVER, Progress, node_step
from shared.remediation.commands import REQUESTED_BY as REMEDIATION
from shared.rollout.advance import Advanced, advance


def upgrade_steps(record: ClusterRecord) -> tuple[str, ...]:
    nodes = tuple(node_step(node) for node in record.nodes)
    return nodes if record.is_farm else (*nodes, HAND_OVER)


async def upgrade(context: Context, record: ClusterRecord, notebook: Notebook, now: datetime) -> Progress:
    """One tick of an upgrade. Raises StoreError."""
    assert record.rollout is not None, "an upgrade is accepted together with its rollout"
    advanced = await _advanced(context, record, now)
    return Progress(notebook, record.resources, advanced.state, advanced.steps, advanced.rollout)


async def take_configuration(context: Context, record: ClusterRecord, version: int, now: datetime) -> Advanced | None:
    """One tick of bringing a configuration, which every living node has stored, into force. None: there is nothing to
    do, since nobody asked for it (a repair of resources leaves what people have to decide). Raises StoreError."""
    ref = record.operation
    if ref.requested_by == REMEDIATION:
        return None
    rollout = own_rollout(record) or Rollout(operation_id=ref.id, requested_by=ref.requested_by, configuration=version)
    return await _advanced(context, record.model_copy(update={"rollout": rollout}), now)


def own_rollout(record: ClusterRecord) -> Rollout | None:
    """The rollout of the operation that is at work; what an earlier one left means nothing."""
    rollout = record.rollout
    return rollout if rollout is not None and rollout.operation_id == record.operation.id else None


async def _advanced(context: Context, record: ClusterRecord, now: datetime) -> Advanced:
    limits = context.limits
    return await advance(
        context.store, record, now, fresh_s=limits.fresh_s, poll_s=limits.node_poll_s, limits=limits.rollout
    )
