"""What the planner sees and answers. Frozen values; no clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from mirror_agent.contract import MIRROR_NODES, NodeName

from shared.model.remediation import RemediationRecord, Step
from shared.model.remediation_policy import RemediationLimits, RemediationPolicy

DAY: Final = timedelta(hours=24)
STEP_PERIOD: Final = timedelta(hours=6)
LOOKS_NEEDED: Final = 2
# The audit runs every 30 s; after three missed runs nobody knows what was in between.
OBSERVER_GAP: Final = timedelta(seconds=90)
# An action that was planned, and not begun within this time, belongs to a situation that is past.
PLAN_LIFETIME: Final = timedelta(seconds=120)
# Older than this a heartbeat or a probe says nothing about who serves now (docs: 30 s freeze and one lost sample).
FRESH_S: Final = 45.0


@dataclass(frozen=True, slots=True)
class Policy:
    """The owner's wishes and the state of the cluster's record. `changed_at`: the last change or operator's action.
    `acting`: an operator's action (swap, stop…) may still be under way; the record keeps the last one for ever."""

    wishes: RemediationPolicy
    generation: int
    changing: bool
    changed_at: datetime
    zones: Mapping[NodeName, str] = field(default_factory=dict)
    acting: bool = False
    nodes: tuple[NodeName, ...] = MIRROR_NODES
    is_farm: bool = False
    minimum_healthy: int = 1
    """Of a farm: so many other nodes must be healthy before anything is done to one."""

    @property
    def limits(self) -> RemediationLimits:
        return self.wishes.limits


@dataclass(frozen=True, slots=True)
class History:
    """`busy_zones`: zones in which an action of another cluster is under way."""

    record: RemediationRecord
    busy_zones: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Action:
    """`id` is the same for the same cluster, incident, ladder and step, whoever computes it."""

    id: str
    node: NodeName
    incident: str
    step: Step


@dataclass(frozen=True, slots=True)
class Decision:
    """`page`: people are to be told. `dry_run`: the action is recorded and not carried out.
    `skipped`: steps that cannot help or may not be repeated yet; they count as tried."""

    rule: str
    action: Action | None
    sentence: str
    page: bool = False
    dry_run: bool = False
    node: NodeName | None = None
    skipped: tuple[Step, ...] = ()


def step_limit_s(step: Step, limits: RemediationLimits) -> float:
    """How long a step may take to show its effect."""
    match step:
        case Step.MODULE_RESTART | Step.AGENT_RESTART:
            return limits.agent_step_s
        case Step.MACHINE_RESTART | Step.REDEPLOY:
            return limits.machine_step_s
        case Step.REPLACE:
            return limits.replace_step_s
