"""One step towards one resource: read it, compare it with its spec, begin a PUT or a DELETE, say how far it is.

After cluster-api-provider-azure's `azure/services/async`, at a fiftieth of the size. Guarantees:
- one call makes at most one write and never waits; what is under way is an ordinary outcome with a delay;
- the state of ARM's work is read from the resource's own `provisioningState`; the operation's URL, kept by the caller,
  serves only to learn the error of a failure (a resource does not tell why it failed) or that work which has not
  shown up on the resource yet is still running;
- losing the caller's notes (`InFlight`) costs at most one more PUT of the same body.

Errors of the wish itself (`NotOwned`, `ImmutableProperty`) come out of the spec unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from shared.azure.faults import ArmError, Fault, FaultKind
from shared.azure.ports import Accepted, Arm, OperationState
from shared.azure.resources import Body, ResourceRef

MAX_POLL_S: Final = 30.0

_RUNNING: Final = frozenset({"creating", "updating", "deleting", "accepted", "running", "migrating", "provisioning"})
_DELETING: Final = "deleting"
# A create whose answer was lost, repeated while reads do not show the resource yet.
_EXISTS_AFTER_ALL: Final = frozenset({"PropertyChangeNotAllowed", "ResourceAlreadyExists"})
_FAILED: Final = frozenset({"failed", "canceled"})


class ResourceSpec(Protocol):
    @property
    def ref(self) -> ResourceRef: ...

    @property
    def creatable(self) -> bool:
        """False: what only creation needs is not at hand; the resource is expected to be there."""

    def parameters(self, existing: Mapping[str, Any] | None, *, force: bool = False) -> Body | None: ...


@dataclass(frozen=True, slots=True)
class InFlight:
    """A write that was accepted; `operation_url` may be empty."""

    operation_url: str


@dataclass(frozen=True, slots=True)
class Done:
    """`resource` as it is now; None after a deletion."""

    resource: Body | None


@dataclass(frozen=True, slots=True)
class InProgress:
    """`delay_s`: what ARM asked for; 0 leaves the pause to the caller."""

    delay_s: float
    in_flight: InFlight | None
    message: str


@dataclass(frozen=True, slots=True)
class Failed:
    """`fault.retryable`: the caller may try again, later and not for ever. The write is no longer in flight."""

    fault: Fault


Outcome = Done | InProgress | Failed


async def ensure(arm: Arm, spec: ResourceSpec, in_flight: InFlight | None) -> Outcome:
    """One step towards the resource being as its spec wants it."""
    try:
        existing = await arm.get(spec.ref)
        if existing is None:
            if in_flight is not None:
                outcome = await _not_there_yet(arm, in_flight)
                if outcome is not None:
                    return outcome
            if not spec.creatable:
                return InProgress(0.0, None, f"{spec.ref}: vanished, looking again")
            return await _put(arm, spec, None, force=False)
        state = provisioning_state(existing)
        if state in _RUNNING:
            return InProgress(0.0, in_flight, f"{spec.ref}: {state}")
        if state in _FAILED and in_flight is not None:
            return Failed(await _reason(arm, in_flight, f"{spec.ref} is in state {state}"))
        if in_flight is not None and await _still_running(arm, in_flight):
            return InProgress(0.0, in_flight, f"{spec.ref}: working")
        return await _put(arm, spec, existing, force=state in _FAILED)
    except ArmError as error:
        return Failed(error.fault)


async def remove(arm: Arm, ref: ResourceRef, in_flight: InFlight | None) -> Outcome:
    """One step towards the resource not being there. Whether it may be deleted is the caller's decision."""
    try:
        existing = await arm.get(ref)
        if existing is None:
            return Done(None)
        state = provisioning_state(existing)
        if state == _DELETING:
            return InProgress(0.0, in_flight, f"{ref}: deleting")
        if in_flight is not None and in_flight.operation_url:
            operation = await arm.operation(in_flight.operation_url)
            if operation is not None and operation.state is OperationState.RUNNING:
                return InProgress(0.0, in_flight, f"{ref}: deleting")
            if operation is not None and operation.fault is not None:
                return Failed(operation.fault)
        return _in_progress(await arm.delete(ref), f"{ref}: deleting")
    except ArmError as error:
        return Failed(error.fault)


def provisioning_state(resource: Mapping[str, Any]) -> str:
    """Lower case; a resource that has no such property is settled."""
    properties = resource.get("properties") or {}
    return str(properties.get("provisioningState") or "Succeeded").lower()


async def _put(arm: Arm, spec: ResourceSpec, existing: Body | None, *, force: bool) -> Outcome:
    body = spec.parameters(existing, force=force)
    if body is None:
        return Done(existing)
    etag = existing.get("etag") if existing is not None else None
    try:
        accepted = await arm.put(spec.ref, body, etag)
    except ArmError as error:
        if existing is None and error.fault.code in _EXISTS_AFTER_ALL:
            return InProgress(0.0, None, f"{spec.ref}: {error.fault.code}, looking again")
        raise
    if accepted.body is not None and provisioning_state(accepted.body) == "succeeded":
        return Done(accepted.body)
    verb = "creating" if existing is None else "updating"
    return _in_progress(accepted, f"{spec.ref}: {verb}")


def _in_progress(accepted: Accepted, message: str) -> InProgress:
    delay_s = min(accepted.retry_after_s or 0.0, MAX_POLL_S)
    return InProgress(delay_s, InFlight(accepted.operation_url or ""), message)


async def _not_there_yet(arm: Arm, in_flight: InFlight) -> Outcome | None:
    """The PUT was accepted but the resource cannot be read: still at it, failed, or gone (then None: PUT again)."""
    if not in_flight.operation_url:
        return None
    operation = await arm.operation(in_flight.operation_url)
    if operation is None:
        return None
    if operation.fault is not None:
        return Failed(operation.fault)
    if operation.state is OperationState.RUNNING:
        return InProgress(0.0, in_flight, "accepted, not visible yet")
    return None


async def _still_running(arm: Arm, in_flight: InFlight) -> bool:
    """A resource may read Succeeded (of the PUT before) while the new operation has just begun."""
    if not in_flight.operation_url:
        return False
    operation = await arm.operation(in_flight.operation_url)
    return operation is not None and operation.state is OperationState.RUNNING


async def _reason(arm: Arm, in_flight: InFlight, otherwise: str) -> Fault:
    if in_flight.operation_url:
        operation = await arm.operation(in_flight.operation_url)
        if operation is not None and operation.fault is not None:
            return operation.fault
    return Fault(FaultKind.CAPACITY, "ProvisioningFailed", f"{otherwise}; ARM no longer tells why")
