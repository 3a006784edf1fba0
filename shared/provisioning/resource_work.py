"""One round of work on some resources: ask Azure about all of them at once, note the outcomes.

Shared by building and tearing down. A resource that must rest (Retry-After, back-off, polling pause) is left alone; a
failure that cannot pass by waiting, or has been tried too often, breaks the operation with ARM's own code and message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.azure.async_resource import Done, Failed, InFlight, InProgress, Outcome
from shared.azure.faults import LIMITED, Fault
from shared.azure.resources import Body, ResourceRef
from shared.model.operation import ErrorDetail
from shared.provisioning.limits import Limits
from shared.provisioning.notebook import Notebook, poll_delay_s, retry_delay_s
from shared.provisioning.specs.spec import SpecError

type_of_work = Callable[[ResourceRef, InFlight | None], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Round:
    """`finished`: resources that became done in this round (None: gone). `error`: the operation is broken."""

    notebook: Notebook
    finished: dict[ResourceRef, Body | None]
    error: ErrorDetail | None


async def work(
    refs: Sequence[ResourceRef], step: type_of_work, notebook: Notebook, now: datetime, limits: Limits
) -> Round:
    """`step(ref, in_flight)` for each resource that may be asked now, concurrently."""
    awake = [ref for ref in refs if notebook.resting(ref, now) == 0]
    outcomes = await asyncio.gather(*(_safe(step, ref, notebook.note(ref).in_flight) for ref in awake))
    finished: dict[ResourceRef, Body | None] = {}
    error: ErrorDetail | None = None
    for ref, outcome in zip(awake, outcomes, strict=True):
        match outcome:
            case Done(resource):
                notebook = notebook.finish(ref)
                finished[ref] = resource
            case InProgress(delay_s, in_flight, _):
                delay_s = poll_delay_s(notebook.note(ref), delay_s, now, limits)
                notebook = notebook.wait(ref, in_flight, delay_s, now)
            case Failed(fault):
                notebook = notebook.fail(ref, fault, retry_delay_s(notebook.note(ref), fault, limits), now)
                error = error or _broken(ref, fault, notebook.note(ref).attempts, limits)
            case SpecError():
                error = error or ErrorDetail(code=outcome.code, message=str(outcome), target=outcome.target)
    return Round(notebook, finished, error)


def next_look_s(refs: Sequence[ResourceRef], notebook: Notebook, now: datetime, limits: Limits) -> float:
    """When the first of these resources may be asked again."""
    first = min((notebook.resting(ref, now) for ref in refs), default=limits.poll_s)
    return min(max(first, limits.poll_s), limits.longest_pause_s)


def gave_up(notebook: Notebook, limits: Limits, waiting_for: str) -> ErrorDetail:
    """The error of an operation whose time is over: ARM's last word, if there was one."""
    minutes = limits.budget_s / 60
    last = notebook.last_fault()
    if last is not None:
        ref, fault = last
        message = f"{fault.message} (tried for {minutes:g} min and gave up)"
        return ErrorDetail(code=fault.code, message=message, target=str(ref))
    return ErrorDetail(
        code="OperationTimedOut",
        message=f"not finished after {minutes:g} min; still waiting for: {waiting_for}",
        target=waiting_for,
    )


async def _safe(step: type_of_work, ref: ResourceRef, in_flight: InFlight | None) -> Outcome | SpecError:
    try:
        return await step(ref, in_flight)
    except SpecError as error:
        return error


def _broken(ref: ResourceRef, fault: Fault, attempts: int, limits: Limits) -> ErrorDetail | None:
    if not fault.retryable:
        return ErrorDetail(code=fault.code, message=fault.message, target=str(ref))
    if fault.kind in LIMITED and attempts >= limits.max_attempts:
        message = f"{fault.message} (tried {attempts} times)"
        return ErrorDetail(code=fault.code, message=message, target=str(ref))
    return None
