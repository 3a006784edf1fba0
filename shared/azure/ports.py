"""What the control plane asks of Azure Resource Manager, without the SDK.

Every call is one short request (no polling, no waiting); long work is begun here and observed later, on the resource.
All methods raise `ArmError` and nothing else for anything Azure or the network does. Bodies are ARM's own JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mirror_agent.contract import OperatingSystem

from shared.azure.faults import ArmError, Fault, FaultKind
from shared.azure.resources import Body, ListedResource, ResourceRef


@dataclass(frozen=True, slots=True)
class Accepted:
    """A write was accepted. `operation_url`: where an asynchronous operation reports its end; None if there is none."""

    body: Body | None
    operation_url: str | None
    retry_after_s: float | None = None


class OperationState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ArmOperation:
    """An asynchronous operation as ARM describes it; `fault` when it failed or was cancelled."""

    state: OperationState
    fault: Fault | None = None


class Arm(Protocol):
    """Resources of one subscription."""

    async def get(self, ref: ResourceRef) -> Body | None:
        """The resource, or None if there is none (or its group is gone)."""

    async def put(self, ref: ResourceRef, body: Mapping[str, object], etag: str | None) -> Accepted:
        """Create or replace. With an ETag only if the resource is still the one that was read (fault `changed`)."""

    async def delete(self, ref: ResourceRef) -> Accepted:
        """Begin to delete; a resource that is not there is a success."""

    async def list_group(self, group: str) -> list[ListedResource]:
        """Every resource of a group, of any type; empty if the group does not exist."""

    async def operation(self, url: str) -> ArmOperation | None:
        """The state of an asynchronous operation; None if ARM has forgotten it."""


class BlindArm:
    """No way to Azure (a control plane without an identity, a unit test): every call says so."""

    async def get(self, ref: ResourceRef) -> Body | None:
        raise _blind()

    async def put(self, ref: ResourceRef, body: Mapping[str, object], etag: str | None) -> Accepted:
        raise _blind()

    async def delete(self, ref: ResourceRef) -> Accepted:
        raise _blind()

    async def list_group(self, group: str) -> list[ListedResource]:
        raise _blind()

    async def operation(self, url: str) -> ArmOperation | None:
        raise _blind()


def _blind() -> ArmError:
    return ArmError(Fault(FaultKind.TRANSIENT, "NoAccess", "the control plane has no access to Azure"))


class PowerAction(StrEnum):
    """What remediation does to a VM. `POWER_OFF_HARD` kills at once: it is a fence."""

    START = "start"
    RESTART = "restart"
    REDEPLOY = "redeploy"
    REAPPLY = "reapply"
    POWER_OFF = "powerOff"
    POWER_OFF_HARD = "powerOffHard"
    DEALLOCATE = "deallocate"


@dataclass(frozen=True, slots=True)
class InstanceView:
    """State of a VM as the platform sees it: `power` is e.g. `running`, `stopped`, `deallocated`; None if unknown.

    `agent_ready`: what Azure's VM agent reports of itself, needed for run command. `fault`: error of the last
    provisioning, if there is one.
    """

    power: str | None
    provisioning: str | None
    agent_ready: bool
    fault: Fault | None = None


class Machines(Protocol):
    """Actions on virtual machines. They are begun here; the end shows in `Arm.operation` and in the instance view."""

    async def instance_view(self, ref: ResourceRef) -> InstanceView | None: ...

    async def power(self, ref: ResourceRef, action: PowerAction) -> Accepted: ...

    async def run_command(self, ref: ResourceRef, script: tuple[str, ...], os: OperatingSystem = "linux") -> Accepted:
        """Run lines of shell as root, on Windows of PowerShell as SYSTEM, through Azure's VM agent. Never put a secret
        into them: ARM logs the call."""
