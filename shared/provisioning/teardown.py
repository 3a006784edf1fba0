"""One tick of deleting a cluster: its resources, dependants first, then its rows; nothing that is not its own.

What belongs to the cluster is decided by the tags on the resource as Azure shows it, never by its name: candidates are
the resources we would have made and whatever else in the group carries our tags (left behind by an older rule or a
change of frontend). The group itself goes only if it carries our tags and nothing is left in it; otherwise it stays,
with what is foreign in it, and the step says so.
Limits: between the last look into the group and its deletion somebody may put a resource into it; ARM has no
conditional deletion of a group, so that window cannot be closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.azure.async_resource import Done, Failed, InFlight, Outcome, remove
from shared.azure.faults import ArmError
from shared.azure.resources import ListedResource, ResourceRef
from shared.model.cluster import ClusterRecord
from shared.model.operation import ErrorDetail, OperationStatus
from shared.provisioning.context import Context
from shared.provisioning.images import Image
from shared.provisioning.notebook import Notebook, retry_delay_s
from shared.provisioning.plan import ClusterPlan, Owner
from shared.provisioning.progress import RECORDS, Broken, Complete, Progress, State, StepNews, Working
from shared.provisioning.records import plan_of
from shared.provisioning.resource_work import next_look_s, work
from shared.provisioning.specs.cluster import (
    DELETE_RANK,
    STEP_BALANCER,
    STEP_DISKS,
    STEP_GROUP,
    STEP_MACHINES,
    STEP_NETWORK,
    STEP_NICS,
    cluster_specs,
    step_of,
)
from shared.provisioning.specs.spec import owned

DELETE_STEPS: Final = (STEP_MACHINES, STEP_NICS, STEP_DISKS, STEP_BALANCER, STEP_NETWORK, STEP_GROUP, RECORDS)
_SHOWN_FOREIGN: Final = 5


# A cluster can be deleted whatever became of its image.
_ANY_IMAGE: Final = Image("any", "linux", "", "", "")


async def teardown(context: Context, record: ClusterRecord, notebook: Notebook, now: datetime) -> Progress:
    """One tick. Raises StoreError. `Complete` means that only the cluster's record is left to remove."""
    plan = plan_of(record, subscription_id=context.subscription_id, image=_ANY_IMAGE)
    try:
        return await _teardown(context, record, plan, notebook, now)
    except ArmError as error:
        fault, note = error.fault, notebook.note(plan.group_ref)
        delay_s = retry_delay_s(note, fault, context.limits)
        notebook = notebook.fail(plan.group_ref, fault, delay_s, now)
        if not fault.retryable:
            detail = ErrorDetail(code=fault.code, message=fault.message, target=str(plan.group_ref))
            return Progress(notebook, record.resources, Broken(detail))
        return Progress(
            notebook, record.resources, Working(next_look_s([plan.group_ref], notebook, now, context.limits))
        )


async def _teardown(
    context: Context, record: ClusterRecord, plan: ClusterPlan, notebook: Notebook, now: datetime
) -> Progress:
    candidates = _candidates(plan, await context.arm.list_group(plan.group))
    notebook, error, pending = await _remove_ranks(context, plan, candidates, notebook, now)
    steps = _steps(candidates, notebook)
    if error is not None:
        return Progress(notebook, record.resources, Broken(error), steps)
    if pending:
        return Progress(notebook, record.resources, Working(next_look_s(pending, notebook, now, context.limits)), steps)
    return await _group_and_rows(context, record, plan, notebook, now, steps)


async def _remove_ranks(
    context: Context, plan: ClusterPlan, candidates: Sequence[ResourceRef], notebook: Notebook, now: datetime
) -> tuple[Notebook, ErrorDetail | None, list[ResourceRef]]:
    """Rank by rank; returns what is still there of the rank at work."""

    async def discard(ref: ResourceRef, in_flight: InFlight | None) -> Outcome:
        return await _discard(context, ref, plan.owner, in_flight)

    for rank in sorted({DELETE_RANK[ref.type] for ref in candidates}):
        refs = [ref for ref in candidates if DELETE_RANK[ref.type] == rank and ref not in notebook.done]
        done = await work(refs, discard, notebook, now, context.limits)
        notebook = done.notebook
        pending = [ref for ref in refs if ref not in notebook.done]
        if done.error is not None or pending:
            return notebook, done.error, pending
    return notebook, None, []


async def _discard(context: Context, ref: ResourceRef, owner: Owner, in_flight: InFlight | None) -> Outcome:
    """Removes the resource if its tags, read now, are ours; a foreign one counts as done: not our business."""
    try:
        existing = await context.arm.get(ref)
    except ArmError as error:
        return Failed(error.fault)
    if existing is None or not owned(owner, existing):
        return Done(existing)
    return await remove(context.arm, ref, in_flight)


def _candidates(plan: ClusterPlan, listed: Sequence[ListedResource]) -> list[ResourceRef]:
    """Resources that may be ours. The virtual IP's address is one also after a change to a private frontend."""
    refs = {ref.key: ref for ref in (plan.vip, *(spec.ref for spec in cluster_specs(plan) if not spec.brought))}
    for row in listed:
        if row.ref is not None and row.ref.type in DELETE_RANK and owned(plan.owner, {"tags": row.tags}):
            refs.setdefault(row.ref.key, row.ref)
    return sorted(ref for ref in refs.values() if ref != plan.group_ref)


async def _group_and_rows(
    context: Context,
    record: ClusterRecord,
    plan: ClusterPlan,
    notebook: Notebook,
    now: datetime,
    steps: dict[str, StepNews],
) -> Progress:
    group = await _group(context, plan, notebook, now)
    notebook = group.notebook
    if group.news is not None:
        steps[STEP_GROUP] = group.news
    if group.state is not None:
        return Progress(notebook, record.resources, group.state, steps)
    removed = await context.store.retention.purge_cluster(record.id, context.limits.purge_rows)
    if removed:
        steps[RECORDS] = StepNews(OperationStatus.RUNNING, f"{removed} rows removed in this step")
        return Progress(notebook, record.resources, Working(context.limits.poll_s), steps)
    await context.store.witness.delete(record.id)
    steps[RECORDS] = StepNews(OperationStatus.SUCCEEDED, "removed")
    return Progress(notebook, record.resources, Complete(), steps)


@dataclass(frozen=True, slots=True)
class _Group:
    notebook: Notebook
    news: StepNews | None
    state: State | None
    """None: the group is settled, gone or left."""


async def _group(context: Context, plan: ClusterPlan, notebook: Notebook, now: datetime) -> _Group:
    ref = plan.group_ref
    if ref in notebook.done:
        return _Group(notebook, None, None)  # said in an earlier tick
    if plan.brought_group:
        message = "left: the resource group was brought, and stays"
        return _Group(notebook.finish(ref), StepNews(OperationStatus.SUCCEEDED, message), None)
    existing = await context.arm.get(ref)
    left = [] if existing is None else await context.arm.list_group(plan.group)
    foreign = [row for row in left if await _is_there(context, row)]
    if existing is None:
        return _Group(notebook.finish(ref), StepNews(OperationStatus.SUCCEEDED, "removed"), None)
    if not owned(plan.owner, existing):
        message = "left: the resource group was not made by this cluster"
        return _Group(notebook.finish(ref), StepNews(OperationStatus.SUCCEEDED, message), None)
    if foreign and notebook.note(ref).in_flight is None:
        names = ", ".join(row.name for row in foreign[:_SHOWN_FOREIGN])
        message = f"left: {len(foreign)} resources in it are not of this cluster ({names})"
        return _Group(notebook.finish(ref), StepNews(OperationStatus.SUCCEEDED, message), None)

    async def drop(group: ResourceRef, in_flight: InFlight | None) -> Outcome:
        return await remove(context.arm, group, in_flight)

    done = await work([ref], drop, notebook, now, context.limits)
    if done.error is not None:
        news = StepNews(OperationStatus.FAILED, done.error.message)
        return _Group(done.notebook, news, Broken(done.error))
    if ref in done.notebook.done:
        return _Group(done.notebook, StepNews(OperationStatus.SUCCEEDED, "removed"), None)
    delay_s = next_look_s([ref], done.notebook, now, context.limits)
    return _Group(done.notebook, StepNews(OperationStatus.RUNNING, "deleting"), Working(delay_s))


async def _is_there(context: Context, row: ListedResource) -> bool:
    """The list of a group lags behind deletions (an OS disk goes with its VM); a read does not."""
    return row.ref is None or await context.arm.get(row.ref) is not None


def _steps(candidates: Sequence[ResourceRef], notebook: Notebook) -> dict[str, StepNews]:
    news: dict[str, StepNews] = {}
    for name in DELETE_STEPS[:5]:
        refs = [ref for ref in candidates if step_of(ref) == name]
        gone = sum(1 for ref in refs if ref in notebook.done)
        if gone == len(refs):
            news[name] = StepNews(OperationStatus.SUCCEEDED, f"{gone} of {len(refs)} removed")
        elif gone or any(ref in notebook.notes for ref in refs):
            news[name] = StepNews(OperationStatus.RUNNING, f"{gone} of {len(refs)} removed")
    return news
