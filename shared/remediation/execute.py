"""Carrying out what was planned: claim, look once more, act, write down. Apart from every decision.

Guarantees
- At most once: a step is claimed by a conditional write (`planned` → `started`) before the call to the outside; a row
  that says `started` is never called again. Killed between claim and call, the step was lost: its time runs out and
  the next one is planned. Killed between call and record: likewise, so nothing ever happens twice.
- Of two executors, or of two clusters in one zone, exactly one acts (conditional row, lease on the zone).
- The look right before the call reads the safety record, the newest heartbeats and the spec anew, and reads the safety
  record a second time after the claim: it must be the same one.
Limits: `replace` is several calls over several runs; each is repeatable by itself, see `replace.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from mirror_agent.contract import OperatingSystem

from shared.azure.faults import ArmError, Fault
from shared.azure.ports import OperationState, PowerAction
from shared.model.cluster import ClusterRecord
from shared.model.remediation import ActionRecord, ActionStatus, RemediationRecord, Step, Tracked, ZoneLease
from shared.remediation.commands import leftovers, restart_commands
from shared.remediation.context import Executor
from shared.remediation.journal import action_event
from shared.remediation.last_look import LastLook, reason_against
from shared.remediation.model import step_limit_s
from shared.remediation.policy import policy_of, zone_of
from shared.remediation.replace import CannotReplace, HandedOver, Waiting, advance_replacement, machine_ref, unique_id
from shared.remediation.rules import sentence
from shared.remediation.tick import needs_attention, tracked_entry
from shared.remediation.watch import after_step
from shared.store.ports import Changed, StoreError, Versioned
from shared.structured_log import Log

AGENT_RESTART: Final[Mapping[OperatingSystem, tuple[str, ...]]] = MappingProxyType(
    {
        "linux": ("systemctl restart mirrorplane-agent",),
        # -Force: also when other services depend on it; a service that hangs is ended by its own recovery options.
        "windows": ("Restart-Service -Name mirrorplane-agent -Force",),
    }
)
# An action is at work at most for its step's time; a lease that outlives it by this much belongs to nobody.
LEASE_MARGIN: Final = timedelta(minutes=10)
# A claim without a result after this time: the executor that made it is dead (a call to ARM has 40 s).
CLAIM_LIFETIME: Final = timedelta(seconds=90)
MAX_REFUSALS: Final = 5
_PASSING: Final = frozenset({409, 412, 429})
log = Log("mirrorplane.remediation")


async def carry_out_all(executor: Executor) -> int:
    """One run over everything that is open; returns the number of clusters looked at."""
    tracked = await executor.store.remediations.tracked()
    for entry in tracked:
        try:
            await carry_out(executor, entry)
        except StoreError as error:
            log.failure("execution_failed", error, cluster=entry.cluster)
    return len(tracked)


async def carry_out(executor: Executor, entry: Tracked) -> None:
    """One step for one cluster. Raises StoreError."""
    store = executor.store
    found = await store.clusters.get(entry.cluster)
    stored = await store.remediations.get(entry.cluster_id)
    if found is None or found.value.id != entry.cluster_id or stored is None:
        await store.remediations.untrack(entry.cluster_id)
        return
    cluster, action = found.value, stored.value.open_action
    if action is None:
        await _tidy(executor, cluster, stored.value)
        return
    try:
        match action.status:
            case ActionStatus.PLANNED:
                await _begin(executor, cluster, stored, action)
            case ActionStatus.STARTED:
                await _resume(executor, cluster, stored, action)
            case ActionStatus.SENT:
                await _follow(executor, stored, action)
    except Changed:
        return  # the audit, or another executor, wrote meanwhile; the next run sees what


async def _begin(
    executor: Executor, cluster: ClusterRecord, stored: Versioned[RemediationRecord], action: ActionRecord
) -> None:
    now = executor.now()
    against = await _against(executor, cluster, action, now)
    if against is not None:
        await _refuse(executor, stored, action, *against)
        return
    zone = zone_of(cluster, action.node)
    limit_s = step_limit_s(action.step, cluster.spec.remediation.limits)
    lease = ZoneLease(zone=zone, holder=cluster.id, expires_at=now + timedelta(seconds=limit_s) + LEASE_MARGIN)
    if not await executor.store.remediations.take_zone(lease, now):
        await _refuse(executor, stored, action, "zone-taken", "", passing=True)
        return
    witness = await executor.store.witness.read(cluster.id)
    machine_id = await _machine_id(executor, cluster, action)
    if machine_id is None:
        await _refuse(executor, stored, action, "arm-refused", "the VM cannot be read", passing=True)
        return
    claim = {"status": ActionStatus.STARTED, "started_at": now, "machine_id": machine_id}
    claimed = await _write(executor, stored, action.model_copy(update=claim))
    if await executor.store.witness.read(cluster.id) != witness:
        mine = _of(claimed.value, action.id)
        await _refuse(executor, claimed, mine, "decision-changed", "the safety record has just changed")
        return
    await _act(executor, cluster, claimed, _of(claimed.value, action.id))


async def _act(
    executor: Executor, cluster: ClusterRecord, stored: Versioned[RemediationRecord], action: ActionRecord
) -> None:
    log.info("acting", cluster=cluster.name, node=action.node, step=action.step.value, action=action.id)
    try:
        url = await _call(executor, cluster, action)
    except ArmError as error:
        await _fault(executor, stored, action, error.fault)
        return
    except Impossible as error:
        await _end(executor, stored, action, ActionStatus.FAILED, sentence("step-impossible", why=str(error)))
        return
    if action.step is not Step.REPLACE:
        await _write(executor, stored, action.model_copy(update={"status": ActionStatus.SENT, "operation_url": url}))


class Impossible(Exception):
    """The step makes no sense for the VM as it is now."""


async def _call(executor: Executor, cluster: ClusterRecord, action: ActionRecord) -> str | None:
    """The one call to the outside. Raises ArmError, Impossible, StoreError."""
    ref = machine_ref(cluster, action.node)
    match action.step:
        case Step.MODULE_RESTART:
            for command in restart_commands(cluster.id, action, executor.now()):
                await executor.store.commands.create(command)
            return None
        case Step.REPLACE:
            return None  # the claim was the beginning; the next run deletes
        case Step.AGENT_RESTART | Step.MACHINE_RESTART | Step.REDEPLOY:
            view = await executor.machines.instance_view(ref)
            if view is None:
                raise Impossible("there is no VM of that name")
    if action.step is Step.AGENT_RESTART:
        os = cluster.spec.compute.os
        if view.power not in ("running", None):
            raise Impossible(f"the VM is {view.power}; a run command needs a running one")
        return (await executor.machines.run_command(ref, AGENT_RESTART[os], os)).operation_url
    if action.step is Step.REDEPLOY:
        return (await executor.machines.power(ref, PowerAction.REDEPLOY)).operation_url
    without_power = view.power in ("stopped", "deallocated")
    wanted = PowerAction.START if without_power else PowerAction.RESTART
    return (await executor.machines.power(ref, wanted)).operation_url


async def _resume(
    executor: Executor, cluster: ClusterRecord, stored: Versioned[RemediationRecord], action: ActionRecord
) -> None:
    """After a claim. Only a replacement goes on; for anything else nobody knows whether the call went out."""
    now = executor.now()
    if action.step is not Step.REPLACE:
        if action.started_at is not None and now - action.started_at > CLAIM_LIFETIME:
            words = "it is not known whether the call went out; it is not repeated"
            await _write(executor, stored, action.model_copy(update={"status": ActionStatus.SENT, "result": words}))
        return
    against = await _against(executor, cluster, action, now)
    if against is not None:
        await _end(executor, stored, action, ActionStatus.FAILED, sentence("decision-changed", why=against[1]))
        return
    try:
        progress = await advance_replacement(executor, cluster, action)
    except ArmError as error:
        await _fault(executor, stored, action, error.fault)
        return
    match progress:
        case Waiting(words=words):
            log.info("replacing", cluster=cluster.name, node=action.node, state=words)
        case HandedOver():
            await _write(executor, stored, action.model_copy(update={"status": ActionStatus.SENT}))
        case CannotReplace(why=why, fault=fault):
            if fault is not None:
                await _fault(executor, stored, action, fault)
            else:
                await _end(executor, stored, action, ActionStatus.FAILED, sentence("step-impossible", why=why))


async def _follow(executor: Executor, stored: Versioned[RemediationRecord], action: ActionRecord) -> None:
    """Learns early that ARM's own work has failed; whether the node is well is the audit's to see."""
    if action.operation_url is None:
        return
    try:
        operation = await executor.arm.operation(action.operation_url)
    except ArmError as error:
        log.info("operation_unreadable", action=action.id, code=error.fault.code)
        return
    if operation is not None and operation.state is OperationState.FAILED:
        why = "" if operation.fault is None else f"{operation.fault.code}: {operation.fault.message}"
        await _end(executor, stored, action, ActionStatus.FAILED, sentence("arm-refused", why=why[:1000]))


async def _fault(executor: Executor, stored: Versioned[RemediationRecord], action: ActionRecord, fault: Fault) -> None:
    """A clear refusal was no action; without an answer nobody knows, and the step counts as sent."""
    why = f"{fault.code}: {fault.message}"[:1000]
    if fault.status in _PASSING:
        if action.step is Step.REPLACE and action.status is ActionStatus.STARTED:
            log.info("replacing", cluster=stored.value.cluster, node=action.node, state=why)
            return  # its own time limit ends it
        await _refuse(executor, stored, action, "arm-refused", why, passing=True)
    elif fault.status and fault.status < 500:
        await _end(executor, stored, action, ActionStatus.FAILED, sentence("arm-refused", why=why))
    elif action.step is not Step.REPLACE:
        await _write(executor, stored, action.model_copy(update={"status": ActionStatus.SENT, "result": why}))


async def _against(
    executor: Executor, cluster: ClusterRecord, action: ActionRecord, now: datetime
) -> tuple[str, str] | None:
    look = LastLook(
        witness=await executor.store.witness.read(cluster.id),
        states=await executor.store.node_states.of_cluster(cluster.id),
        policy=policy_of(cluster, now),
    )
    return reason_against(look, action, now)


async def _machine_id(executor: Executor, cluster: ClusterRecord, action: ActionRecord) -> str | None:
    """The VM to be replaced, "" if there is none; None if ARM does not say."""
    if action.step is not Step.REPLACE:
        return ""
    try:
        return unique_id(await executor.arm.get(machine_ref(cluster, action.node)))
    except ArmError as error:
        log.info("machine_unreadable", cluster=cluster.name, node=action.node, code=error.fault.code)
        return None


async def _refuse(
    executor: Executor,
    stored: Versioned[RemediationRecord],
    action: ActionRecord,
    rule: str,
    why: str,
    *,
    passing: bool = False,
) -> None:
    """Nothing was done. A refusal that ought to pass and does not, ends the step."""
    refusals = action.refusals + (1 if passing else 0)
    status = ActionStatus.FAILED if refusals >= MAX_REFUSALS and rule == "arm-refused" else ActionStatus.REFUSED
    refused = action.model_copy(update={"refusals": refusals, "started_at": None})
    await _end(executor, stored, refused, status, sentence(rule, why=why))


async def _end(
    executor: Executor, stored: Versioned[RemediationRecord], action: ActionRecord, status: ActionStatus, result: str
) -> None:
    ended = {"status": status, "result": result, "ended_at": executor.now()}
    await _write(executor, stored, action.model_copy(update=ended))


async def _write(
    executor: Executor, stored: Versioned[RemediationRecord], action: ActionRecord
) -> Versioned[RemediationRecord]:
    """Replaces the action in the record, conditionally, and announces it. Raises Changed."""
    record = stored.value
    actions = tuple(action if known.id == action.id else known for known in record.actions)
    nodes = dict(record.nodes)
    if action.ended_at is not None:
        nodes[action.node] = after_step(record.ladder(action.node), action)
    written = await executor.store.remediations.put(
        record.model_copy(update={"actions": actions, "nodes": nodes}), stored.etag
    )
    await executor.store.events.record(action_event(written.value, action, executor.now()))
    return written


async def _tidy(executor: Executor, cluster: ClusterRecord, record: RemediationRecord) -> None:
    """After the end of an action: its commands, its zone, and the cluster's place in the index."""
    store = executor.store
    commands = [entry.value for entry in await store.commands.of_cluster(cluster.id)]
    waiting = False
    for action in record.actions:
        gone = leftovers(commands, action)
        for command_id in gone:
            await store.commands.delete(cluster.id, command_id)
        waiting = waiting or any(c.operation_id == action.id and c.id not in gone for c in commands)
    for node in cluster.nodes:
        await store.remediations.leave_zone(zone_of(cluster, node), cluster.id)
    if not needs_attention(record) and not waiting:
        await store.remediations.untrack(cluster.id)
    else:
        await store.remediations.track(tracked_entry(cluster, record))


def _of(record: RemediationRecord, action_id: str) -> ActionRecord:
    return next(action for action in record.actions if action.id == action_id)
