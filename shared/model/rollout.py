"""A rolling change of a cluster's nodes: what every node is to have in the end, and whose turn it is.

Part of the cluster's record and the one truth: each step is one conditional write of it, before anything is ordered. An
order or command goes out only while the turn it belongs to stands here, for the operation that is at work.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from mirror_agent.contract import AgentRelease, NodeName
from pydantic import AwareDatetime

from shared.model.document import Document

UPGRADE: Final = "upgrade"


class TurnKind(StrEnum):
    NODE = "node"  # this node begins anew
    HAND_OVER = "hand-over"  # this node hands its role over


class Turn(Document):
    """`id` is the order's or the command's; a turn has one and keeps it."""

    kind: TurnKind
    node: NodeName
    id: str
    since: AwareDatetime


class Rollout(Document):
    """`agent` None: only the configuration is taken. `configuration`: the version that is to be in force everywhere, 0
    for whichever is. `waiting_since`: since when something outside has kept the next turn from beginning."""

    operation_id: str
    requested_by: str
    agent: AgentRelease | None = None
    configuration: int = 0
    turn: Turn | None = None
    turns: int = 0
    waiting_since: AwareDatetime | None = None
