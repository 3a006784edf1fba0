"""A decision written into the record. Pure; the one place where an action is planned."""

from __future__ import annotations

from datetime import datetime

from shared.model.remediation import MAX_ACTIONS, ActionRecord, ActionStatus, RemediationRecord
from shared.remediation.model import Decision, Policy
from shared.remediation.plan import EXHAUSTED, with_ladder_ended


def decided(record: RemediationRecord, decision: Decision, policy: Policy, now: datetime) -> RemediationRecord:
    """The record with the decision in it. An action whose id was already carried out is never planned again."""
    nodes = dict(record.nodes)
    if decision.node is not None:
        ladder = record.ladder(decision.node)
        if decision.rule == EXHAUSTED:
            ladder = with_ladder_ended(ladder, policy, now)
        if decision.action is not None:
            done = (*decision.skipped, *((decision.action.step,) if decision.dry_run else ()))
            ladder = ladder.model_copy(update={"tried": (*ladder.tried, *done)})
        nodes[decision.node] = ladder
    return record.model_copy(
        update={
            "nodes": nodes,
            "actions": _actions(record, decision, now),
            "rule": decision.rule,
            "sentence": decision.sentence,
            "decided_at": now,
        }
    )


def _actions(record: RemediationRecord, decision: Decision, now: datetime) -> tuple[ActionRecord, ...]:
    action = decision.action
    if action is None:
        return record.actions
    earlier = next((known for known in record.actions if known.id == action.id), None)
    if earlier is not None and earlier.status is not ActionStatus.REFUSED:
        return record.actions
    planned = ActionRecord(
        id=action.id,
        node=action.node,
        incident=action.incident,
        step=action.step,
        status=ActionStatus.DRY_RUN if decision.dry_run else ActionStatus.PLANNED,
        rule=decision.rule,
        sentence=decision.sentence,
        planned_at=now,
        ended_at=now if decision.dry_run else None,
        refusals=0 if earlier is None else earlier.refusals,
    )
    others = tuple(known for known in record.actions if known.id != action.id)
    return (*others, planned)[-MAX_ACTIONS:]
