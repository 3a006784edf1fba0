"""The look right before acting. Pure: what was read a moment ago in, a reason not to act out (or none).

It does not trust the verdict that led to the plan, which may be a minute old: it reads who serves from the safety
record and from the newest heartbeats. A node outside the recorded in-sync set cannot become primary without being
resynchronised and published first, so this look stays true for longer than the call that follows it takes.
A farm has no record: there the newest heartbeats of the others must show that enough of them serve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirror_agent.contract import ApplicationState, NodeName, Phase, Role

from shared.model.cluster_kind import other
from shared.model.node_state import NodeState
from shared.model.remediation import ActionRecord
from shared.model.remediation_policy import RemediationMode
from shared.remediation.model import FRESH_S, PLAN_LIFETIME, Policy
from shared.store.ports import WitnessRecord

_SERVING: Final = frozenset({Role.PRIM, Role.ALONE})


@dataclass(frozen=True, slots=True)
class LastLook:
    witness: WitnessRecord | None
    states: Mapping[NodeName, NodeState]
    policy: Policy


def reason_against(look: LastLook, action: ActionRecord, now: datetime) -> tuple[str, str] | None:
    """(rule, words) that forbid the action now."""
    if action.started_at is None and now - action.planned_at > PLAN_LIFETIME:
        return "stale-plan", "it is too old"
    if (wishes := _wishes(look.policy, now)) is not None:
        return wishes
    if look.policy.is_farm:
        return _own_word(look, action.node, now) or _others(look, action.node, now)
    return _record(look.witness, action.node) or _own_word(look, action.node, now) or _peer(look, action.node, now)


def _wishes(policy: Policy, now: datetime) -> tuple[str, str] | None:
    wishes = policy.wishes
    if wishes.mode is not RemediationMode.ON:
        return "decision-changed", f"the mode is {wishes.mode.value}"
    if wishes.pause_reasons:
        return "decision-changed", f"paused: {'; '.join(wishes.pause_reasons)}"
    if any(window.begins <= now < window.ends for window in wishes.maintenance):
        return "decision-changed", "a maintenance window has begun"
    if policy.acting:
        return "decision-changed", "an operator's action is under way"
    if policy.changing:
        return "decision-changed", "the reconciler is at work on the cluster"
    return None


def _record(witness: WitnessRecord | None, node: NodeName) -> tuple[str, str] | None:
    if witness is None:
        return "decision-changed", "there is no safety record"
    if witness.primary != other(node):
        return "decision-changed", f"the safety record names {witness.primary or 'nobody'} the primary"
    if node in witness.in_sync.split(","):
        return "decision-changed", f"node {node} is in the recorded in-sync set ({witness.in_sync})"
    return None


def _own_word(look: LastLook, node: NodeName, now: datetime) -> tuple[str, str] | None:
    mine = look.states.get(node)
    if mine is None or not _fresh(mine, now):
        return None
    beat = mine.heartbeat
    if beat.role in _SERVING or _up(mine):
        return "decision-changed", f"node {node} says it is {beat.role.value}"
    if beat.role is Role.SECOND and beat.phase is Phase.READY:
        return "decision-changed", f"node {node} is back and in sync"
    if beat.role is Role.STOP:
        return "decision-changed", f"node {node} was stopped by an order"
    return None


def _others(look: LastLook, node: NodeName, now: datetime) -> tuple[str, str] | None:
    """Of a farm: enough others say, just now, that they serve."""
    up = [name for name, state in look.states.items() if name != node and _fresh(state, now) and _up(state)]
    for name in up:
        if node in (look.states[name].heartbeat.peers_up or ()):
            return "decision-changed", f"node {name} sees node {node} serve"
    if len(up) < look.policy.minimum_healthy:
        return "decision-changed", f"{len(up)} other nodes report that they serve, {look.policy.minimum_healthy} must"
    return None


def _up(state: NodeState) -> bool:
    beat = state.heartbeat
    return beat.role is Role.UP and beat.phase is Phase.READY and beat.application is ApplicationState.RUNNING


def _peer(look: LastLook, node: NodeName, now: datetime) -> tuple[str, str] | None:
    peer = look.states.get(other(node))
    if peer is None or not _fresh(peer, now) or peer.heartbeat.role not in _SERVING:
        return "decision-changed", f"node {other(node)} does not report that it serves"
    return None


def _fresh(state: NodeState, now: datetime) -> bool:
    return (now - state.received_at).total_seconds() <= FRESH_S
