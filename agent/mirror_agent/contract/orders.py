"""What a node is told to do, by a person or by a rolling change, and what came of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from mirror_agent.contract.basics import MAX_SENTENCE_CHARS, Contract, Fingerprint, Seconds, moment


class CommandAction(StrEnum):
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    SWAP = "swap"


class Command(Contract):
    """An operator's wish that travels to the node in a heartbeat answer."""

    id: str
    action: CommandAction
    requested_by: str
    reason: str = ""


class CommandResult(Contract):
    """`accepted` while it runs; `succeeded` or `failed` once; repeated until the control plane has confirmed it."""

    id: str
    status: Literal["accepted", "succeeded", "failed"]
    message: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""


class OrderNote(Contract):
    """What a person ordered on a node past the control plane, and what came of it.

    `principal` is `certificate:<serial>` or `local:` and who the operating system says it is; `who` the same for
    people, with the way it came. `outcome` `unknown`: the agent or the link between the nodes ended while it was
    carried out. `code` says why it was refused before it began. `number` grows by one within a series of this node;
    what is missing was given up for want of room.
    """

    number: Annotated[int, Field(ge=1)]
    at_utc: Annotated[str, StringConstraints(max_length=40)]
    action: Annotated[str, StringConstraints(max_length=64)]
    principal: Annotated[str, StringConstraints(max_length=200)] = ""
    who: Annotated[str, StringConstraints(max_length=300)]
    reason: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""
    outcome: Literal["succeeded", "accepted", "refused", "failed", "unknown"]
    code: Annotated[str, StringConstraints(max_length=64)] = ""
    message: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""

    @field_validator("at_utc")
    @classmethod
    def _a_moment(cls, value: str) -> str:
        return moment(value)


class AgentRelease(Contract):
    """A wheel of the agent as the control plane offers it: GET /api/nodes/agent-wheel?sha256=…"""

    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+([.+a-z-][A-Za-z0-9.+-]*)?$", max_length=64)]
    wheel_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.+-]+\.whl$", max_length=200)]
    sha256: Fingerprint


class RolloutOrder(Contract):
    """This node's turn in a rolling change: begin anew with the configuration of this version and, if named, another
    agent. The order stands as long as the answers to heartbeats repeat it; a node carries out each `id` once."""

    id: Annotated[str, StringConstraints(max_length=128)]
    configuration_version: int
    agent: AgentRelease | None = None
    prove_within_s: Seconds = 180.0


class RolloutStage(StrEnum):
    """Of the last order: prepared beside what runs, begun anew, proven; or refused (nothing was changed), or returned
    (the new agent did not prove itself, the previous one runs)."""

    IDLE = "idle"
    PREPARING = "preparing"
    RESTARTING = "restarting"
    PROVING = "proving"
    DONE = "done"
    REFUSED = "refused"
    RETURNED = "returned"


class RolloutReport(Contract):
    """What this node works with. `configurationInUse`: every field of that version is in force. `order`, `stage` and
    `reason` are of the last order it took."""

    configuration_in_use: int
    order: Annotated[str, StringConstraints(max_length=128)] = ""
    stage: RolloutStage = RolloutStage.IDLE
    reason: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""
