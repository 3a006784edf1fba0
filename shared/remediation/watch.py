"""Keeping the history: what one more look at a cluster changes in its record. Pure.

Incidents open at the first sick look and close after `healthy_reset_s` of health, so a node that flaps has one incident
and one ladder. Nothing is concluded across a gap in which the audit itself was away: being sick starts to count anew.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from mirror_agent.contract import NodeName

from shared.health.verdict import ClusterVerdict, Health
from shared.model.remediation import OPEN, ActionRecord, ActionStatus, NodeLadder, RemediationRecord, Step
from shared.remediation.model import OBSERVER_GAP, PLAN_LIFETIME, Policy, step_limit_s
from shared.remediation.rules import sentence
from shared.remediation.sight import in_sync, look_at


def incident_id(cluster_id: str, node: NodeName, opened_at: datetime) -> str:
    text = f"{cluster_id}|{node}|{opened_at.isoformat()}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def action_id(cluster_id: str, node: NodeName, ladder: NodeLadder, step: Step) -> str:
    return f"{cluster_id}-{node}-{ladder.incident}-{ladder.ladders}-{step.value}"


def watched(verdict: ClusterVerdict, record: RemediationRecord, policy: Policy, now: datetime) -> RemediationRecord:
    """The record after this look."""
    away = record.looked_at is not None and now - record.looked_at > OBSERVER_GAP
    nodes = {node: _node(verdict, record, node, policy, now, away=away) for node in policy.nodes}
    if policy.generation != record.generation:
        # The spec was sent again: whoever did that has seen the suspension.
        nodes = {node: _resumed(ladder) for node, ladder in nodes.items()}
    serving, since = record.serving, record.serving_since
    if verdict.serving is not None and verdict.serving != serving:
        # The first serving node ever seen is no change.
        serving, since = verdict.serving, (now if serving is not None else since)
    actions = tuple(_action(action, verdict, policy, now) for action in record.actions)
    ended = [new for old, new in zip(record.actions, actions, strict=True) if old.status in OPEN and new != old]
    for action in ended:
        nodes[action.node] = after_step(nodes[action.node], action)
    return record.model_copy(
        update={
            "nodes": nodes,
            "actions": actions,
            "looked_at": now,
            "generation": policy.generation,
            "serving": serving,
            "serving_since": since,
        }
    )


def after_step(ladder: NodeLadder, action: ActionRecord) -> NodeLadder:
    """An ended step counts as tried, unless it was refused before anything was done for a passing reason."""
    if action.status is ActionStatus.REFUSED or ladder.incident != action.incident or action.step in ladder.tried:
        return ladder
    return ladder.model_copy(update={"tried": (*ladder.tried, action.step)})


def _node(
    verdict: ClusterVerdict,
    record: RemediationRecord,
    node: NodeName,
    policy: Policy,
    now: datetime,
    *,
    away: bool,
) -> NodeLadder:
    ladder = _booted(record.ladder(node), look_at(verdict, node, now).boot_id, now)
    judged = verdict.nodes.get(node)
    if node in verdict.sick:
        fresh = ladder.sick_since is None or away
        opened_at = ladder.opened_at or now
        return ladder.model_copy(
            update={
                "incident": ladder.incident or incident_id(verdict.cluster_id, node, opened_at),
                "opened_at": opened_at,
                "sick_since": now if fresh else ladder.sick_since,
                "sick_looks": 1 if fresh else ladder.sick_looks + 1,
                "healthy_since": None,
            }
        )
    calm = ladder.model_copy(update={"sick_since": None, "sick_looks": 0})
    well = judged is not None and judged.state in (Health.HEALTHY, Health.EXPOSED)
    if not well:
        # Not sick and not well (unknown, degraded): neither time of health nor time of sickness goes on.
        return calm.model_copy(update={"healthy_since": None})
    since = now if calm.healthy_since is None or away else calm.healthy_since
    if calm.incident is not None and now - since >= timedelta(seconds=policy.limits.healthy_reset_s):
        return NodeLadder(healthy_since=since, boot_id=ladder.boot_id, booted_at=ladder.booted_at)
    return calm.model_copy(update={"healthy_since": since})


def _booted(ladder: NodeLadder, boot_id: str | None, now: datetime) -> NodeLadder:
    if boot_id is None or boot_id == ladder.boot_id:
        return ladder
    # Within an incident a boot is the cure being tried, or the sickness itself: it earns no grace.
    earns_grace = ladder.boot_id is not None and ladder.incident is None
    return ladder.model_copy(update={"boot_id": boot_id, "booted_at": now if earns_grace else ladder.booted_at})


def _resumed(ladder: NodeLadder) -> NodeLadder:
    if ladder.suspended_at is None:
        return ladder
    return ladder.model_copy(update={"suspended_at": None, "forgiven": ladder.ladders})


def _action(action: ActionRecord, verdict: ClusterVerdict, policy: Policy, now: datetime) -> ActionRecord:
    """Ends an action by what became of its node."""
    if action.status is ActionStatus.PLANNED:
        if now - action.planned_at > PLAN_LIFETIME:
            return _ended(action, ActionStatus.REFUSED, sentence("stale-plan"), now)
        return action
    if action.status not in OPEN:
        return action
    judged = verdict.nodes.get(action.node)
    begun = action.started_at or action.planned_at
    well = judged is not None and judged.state is Health.HEALTHY
    # It was outside the recorded in-sync set when the step was planned; being in it again is what the step was for,
    # also where the verdict calls the node flapping for a while.
    if (well or in_sync(verdict, action.node)) and now > begun:
        return _ended(action, ActionStatus.CURED, sentence("cured", node=action.node), now)
    limit_s = step_limit_s(action.step, policy.limits)
    if now - begun > timedelta(seconds=limit_s):
        text = sentence("no-cure", step=action.step.value, limit_s=f"{limit_s:.0f}")
        return _ended(action, ActionStatus.NO_CURE, text, now)
    return action


def _ended(action: ActionRecord, status: ActionStatus, result: str, now: datetime) -> ActionRecord:
    return action.model_copy(update={"status": status, "result": result, "ended_at": now})
