"""Faults on demand: what Azure does on a bad day, chosen by a test.

A fault names the requests it wants (method, resource type, name, action; shell patterns, no case) and strikes `times`
requests, then it is spent. Refusing faults strike before the request is looked at; the others strike operations of
requests that were accepted. Production code never sees this module: it is reached by the Python object or the
authenticated `/lab/faults` endpoint.
"""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from lab.arm.errors import ArmError

MAX_FAULTS = 100


class FaultKind(StrEnum):
    THROTTLE = "throttle"  # 429 with Retry-After, request not processed
    REFUSE = "refuse"  # `status`/`code`/`message`, request not processed (409 AnotherOperationInProgress, 503…)
    FAIL = "fail"  # accepted; the operation ends Failed with `code` (AllocationFailed…) and nothing physical happens
    SLOW = "slow"  # accepted; the operation takes `delay_s` longer
    LOSE = "lose"  # accepted and done, but the operation's status URL answers 404
    HIDE = "hide"  # GET answers 404 although the resource exists (eventual consistency after a create)


@dataclass(slots=True)
class Fault:
    kind: FaultKind
    method: str = "*"  # PUT, GET, DELETE, POST, PATCH
    type: str = "*"  # "Microsoft.Compute/virtualMachines", "*/virtualMachines", "*/resourceGroups"
    name: str = "*"
    action: str = "*"  # of a POST: start, restart, runCommand…
    times: int = 1
    retry_after_s: int = 1
    status: int = 409
    code: str = "AnotherOperationInProgress"
    message: str = "Another operation on this or dependent resource is in progress."
    delay_s: float = 0.0
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    struck: int = 0

    def wants(self, method: str, type_name: str, name: str, action: str) -> bool:
        pairs = ((method, self.method), (type_name, self.type), (name, self.name), (action, self.action))
        return self.struck < self.times and all(fnmatchcase(value.lower(), want.lower()) for value, want in pairs)


@dataclass(frozen=True, slots=True)
class OperationFault:
    """What shall happen to the operation that a request starts."""

    delay_s: float = 0.0
    failure: ArmError | None = None
    lost: bool = False


class Faults:
    """The list of armed faults; oldest first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        if len(self._faults) >= MAX_FAULTS:
            raise ValueError(f"{MAX_FAULTS} faults are armed already; clear them first")
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def as_json(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(fault) for fault in self._faults]

    def strike_request(self, method: str, type_name: str, name: str, action: str = "") -> None:
        """Raises the `ArmError` of the first fault that refuses this request."""
        kinds = (FaultKind.THROTTLE, FaultKind.REFUSE) + ((FaultKind.HIDE,) if method == "GET" else ())
        fault = self._take(kinds, method, type_name, name, action)
        if fault is None:
            return
        match fault.kind:
            case FaultKind.THROTTLE:
                raise ArmError(
                    429,
                    "TooManyRequests",
                    "The request is being throttled as the limit has been reached for operation type "
                    f"'{method}'. Try again after {fault.retry_after_s} seconds.",
                    headers={"Retry-After": str(fault.retry_after_s)},
                )
            case FaultKind.HIDE:
                raise ArmError(404, "ResourceNotFound", f"The Resource '{type_name}/{name}' was not found.")
            case _:
                raise ArmError(fault.status, fault.code, fault.message)

    def for_operation(self, method: str, type_name: str, name: str, action: str = "") -> OperationFault:
        """Combines at most one fault of each kind that changes an accepted operation."""
        fail = self._take((FaultKind.FAIL,), method, type_name, name, action)
        slow = self._take((FaultKind.SLOW,), method, type_name, name, action)
        lose = self._take((FaultKind.LOSE,), method, type_name, name, action)
        return OperationFault(
            delay_s=slow.delay_s if slow else 0.0,
            failure=ArmError(fail.status, fail.code, fail.message) if fail else None,
            lost=lose is not None,
        )

    def _take(self, kinds: tuple[FaultKind, ...], method: str, type_name: str, name: str, action: str) -> Fault | None:
        for fault in self._faults:
            if fault.kind in kinds and fault.wants(method, type_name, name, action):
                fault.struck += 1
                return fault
        return None


ALLOCATION_GUIDANCE = (
    "Allocation failed. We do not have sufficient capacity for the requested VM size in this region. Read more about "
    "improving likelihood of allocation success at https://aka.ms/allocation-guidance"
)


def allocation_failure(name: str = "*", *, zonal: bool = True, times: int = 1) -> Fault:
    """The next `times` creates or starts of the VM end Failed for want of capacity."""
    return Fault(
        FaultKind.FAIL,
        method="P*",  # PUT (create) and POST (start…), not DELETE
        type="*/virtualMachines",
        name=name,
        times=times,
        status=409,
        code="ZonalAllocationFailed" if zonal else "AllocationFailed",
        message=ALLOCATION_GUIDANCE,
    )
