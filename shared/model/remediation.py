"""What remediation remembers of a cluster: one row, replaced conditionally; the planner's history.

It is written before an action (`planned`), at its claim (`started`, before the call to the outside) and after it. A
row that says `started` and nothing more means that nobody knows whether the call went out; it is never made again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from mirror_agent.contract import NodeName
from pydantic import AwareDatetime, Field

from shared.model.document import Document

MAX_ACTIONS: Final = 60  # 2 nodes, at most 10 a day each, over some days


class Step(StrEnum):
    """The ladder, from cheap to dear; people are told after the last one."""

    MODULE_RESTART = "module-restart"
    AGENT_RESTART = "agent-restart"
    MACHINE_RESTART = "machine-restart"
    REDEPLOY = "redeploy"
    REPLACE = "replace"


LADDER: Final = tuple(Step)


class ActionStatus(StrEnum):
    PLANNED = "planned"
    STARTED = "started"
    SENT = "sent"
    CURED = "cured"
    NO_CURE = "no-cure"
    FAILED = "failed"
    REFUSED = "refused"  # the look right before acting did not allow it: nothing was done
    DRY_RUN = "dry-run"  # nothing was to be done


OPEN: Final = frozenset({ActionStatus.PLANNED, ActionStatus.STARTED, ActionStatus.SENT})
# What may have reached the node, and therefore counts against the budgets. A dry run counts as the real thing would.
SPENT: Final = frozenset(ActionStatus) - {ActionStatus.REFUSED, ActionStatus.PLANNED}


class ActionRecord(Document):
    """`id` is the idempotency key: made of cluster, node, incident, ladder and step."""

    id: str
    node: NodeName
    incident: str
    step: Step
    status: ActionStatus
    rule: str
    sentence: str
    planned_at: AwareDatetime
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    operation_url: str | None = None
    machine_id: str | None = None
    """Azure's unique id of the VM that a replacement is to delete: a new one of the same name is another VM."""
    result: str = ""
    refusals: int = 0
    """How often it was refused before anything was done; a refusal that never passes ends the step."""


class NodeLadder(Document):
    """One node's incident, if there is one, and where on the ladder it is."""

    incident: str | None = None
    opened_at: AwareDatetime | None = None
    sick_since: AwareDatetime | None = None
    sick_looks: int = 0
    healthy_since: AwareDatetime | None = None
    tried: tuple[Step, ...] = ()
    """Steps of the present ladder that were tried or found impossible."""
    ladders: int = 0
    """Ladders that ended without a cure; part of every action's id, so it only grows within an incident."""
    forgiven: int = 0
    """How many of them a person has seen: the suspension counts from here."""
    suspended_at: AwareDatetime | None = None
    boot_id: str | None = None
    booted_at: AwareDatetime | None = None


class Deviation(Document):
    """A resource that is not as the spec wants it. `repairable`: the reconciler can bring it back in place."""

    resource: str
    kind: str
    repairable: bool
    sentence: str


class RemediationRecord(Document):
    cluster_id: str
    cluster: str
    nodes: dict[NodeName, NodeLadder] = Field(default_factory=dict)
    actions: Annotated[tuple[ActionRecord, ...], Field(max_length=MAX_ACTIONS)] = ()
    looked_at: AwareDatetime | None = None
    generation: int = 0
    serving: NodeName | None = None
    serving_since: AwareDatetime | None = None
    rule: str = ""
    sentence: str = ""
    decided_at: AwareDatetime | None = None
    drift: tuple[Deviation, ...] = ()
    drift_checked_at: AwareDatetime | None = None

    def ladder(self, node: NodeName) -> NodeLadder:
        return self.nodes.get(node, NodeLadder())

    @property
    def open_action(self) -> ActionRecord | None:
        return next((action for action in self.actions if action.status in OPEN), None)


class Tracked(Document):
    """A cluster that needs attention. `zone`: where its open action works, "" if it has none."""

    cluster_id: str
    cluster: str
    zone: str = ""


class ZoneLease(Document):
    """`holder`: a cluster's id. `expires_at` by our own clock: long after the step it is for must have ended."""

    zone: str
    holder: str
    expires_at: AwareDatetime
