"""What the owner of a cluster allows the control plane to repair, when, and how often: part of the cluster's spec.

Every guard is on by default and the defaults are those of the field: one hour healthy resets (Cluster API), grace of
10 min (Azure scale sets), three actions a day (EC2, SafeKit). A pause is a list of reasons, one for everybody who
wants one; removing one leaves the others (Medik8s `pauseRequests`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AwareDatetime, Field, StringConstraints, field_validator, model_validator

from shared.model.document import ApiModel, FieldError

MAX_WINDOWS: Final = 32
MAX_PAUSES: Final = 16

Text = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


class RemediationMode(StrEnum):
    """`dry-run` decides and records what it would do, and does nothing."""

    ON = "on"
    DRY_RUN = "dry-run"
    OFF = "off"


class ManagementPolicy(StrEnum):
    """`full`: a resource deleted or changed by hand is brought back. `observe`: it is reported."""

    FULL = "full"
    OBSERVE = "observe"


class MaintenanceWindow(ApiModel):
    """From `begins` to `ends` nothing is repaired."""

    begins: AwareDatetime
    ends: AwareDatetime
    reason: Text

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.ends <= self.begins:
            raise FieldError("ends", f"the window ends at {self.ends}, not after it begins at {self.begins}; swap them")
        return self


class RemediationLimits(ApiModel):
    """Durations in seconds, judged by the control plane's own clock."""

    sick_for_s: Annotated[float, Field(ge=0, le=86_400)] = 120.0
    """A node must have been sick so long, and at two audits, before anything is done."""
    grace_s: Annotated[float, Field(ge=0, le=86_400)] = 600.0
    """After a start of the node's VM, a change of the serving node, an action or a change of the cluster."""
    agent_step_s: Annotated[float, Field(ge=5, le=3_600)] = 300.0
    """Time for a restart of module or agent to show an effect."""
    machine_step_s: Annotated[float, Field(ge=5, le=7_200)] = 600.0
    """The same for a restart or redeployment of the VM."""
    replace_step_s: Annotated[float, Field(ge=60, le=86_400)] = 3_600.0
    """The same for a new VM with its full resynchronisation."""
    cool_down_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    """Between the end of one step and the next."""
    healthy_reset_s: Annotated[float, Field(ge=1, le=86_400)] = 3_600.0
    """So long healthy ends the incident: the ladder begins at its cheapest step again."""
    actions_per_day: Annotated[int, Field(ge=1, le=10)] = 3
    """For one node within any 24 h."""
    ladders_before_suspension: Annotated[int, Field(ge=1, le=10)] = 3


class RemediationPolicy(ApiModel):
    mode: RemediationMode = RemediationMode.ON
    maintenance: Annotated[tuple[MaintenanceWindow, ...], Field(max_length=MAX_WINDOWS)] = ()
    pause_reasons: Annotated[tuple[Text, ...], Field(max_length=MAX_PAUSES)] = ()
    limits: RemediationLimits = RemediationLimits()

    @field_validator("pause_reasons")
    @classmethod
    def _different(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"pause reason {value!r} is given twice; removing one would not end the other")
        return values
