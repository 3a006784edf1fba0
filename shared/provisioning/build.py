"""One tick of creating or updating a cluster: resources along their graph, then the nodes.

Guarantees: a tick issues everything that can be issued now, together, and never waits; done resources are not asked
again within the operation; before a VM is made, the witness record exists; what boots it (`boot`) carries a fresh
enrolment token. What a tick did is found again by reading Azure, so being killed anywhere loses nothing.
A cluster that never came up (its creation failed) is built like a new one; one that did is only brought up to date, and
then the state of its replication is no business of the update.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from mirror_agent.contract import NodeName

from shared.azure.async_resource import Done, Failed, InFlight, InProgress, Outcome, ensure, provisioning_state
from shared.azure.faults import ArmError
from shared.azure.resources import Body, ResourceRef
from shared.model.cluster import ClusterRecord
from shared.model.operation import ErrorDetail, OperationStatus
from shared.model.rollout import Rollout
from shared.provisioning import readiness
from shared.provisioning.boot import booted_extension, booted_machine
from shared.provisioning.configuration import configuration_version
from shared.provisioning.context import Context
from shared.provisioning.notebook import Notebook
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.progress import (
    CONFIGURATION,
    ENROLMENT,
    IN_USE,
    REPLICATION,
    SERVING,
    Broken,
    Complete,
    Progress,
    State,
    StepNews,
    Working,
)
from shared.provisioning.records import lacks_address, observed, plan_of
from shared.provisioning.resource_work import next_look_s, work
from shared.provisioning.specs.brought import Brought
from shared.provisioning.specs.cluster import RESOURCE_STEPS, STEP_MACHINES, cluster_specs, ready, step_of
from shared.provisioning.specs.spec import Spec
from shared.rollout.tick import own_rollout, take_configuration

CREATE_STEPS: Final = (*RESOURCE_STEPS, ENROLMENT, REPLICATION)
CREATE_FARM_STEPS: Final = (*RESOURCE_STEPS, ENROLMENT, SERVING)
UPDATE_STEPS: Final = (*RESOURCE_STEPS, CONFIGURATION, IN_USE)


def steps_of(record: ClusterRecord) -> tuple[str, ...]:
    if record.ever_succeeded:
        return UPDATE_STEPS
    return CREATE_FARM_STEPS if record.is_farm else CREATE_STEPS


async def build(context: Context, record: ClusterRecord, notebook: Notebook, now: datetime) -> Progress:
    """One tick. Raises ImageError, StoreError."""
    plan = plan_of(
        record,
        subscription_id=context.subscription_id,
        control_plane_addresses=context.control_plane_addresses,
    )
    builder = _Builder(context, record, plan, now)
    notebook, resources, error = await builder.rounds(notebook)
    seen = observed(record.resources, plan, resources)
    steps = _resource_steps(builder.specs, notebook)
    if error is not None:
        steps[_step_at_fault(builder.specs, error)] = StepNews(OperationStatus.FAILED, error.message)
        return Progress(notebook, seen, Broken(error), steps)
    rollout = own_rollout(record)
    left = [spec.ref for spec in builder.specs if spec.ref not in notebook.done]
    if left:
        possible = [spec.ref for spec in ready(builder.specs, notebook.done)]
        working = Working(next_look_s(possible, notebook, now, context.limits))
        return Progress(notebook, seen, working, steps, rollout)
    if record.ever_succeeded:
        state, news, rollout = await _configuration(context, record, now)
    else:
        state, news = await _nodes(context, record, now)
    return Progress(notebook, seen, state, {**steps, **news}, rollout)


class _Builder:
    """One tick's view of the resources."""

    def __init__(self, context: Context, record: ClusterRecord, plan: ClusterPlan, now: datetime) -> None:
        self.context = context
        self.record = record
        self.plan = plan
        self.now = now
        self.specs = cluster_specs(plan)
        self._by_ref = {spec.ref: spec for spec in self.specs}
        self._machines = frozenset(plan.machine(node) for node in plan.nodes)
        self._boots: dict[ResourceRef, Callable[[Spec], Awaitable[Spec]]] = {}
        for node in plan.nodes:
            self._boots[plan.machine(node)] = partial(self._machine, node)
            self._boots[plan.boot_extension(node)] = partial(self._extension, node)

    async def rounds(self, notebook: Notebook) -> tuple[Notebook, dict[ResourceRef, Body], ErrorDetail | None]:
        """Rounds until no resource becomes done: what is done at once (no change) opens the way for its dependants."""
        resources: dict[ResourceRef, Body] = {}
        while True:
            refs = [spec.ref for spec in ready(self.specs, notebook.done)]
            if any(ref in self._machines for ref in refs) and not notebook.witness_ready:
                await self._ensure_witness()
                notebook = replace(notebook, witness_ready=True)
            done = await work(refs, self._step, notebook, self.now, self.context.limits)
            notebook = done.notebook
            resources |= {ref: body for ref, body in done.finished.items() if body is not None}
            if done.error is not None or not done.finished:
                return notebook, resources, done.error

    async def _step(self, ref: ResourceRef, in_flight: InFlight | None) -> Outcome:
        spec = self._by_ref[ref]
        boots = self._boots.get(ref)
        if boots is not None:
            try:
                spec = await boots(spec)
            except ArmError as error:
                return Failed(error.fault)
        outcome = await ensure(self.context.arm, spec, in_flight)
        if isinstance(outcome, Done) and outcome.resource is not None:
            if lacks_address(ref, outcome.resource):
                return InProgress(self.context.limits.poll_s, in_flight, f"{ref}: no address yet")
            if spec.once and provisioning_state(outcome.resource) != "succeeded":
                # It failed between two looks: the next one has what writing it again needs.
                return InProgress(self.context.limits.poll_s, in_flight, f"{ref}: looking again")
        return outcome

    async def _machine(self, node: NodeName, spec: Spec) -> Spec:
        """With what boots it only if the VM is about to be made."""
        if await self.context.arm.get(spec.ref) is not None:
            return spec
        return await booted_machine(self.context, self.record, self.plan, node, self.now)

    async def _extension(self, node: NodeName, spec: Spec) -> Spec:
        """With its command only if it is about to be made, or made again after it has failed."""
        existing = await self.context.arm.get(spec.ref)
        if existing is not None and provisioning_state(existing) not in ("failed", "canceled"):
            return spec
        return await booted_extension(self.context, self.record, self.plan, node, self.now)

    async def _ensure_witness(self) -> None:
        # Never for a cluster that has worked: a record that vanished then is a matter for people, not to be invented.
        # And never for a farm, whose nodes have nothing to agree on.
        if not self.record.ever_succeeded and not self.record.is_farm:
            await self.context.store.witness.ensure(self.record.id, self.record.spec.default_primary or "a")


async def _configuration(
    context: Context, record: ClusterRecord, now: datetime
) -> tuple[State, dict[str, StepNews], Rollout | None]:
    """The steps after the resources, of a cluster that has been up: the configuration is stored on the nodes, then it
    comes into force, one node at a time where it has to."""
    limits = context.limits
    standing = own_rollout(record)
    states = await context.store.node_states.of_cluster(record.id)
    version = configuration_version(record, now) if standing is None else standing.configuration
    fetched = readiness.configuration(record.nodes, states, version, now, limits.fresh_s)
    state, news = _settle([(CONFIGURATION, fetched)], limits.node_poll_s)
    if not fetched.ready:
        return state, news, standing
    advanced = await take_configuration(context, record, version, now)
    if advanced is None:
        words = "resources were repaired; what the nodes have stored they use from their next start on"
        return Complete(), {**news, IN_USE: StepNews(OperationStatus.SUCCEEDED, words)}, None
    match advanced.state:
        case Complete():
            status = OperationStatus.SUCCEEDED
        case Broken():
            status = OperationStatus.FAILED
        case _:
            status = OperationStatus.RUNNING
    return advanced.state, {**news, IN_USE: StepNews(status, advanced.sentence)}, advanced.rollout


async def _nodes(context: Context, record: ClusterRecord, now: datetime) -> tuple[State, dict[str, StepNews]]:
    """The steps after the resources, of a cluster that comes up for the first time."""
    limits = context.limits
    states = await context.store.node_states.of_cluster(record.id)
    enrolled = frozenset(
        [node for node in record.nodes if await context.store.credentials.credential(record.id, node) is not None]
    )
    if record.is_farm:
        last = (SERVING, readiness.serving(record.nodes, states, now, limits.fresh_s))
    else:
        last = (REPLICATION, readiness.replication(states, now, limits.fresh_s))
    return _settle([(ENROLMENT, readiness.enrolment(record.nodes, enrolled)), last], limits.node_poll_s)


def _settle(found: list[tuple[str, readiness.Readiness]], poll_s: float) -> tuple[State, dict[str, StepNews]]:
    news: dict[str, StepNews] = {}
    for name, step in found:
        status = OperationStatus.SUCCEEDED if step.ready else OperationStatus.RUNNING
        news[name] = StepNews(status, step.message)
        if not step.ready:
            return Working(poll_s), news
    return Complete(), news


def _resource_steps(specs: tuple[Spec, ...], notebook: Notebook) -> dict[str, StepNews]:
    total = Counter(step_of(spec.ref) for spec in specs)
    done = Counter(step_of(spec.ref) for spec in specs if spec.ref in notebook.done)
    news: dict[str, StepNews] = {}
    for name in RESOURCE_STEPS:
        pending = [ref for ref in sorted(notebook.notes) if step_of(ref) == name and ref not in notebook.done]
        if done[name] == total[name]:
            news[name] = StepNews(OperationStatus.SUCCEEDED, f"{total[name]} of {total[name]} ready")
        elif done[name] or pending:
            words = "; ".join(_pending_words(ref, notebook) for ref in pending)
            message = f"{done[name]} of {total[name]} ready" + (f"; {words}" if words else "")
            news[name] = StepNews(OperationStatus.RUNNING, message)
    return news


def _pending_words(ref: ResourceRef, notebook: Notebook) -> str:
    note = notebook.note(ref)
    if note.fault is not None and note.in_flight is None:
        return f"{ref}: {note.fault.code}, trying again"
    return f"{ref}: under way"


def _step_at_fault(specs: tuple[Spec, ...], error: ErrorDetail) -> str:
    for spec in specs:
        if error.target == (spec.field if isinstance(spec, Brought) else str(spec.ref)):
            return step_of(spec.ref)
    return STEP_MACHINES  # what is missing for a boot document
