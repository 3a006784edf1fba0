"""When a farm node may begin anew for a rolling change, and when it has proven itself. Pure.

It may go when enough others serve, or when it serves nobody itself. It has proven itself when it takes clients; a node
that somebody had stopped before has nothing more to prove than that its new agent reports.
"""

from __future__ import annotations

from mirror_agent.farm.model import Decision
from mirror_agent.node.rollout_rules import RolloutFacts


def hold(decision: Decision, others_serving: int, minimum_healthy: int) -> str:
    """Why this node may not begin anew, "" if it may."""
    if decision.serves and others_serving < minimum_healthy:
        return f"this node serves and only {others_serving} others do; {minimum_healthy} must"
    return ""


def rollout_facts(
    decision: Decision,
    *,
    others_serving: int,
    minimum_healthy: int,
    began_stopped: bool,
    delivered: bool,
    stored: int,
    refused: str,
) -> RolloutFacts:
    return RolloutFacts(
        hold=hold(decision, others_serving, minimum_healthy),
        healthy=decision.serves or (began_stopped and decision.rule == "stopped"),
        resyncing=False,
        delivered=delivered,
        stored=stored,
        refused=refused,
        sentence=decision.sentence,
    )
