"""What one tick of work on a cluster comes to: a new notebook, observations, steps, and how to go on.

Frozen values between the workers (`build`, `teardown`) and the reconciler, which alone writes rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mirror_agent.contract import ALL_NODES, NodeName

from shared.model.cluster import ObservedResources
from shared.model.operation import ErrorDetail, OperationStatus, Step
from shared.model.rollout import Rollout
from shared.provisioning.notebook import Notebook


@dataclass(frozen=True, slots=True)
class StepNews:
    status: OperationStatus
    message: str


@dataclass(frozen=True, slots=True)
class Working:
    """Not finished: look again after `delay_s`."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Complete:
    """Everything wanted is there (or, for a deletion, gone)."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A person must act."""

    error: ErrorDetail


State = Working | Complete | Broken


@dataclass(frozen=True, slots=True)
class Progress:
    notebook: Notebook
    observed: ObservedResources
    state: State
    steps: Mapping[str, StepNews] = field(default_factory=dict)
    rollout: Rollout | None = None
    """As it is to be written; None: no node has a turn."""


# Names are the API's stable words, titles are for people; in the order in which they are shown.
_TITLES: dict[str, str] = {
    "resourceGroup": "Resource group",
    "network": "Virtual network, security rules, NAT gateway, public addresses",
    "loadBalancer": "Load balancer with the virtual IP",
    "nics": "Network interfaces",
    "disks": "Data disks",
    "machines": "Virtual machines",
    "enrolment": "Agents installed and enrolled",
    "replication": "Primary serving, secondary in sync",
    "serving": "Application serving on every node",
    "configuration": "New configuration on the nodes",
    "inUse": "New configuration in force",
    "handOver": "Role handed over to the node that was changed first",
    "records": "Stored records",
}
ENROLMENT: Final = "enrolment"
REPLICATION: Final = "replication"
SERVING: Final = "serving"
CONFIGURATION: Final = "configuration"
IN_USE: Final = "inUse"
HAND_OVER: Final = "handOver"
RECORDS: Final = "records"


def node_step(node: NodeName) -> str:
    """The step of one node in a rolling change."""
    return f"node-{node}"


_TITLES |= {node_step(node): f"Node {node}" for node in ALL_NODES}


def plan_steps(names: Iterable[str]) -> tuple[Step, ...]:
    return tuple(Step(name=name, title=_TITLES[name]) for name in names)
