"""What an error of Azure Resource Manager means for the next step; decided by status and error code, never by text.

| kind | meaning | what follows |
| --- | --- | --- |
| throttled | 429: too many calls | again after the server's Retry-After |
| transient | 5xx, 408, timeout, connection lost: nobody knows whether it happened | again (every call is idempotent) |
| conflict | another operation is at work, or something it refers to is not ready yet | again |
| changed | 412: the resource is not the one that was read | read again, decide again |
| denied | 401, 403: may pass when a role assignment has spread | again, a few times |
| capacity | the platform could not do it now (allocation, internal error) | again, a few times |
| refused | the wish itself is wrong, or a quota is reached | fail, a person must act |

Codes are from Microsoft's lists ("Common Azure deployment errors", "Allocation failures", the networking error table);
an unknown code is judged by its status. `OperationNotAllowed` (409) is used for both quotas and conflicts, which only
the text would tell apart: it is retried within the budget of the operation, which then fails with this very code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class FaultKind(StrEnum):
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    CONFLICT = "conflict"
    CHANGED = "changed"
    DENIED = "denied"
    CAPACITY = "capacity"
    REFUSED = "refused"


# Worth trying again, but each attempt costs a real operation: limited in number.
LIMITED: Final = frozenset({FaultKind.DENIED, FaultKind.CAPACITY})

_CAPACITY: Final = frozenset(
    {
        "AllocationFailed",
        "ZonalAllocationFailed",
        "OverconstrainedAllocationRequest",
        "OverconstrainedZonalAllocationRequest",
        "FabricInternalError",
        "InternalServerError",
        "InternalExecutionError",
        "InternalOperationError",
        "NetworkingInternalOperationError",
        "NetworkInternalOperationError",
        "OSProvisioningTimedOut",
        "OSProvisioningInternalError",
        "VMExtensionProvisioningError",
        "VMExtensionProvisioningTimeout",
        "VMStartTimedOut",
        "VMAgentStatusCommunicationError",
        "OperationPreempted",
        "OperationTimedOut",
        "Canceled",
        "CanceledAndSupersededDueToAnotherOperation",
        "RetryableError",
        "RetryableErrorDueToAnotherOperation",
        "ServiceUnavailable",
        "Timeout",
    }
)
_CONFLICT: Final = frozenset(
    {
        "AnotherOperationInProgress",
        "AttachDiskWhileBeingDetached",
        "Conflict",
        "ConflictingConcurrentWriteNotAllowed",
        "CanceledAndSupersededDueToAnotherOperation",
        "InUseSubnetCannotBeDeleted",
        "InUseNetworkSecurityGroupCannotBeDeleted",
        "InUseNatGatewayCannotBeDeleted",
        "NicInUse",
        "NicReservedForAnotherVm",
        "OperationNotAllowed",
        "ParentResourceNotFound",
        "PublicIPAddressCannotBeDeleted",
        "ReferencedResourceNotProvisioned",
        "ResourceGroupBeingDeleted",
        "ResourceGroupNotFound",
        "ResourceNotFound",
        "RetryableError",
        "RetryableErrorDueToAnotherOperation",
        "VirtualMachineBeingDeleted",
    }
)
_REFUSED: Final = frozenset(
    {
        "PropertyChangeNotAllowed",
        "PublicIPCountLimitReached",
        "QuotaExceeded",
        "SkuNotAvailable",
        "ResourceCountExceedsLimitDueToTemplate",
        "RequestDisallowedByPolicy",
        "ScopeLocked",
        "DnsRecordInUse",
        "NetworkAddressSpaceOverlap",
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as ARM reported it. `status` 0: there was no answer, or it is the error of an ended operation."""

    kind: FaultKind
    code: str
    message: str
    status: int = 0
    retry_after_s: float | None = None

    @property
    def retryable(self) -> bool:
        return self.kind is not FaultKind.REFUSED


class ArmError(Exception):
    """A call to Azure Resource Manager did not succeed."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.code}: {fault.message}")
        self.fault = fault


def kind_of_answer(status: int, code: str) -> FaultKind:
    """The meaning of an HTTP error answer."""
    if status == 429:
        return FaultKind.THROTTLED
    if status == 412 or code == "PreconditionFailed":
        return FaultKind.CHANGED
    if status in (401, 403):
        return FaultKind.REFUSED if code in _REFUSED else FaultKind.DENIED
    if status == 408 or status >= 500:
        return FaultKind.TRANSIENT
    if code in _REFUSED:
        return FaultKind.REFUSED
    if status == 409 or code in _CONFLICT:
        return FaultKind.CONFLICT
    return FaultKind.CAPACITY if code in _CAPACITY else FaultKind.REFUSED


def kind_of_failure(code: str) -> FaultKind:
    """The meaning of the error of an asynchronous operation that was accepted and then failed."""
    if code in _CAPACITY or code in _CONFLICT:
        return FaultKind.CAPACITY
    return FaultKind.REFUSED


assert not _REFUSED & (_CAPACITY | _CONFLICT), "a code cannot be both final and worth another attempt"
