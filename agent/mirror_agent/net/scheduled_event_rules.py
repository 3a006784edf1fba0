"""What a node does about an announced maintenance of its machine. Pure: the event and the node's facts in, a named step
out.

The platform announces (Azure, "Scheduled Events for Linux VMs"): Freeze and Reboot 15 minutes ahead, Redeploy 10,
Preempt 30 seconds, Terminate 5 to 15 minutes. Approving lets it begin at once; unapproved it begins at NotBefore. So a
serving node hands over first and approves then; a node that does not serve approves as soon as its peer serves, because
then sooner is as good as later; and nothing is ever kept waiting past NotBefore.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from mirror_agent.core.model import SERVING, Role

# Between an approval and the first effect the platform needs about this long; after this point only the approval helps.
LAST_CALL_S: Final = 2.0
RETRY_S: Final = 5.0


class EventType(StrEnum):
    FREEZE = "Freeze"
    REBOOT = "Reboot"
    REDEPLOY = "Redeploy"
    PREEMPT = "Preempt"
    TERMINATE = "Terminate"


@dataclass(frozen=True, slots=True)
class Announced:
    """One event of the metadata service. `not_before` None: it has begun, or says no time. `duration_s` -1: unknown."""

    id: str
    type: str
    scheduled: bool
    machines: tuple[str, ...]
    not_before: datetime | None
    duration_s: float
    by_user: bool


@dataclass(frozen=True, slots=True)
class Situation:
    """`bridged_s`: a pause shorter than this goes unnoticed by the pair. `peer_ready`: a replica in sync can take the
    role. `relaying`: after a hand-over new connections still come here. `handing_over`: an order of
    ours for this is on its way; `failed_at`: when the last such order failed."""

    machine: str
    role: Role
    peer_ready: bool
    peer_serves: bool
    bridged_s: float
    now: datetime
    relaying: bool = False
    handing_over: bool = False
    failed_at: datetime | None = None


class Step(StrEnum):
    IGNORE = "ignore"
    WAIT = "wait"
    HAND_OVER = "hand-over"
    APPROVE = "approve"


RULES: Final = {
    "another-machine": "The event is about another machine.",
    "has-begun": "The maintenance has begun: nothing can be done about it any more.",
    "out-of-time": "The announced time has come: the platform begins with or without an approval.",
    "handing-over": "The role is being handed over to the peer.",
    "connections-are-passed-on": "The load balancer still sends connections here; they are passed on to the peer.",
    "does-not-serve": "This node does not serve: sooner is as good as later.",
    "nobody-serves-yet": "The peer does not serve (yet): this node may be needed.",
    "short-freeze": "So short a pause goes unnoticed by the pair.",
    "asked-for-by-its-owner": "Nobody can take the role, and the owner of the machine asked for this.",
    "nobody-to-hand-over-to": "This node serves and nobody can take the role: a peer may come back in the time left.",
    "hand-over-failed-lately": "The hand-over failed a moment ago and is tried again.",
    "serves": "This node serves and its peer is in sync: the role is handed over first.",
}


@dataclass(frozen=True, slots=True)
class Conclusion:
    step: Step
    rule: str

    @property
    def sentence(self) -> str:
        return RULES[self.rule]


def conclude(event: Announced, here: Situation) -> Conclusion:
    """The first rule that applies."""
    if here.machine not in event.machines:
        return Conclusion(Step.IGNORE, "another-machine")
    if not event.scheduled:
        return Conclusion(Step.IGNORE, "has-begun")
    if _out_of_time(event, here):
        return Conclusion(Step.APPROVE, "out-of-time")
    if here.handing_over:
        return Conclusion(Step.WAIT, "handing-over")
    if here.role not in SERVING:
        if here.relaying:
            return Conclusion(Step.WAIT, "connections-are-passed-on")
        if here.role is Role.STOP or here.peer_serves:
            return Conclusion(Step.APPROVE, "does-not-serve")
        # The peer may be about to begin, or this node may be about to take over from it.
        return Conclusion(Step.WAIT, "nobody-serves-yet")
    if event.type == EventType.FREEZE and 0 <= event.duration_s < here.bridged_s:
        return Conclusion(Step.APPROVE, "short-freeze")
    if not here.peer_ready:
        if event.by_user:
            return Conclusion(Step.APPROVE, "asked-for-by-its-owner")
        return Conclusion(Step.WAIT, "nobody-to-hand-over-to")
    if here.failed_at is not None and here.now - here.failed_at < timedelta(seconds=RETRY_S):
        return Conclusion(Step.WAIT, "hand-over-failed-lately")
    return Conclusion(Step.HAND_OVER, "serves")


def left_s(event: Announced, now: datetime) -> float | None:
    """Time until NotBefore; None when the event names none."""
    return None if event.not_before is None else (event.not_before - now).total_seconds()


def _out_of_time(event: Announced, here: Situation) -> bool:
    left = left_s(event, here.now)
    return left is not None and left <= LAST_CALL_S
