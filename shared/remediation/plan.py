"""The planner: verdict, history, policy and the state of the fleet in, one decision out. Pure.

Guarantees, each a property test:
- no action on a node that serves, may serve, or is in the recorded in-sync set. A node outside that set cannot become
  primary (it would have to resynchronise first), so the time between this decision and its effect is harmless;
- in a farm, no action on a node while fewer than `minimum_healthy` of the others serve and are healthy;
- one action per cluster at a time, one per zone; at most `actions_per_day` per node in 24 h, each step once in 6 h;
- the same inputs give the same action id: two audits at once, or one that is repeated, mean one action.
Rules are asked in a fixed order and the first that holds decides; `rules.py` has their sentences.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from mirror_agent.contract import NodeName

from shared.health.verdict import ClusterVerdict, Fleet
from shared.model.cluster_kind import other
from shared.model.remediation import LADDER, SPENT, ActionRecord, NodeLadder, RemediationRecord, Step
from shared.model.remediation_policy import RemediationMode
from shared.remediation.model import DAY, LOOKS_NEEDED, STEP_PERIOD, Action, Decision, History, Policy
from shared.remediation.rules import PEOPLE, sentence
from shared.remediation.sight import (
    NodeSight,
    both_sick,
    healthy_others,
    look_at,
    may_serve,
    witness_names,
    witness_read,
)
from shared.remediation.watch import action_id

# The audit's word for "the record names an operator's action", which it does long after that action has ended.
LAST_ACTION: Final = "operation-action"
EXHAUSTED: Final = "ladder-exhausted"


def plan(verdict: ClusterVerdict, history: History, policy: Policy, fleet: Fleet, now: datetime) -> Decision:
    """`history.record` is the record after `watched(verdict, …)` of this look."""
    if not verdict.sick:
        return _quiet("nothing-sick")
    decisions = [_of_node(verdict, node, history, policy, fleet, now) for node in verdict.sick]
    # Of a farm several may be sick: one that nothing can be done for does not keep the next one from repair, nor the
    # end of another one's ladder from being counted.
    return min(decisions, key=lambda decision: (decision.action is None, decision.rule != EXHAUSTED, not decision.page))


def _of_node(
    verdict: ClusterVerdict, node: NodeName, history: History, policy: Policy, fleet: Fleet, now: datetime
) -> Decision:
    record = history.record
    blocked = (
        _by_policy(policy, now)
        or _by_situation(verdict, node, policy, fleet, now)
        or _by_time(record, node, policy, now)
        or _by_other_work(record, node, history.busy_zones, policy, now)
    )
    if blocked is not None:
        return blocked
    return _next_step(verdict, record, node, policy, now)


def _by_policy(policy: Policy, now: datetime) -> Decision | None:
    wishes = policy.wishes
    if wishes.mode is RemediationMode.OFF:
        return _quiet("mode-off")
    if wishes.pause_reasons:
        return _quiet("paused", reasons="; ".join(wishes.pause_reasons))
    for window in wishes.maintenance:
        if window.begins <= now < window.ends:
            return _quiet("maintenance-window", until=window.ends.isoformat(timespec="minutes"), reason=window.reason)
    if policy.changing:
        return _quiet("cluster-changing")
    return None


def _by_situation(
    verdict: ClusterVerdict, node: NodeName, policy: Policy, fleet: Fleet, now: datetime
) -> Decision | None:
    """Whose turn it is. Sacredness before everything that depends on time."""
    if fleet.storm:
        return _quiet("storm-guard")
    reasons = [reason for reason in verdict.paused_by if reason != LAST_ACTION or policy.acting]
    if reasons:
        return _quiet("platform-knows", reasons="; ".join(reasons))
    sacred = _of_farm(verdict, node, policy.minimum_healthy, now) if policy.is_farm else _of_mirror(verdict, node, now)
    if sacred is not None:
        return sacred
    sight = look_at(verdict, node, now)
    if sight.customer_initiated:
        return _quiet("customer-initiated", node)
    if sight.stopped_by_order:
        return _quiet("stopped-by-order", node)
    return None


def _of_mirror(verdict: ClusterVerdict, node: NodeName, now: datetime) -> Decision | None:
    if both_sick(verdict):
        return _quiet("both-sick", node)
    if verdict.serving is None:
        return _quiet("nobody-serves", node)
    if may_serve(verdict, node, now):
        return _quiet("serving-is-sacred", node)
    if not witness_read(verdict):
        return _quiet("witness-unread", node)
    if verdict.serving != other(node) or not witness_names(verdict, other(node)):
        return _quiet("nobody-serves", node)
    return None


def _of_farm(verdict: ClusterVerdict, node: NodeName, minimum: int, now: datetime) -> Decision | None:
    if may_serve(verdict, node, now):
        return _quiet("serving-is-sacred", node)
    healthy = healthy_others(verdict, node)
    if len(healthy) < minimum:
        return _quiet("minimum-healthy", node, healthy=len(healthy), minimum=minimum)
    return None


def _by_time(record: RemediationRecord, node: NodeName, policy: Policy, now: datetime) -> Decision | None:
    ladder, limits = record.ladder(node), policy.limits
    if ladder.suspended_at is not None:
        return _people("self-suspended", node, ladders=ladder.ladders)
    sick_s = 0.0 if ladder.sick_since is None else (now - ladder.sick_since).total_seconds()
    if sick_s < limits.sick_for_s or ladder.sick_looks < LOOKS_NEEDED:
        return _quiet(
            "not-sick-long-enough",
            node,
            sick_s=f"{sick_s:.0f}",
            looks=ladder.sick_looks,
            wanted_s=f"{limits.sick_for_s:.0f}",
        )
    events = (
        (policy.changed_at, "the last change of the cluster"),
        (record.serving_since, "a change of the serving node"),
        (ladder.booted_at, "a start of its VM"),
    )
    for at, what in events:
        if at is not None and now - at < timedelta(seconds=limits.grace_s):
            return _quiet("grace", node, grace_s=f"{limits.grace_s:.0f}", what=what)
    return None


def _by_other_work(
    record: RemediationRecord, node: NodeName, busy_zones: frozenset[str], policy: Policy, now: datetime
) -> Decision | None:
    running = record.open_action
    if running is not None:
        return _quiet("action-running", node, step=running.step.value, running=running.node)
    cool_s = policy.limits.cool_down_s
    for action in record.actions:
        if action.ended_at is not None and now - action.ended_at < timedelta(seconds=cool_s):
            return _quiet("cool-down", node, cool_s=f"{cool_s:.0f}")
    if policy.zones.get(node) in busy_zones:
        return _quiet("zone-busy", node)
    return None


def _next_step(
    verdict: ClusterVerdict, record: RemediationRecord, node: NodeName, policy: Policy, now: datetime
) -> Decision:
    ladder, limits = record.ladder(node), policy.limits
    spent = sum(1 for action in spent_actions(record, node) if now - _acted_at(action) < DAY)
    if spent >= limits.actions_per_day:
        return _people("budget-spent", node, count=spent)
    sight = look_at(verdict, node, now)
    left = [step for step in LADDER if step not in ladder.tried]
    possible = [step for step in left if _can_help(step, sight)]
    if possible and all(_lately(record, node, step, now) for step in possible):
        return _people("steps-spent", node)
    skipped: list[Step] = []
    for step in left:
        if step not in possible or _lately(record, node, step, now):
            skipped.append(step)
            continue
        rule = _rule_of(step, sight, farm=policy.is_farm)
        action = Action(action_id(verdict.cluster_id, node, ladder, step), node, ladder.incident or "", step)
        return Decision(
            rule,
            action,
            sentence(rule, node=node),
            dry_run=policy.wishes.mode is RemediationMode.DRY_RUN,
            node=node,
            skipped=tuple(skipped),
        )
    return _people(EXHAUSTED, node)


def with_ladder_ended(ladder: NodeLadder, policy: Policy, now: datetime) -> NodeLadder:
    """After `ladder-exhausted`: the next ladder begins, or remediation suspends itself."""
    ladders = ladder.ladders + 1
    suspended = now if ladders - ladder.forgiven >= policy.limits.ladders_before_suspension else None
    return ladder.model_copy(update={"tried": (), "ladders": ladders, "suspended_at": suspended})


def spent_actions(record: RemediationRecord, node: NodeName) -> Iterator[ActionRecord]:
    return (action for action in record.actions if action.node == node and action.status in SPENT)


def _acted_at(action: ActionRecord) -> datetime:
    return action.started_at or action.planned_at


def _lately(record: RemediationRecord, node: NodeName, step: Step, now: datetime) -> bool:
    return any(action.step is step and now - _acted_at(action) < STEP_PERIOD for action in spent_actions(record, node))


def _can_help(step: Step, sight: NodeSight) -> bool:
    match step:
        case Step.MODULE_RESTART:  # travels in the answer to a heartbeat
            return sight.heard and not sight.absent
        case Step.AGENT_RESTART:
            # A run command needs a living machine; in one that hangs it never ends, and keeps ARM from restarting it.
            alive = sight.heard or sight.answers is not False
            return alive and not sight.absent and not sight.without_power
        case Step.MACHINE_RESTART | Step.REDEPLOY:
            return not sight.absent
        case Step.REPLACE:
            return True


def _rule_of(step: Step, sight: NodeSight, *, farm: bool) -> str:
    match step:
        case Step.MODULE_RESTART:
            return "restart-farm-module" if farm else "restart-module"
        case Step.AGENT_RESTART:
            return "restart-agent"
        case Step.MACHINE_RESTART:
            return "start-machine" if sight.without_power else "restart-machine"
        case Step.REDEPLOY:
            return "redeploy-machine"
        case Step.REPLACE:
            if farm:
                return "recreate-farm-machine" if sight.absent else "replace-farm-machine"
            return "recreate-machine" if sight.absent else "replace-machine"


def _quiet(rule: str, node: NodeName | None = None, **values: object) -> Decision:
    return Decision(rule, None, sentence(rule, node=node, **values), node=node)


def _people(rule: str, node: NodeName, **values: object) -> Decision:
    assert rule in PEOPLE
    return Decision(rule, None, sentence(rule, node=node, **values), page=True, node=node)
