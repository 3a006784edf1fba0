"""What a farm node does about an announced maintenance of its machine. Pure: the event and the node's facts in.

It leaves before the machine does: the load balancer sends nobody new, then the platform may begin, and when the
announcement is gone the node takes clients again. It does not leave while fewer than `minimum_healthy` others serve;
then everything is left to the announced time, since another node may come back until then. The steps and the words of
the platform are those of `net.scheduled_event_rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mirror_agent.core.model import Role
from mirror_agent.net.scheduled_event_rules import (
    LAST_CALL_S,
    RETRY_S,
    Announced,
    Conclusion,
    EventType,
    Situation,
    Step,
    left_s,
)
from mirror_agent.net.scheduled_events import NodeFacts

RULES: Final = {
    "another-machine": "The event is about another machine.",
    "has-begun": "The maintenance has begun: nothing can be done about it any more.",
    "out-of-time": "The announced time has come: the platform begins with or without an approval.",
    "leaving": "The load balancer is being told to send nobody new.",
    "takes-no-clients": "This node takes no clients: sooner is as good as later.",
    "short-freeze": "So short a pause costs its clients less than sending them elsewhere.",
    "asked-for-by-its-owner": "Too few others serve, and the owner of the machine asked for this.",
    "too-few-others": "Too few other nodes serve: one may come back in the time left.",
    "leaving-failed-lately": "Leaving failed a moment ago and is tried again.",
    "serves": "This node serves and enough others do: it leaves the farm first.",
}


@dataclass(frozen=True, slots=True)
class FarmConclusion(Conclusion):
    @property
    def sentence(self) -> str:
        return RULES[self.rule]


def facts(*, serves: bool, others_serving: int, minimum_healthy: int, bridged_s: float) -> NodeFacts:
    """In the words of the pair: who takes clients is "primary", enough others are "a peer that is ready"."""
    enough = others_serving >= minimum_healthy
    role = Role.PRIM if serves else Role.SECOND
    return NodeFacts(role=role, peer_ready=enough, peer_serves=others_serving > 0, bridged_s=bridged_s)


def conclude(event: Announced, here: Situation) -> FarmConclusion:
    """The first rule that applies."""
    if here.machine not in event.machines:
        return FarmConclusion(Step.IGNORE, "another-machine")
    if not event.scheduled:
        return FarmConclusion(Step.IGNORE, "has-begun")
    left = left_s(event, here.now)
    if left is not None and left <= LAST_CALL_S:
        return FarmConclusion(Step.APPROVE, "out-of-time")
    if here.handing_over:
        return FarmConclusion(Step.WAIT, "leaving")
    if here.role is not Role.PRIM:
        return FarmConclusion(Step.APPROVE, "takes-no-clients")
    if event.type == EventType.FREEZE and 0 <= event.duration_s < here.bridged_s:
        return FarmConclusion(Step.APPROVE, "short-freeze")
    if not here.peer_ready:
        if event.by_user:
            return FarmConclusion(Step.APPROVE, "asked-for-by-its-owner")
        return FarmConclusion(Step.WAIT, "too-few-others")
    if here.failed_at is not None and here.now - here.failed_at < timedelta(seconds=RETRY_S):
        return FarmConclusion(Step.WAIT, "leaving-failed-lately")
    return FarmConclusion(Step.HAND_OVER, "serves")
