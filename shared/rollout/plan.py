"""The next step of a rolling change: state in, one step out. Pure.

Order: of a mirror the node that does not serve, then a swap, then the other one; of a farm one node after another.
Invariants, in every state and after a crash between any two writes:
- at most one turn stands, so at most one node is away on purpose;
- a turn begins only while all nodes are well and nothing else is at work, and the next one only after that is so again;
- a node that serves alone is never told to begin anew: it hands its role over first;
- whatever goes wrong ends the rollout with a sentence; what was done stays done, and asking again goes on from there.
Only `rollout.turn` makes anything happen, and it is written down before it does; so a tick may be repeated, lost or
doubled anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mirror_agent.contract import NodeName, RolloutStage, refusal

from shared.model.node_state import CommandStatus
from shared.model.rollout import Rollout, Turn, TurnKind
from shared.rollout.limits import RolloutLimits
from shared.rollout.rules import RULES, STOPPED
from shared.rollout.sight import NodeSight, Sight


@dataclass(frozen=True, slots=True)
class Step:
    """`rollout`: as it is to be written now. `ended`: None while it goes on, "" when it is done, else the code of the
    error. `hand_over`: the command of the standing turn is to be given to this node now, if it has not been."""

    rule: str
    sentence: str
    rollout: Rollout
    ended: str | None = None
    hand_over: NodeName | None = None


_LEAVES_IT: Final = frozenset({RolloutStage.REFUSED, RolloutStage.RETURNED})


def next_step(rollout: Rollout, sight: Sight, limits: RolloutLimits, control_plane: str, now: datetime) -> Step:
    """`control_plane`: the version of the agent that the control plane was made with."""
    turn = rollout.turn
    if turn is None:
        return _between_turns(rollout, sight, limits, control_plane, now)
    if turn.kind is TurnKind.NODE:
        return _node_at_work(rollout, turn, sight, limits, now)
    return _handing_over(rollout, turn, sight, limits, now)


def lacks(rollout: Rollout, node: NodeSight) -> bool:
    """Whether this node has yet to begin anew. One that cannot report takes a configuration at its next start."""
    if rollout.agent is not None and node.version != rollout.agent.version:
        return True
    return node.report is not None and node.report.configuration_in_use < rollout.configuration


def skew(rollout: Rollout, nodes: tuple[NodeSight, ...], control_plane: str) -> str:
    """Why the new agent could not work with the control plane, or beside one that has not changed yet."""
    if rollout.agent is None:
        return ""
    wanted = rollout.agent.version
    if reason := refusal("the new agent", wanted, "the control plane", control_plane):
        return reason
    reasons = (refusal("the new agent", wanted, f"node {node.name}", node.version) for node in nodes if node.version)
    return next((reason for reason in reasons if reason), "")


def _between_turns(rollout: Rollout, sight: Sight, limits: RolloutLimits, control_plane: str, now: datetime) -> Step:
    missing = [node for node in sight.nodes if lacks(rollout, node)]
    # A silent node stores the configuration when it is back; what it then lacks is not this operation's matter.
    lacking = [node for node in missing if node.fresh or rollout.agent is not None]
    if not lacking:
        silent = ", ".join(f"node {node.name} is silent and takes it when it is back" for node in missing)
        return Step("everywhere", silent or RULES["everywhere"], rollout, ended="")
    dumb = next((node for node in lacking if node.report is None and node.version), None)
    if dumb is not None:
        text = f"node {dumb.name} runs agent {dumb.version}, which takes no such orders; replace its VM"
        return _stopped("cannot-take-orders", text, rollout)
    if reason := skew(rollout, sight.nodes, control_plane):
        return _stopped("versions-too-far-apart", reason, rollout)
    if reason := sight.unwell or sight.busy:
        since = rollout.waiting_since or now
        if _over(since, limits.patience_s, now):
            return _stopped("waited-too-long", f"waited {limits.patience_s:g} s: {reason}", rollout)
        rule = "waits-for-sync" if sight.unwell else "waits-for-others"
        return Step(rule, reason, rollout.model_copy(update={"waiting_since": since}))
    free = [node for node in lacking if sight.farm or not node.serves]
    if free:
        node = free[0].name
        begun = _with_turn(rollout, TurnKind.NODE, node, now)
        return Step("node-begins", f"node {node} begins anew", begun)
    begun = _with_turn(rollout, TurnKind.HAND_OVER, lacking[0].name, now)
    return Step("hand-over-begins", f"node {lacking[0].name} hands its role over", begun)


def _node_at_work(rollout: Rollout, turn: Turn, sight: Sight, limits: RolloutLimits, now: datetime) -> Step:
    node = sight.node(turn.node)
    report = node.report
    mine = report is not None and report.order == turn.id
    stage = report.stage if report is not None and mine else RolloutStage.IDLE
    if report is not None and stage in _LEAVES_IT:
        return _stopped(f"node-{stage.value}", f"node {turn.node}: {report.reason}", rollout)
    heard = node.heard_at is not None and node.heard_at > turn.since
    proven = heard and not lacks(rollout, node) and stage in (RolloutStage.IDLE, RolloutStage.DONE)
    if proven and not sight.unwell:
        text = f"node {turn.node} has proven itself"
        return Step("node-done", text, _without_turn(rollout))
    if proven:
        words = sight.unwell
    elif not node.fresh:
        words = f"node {turn.node} is silent since {node.heard_at:%H:%M:%S} UTC" if node.heard_at else node.said
    else:
        words = f"node {turn.node}: {_stage_words(stage)}; it says: {node.said}"
    if _over(turn.since, limits.turn_s, now) and not (node.fresh and node.resyncing):
        return _stopped("node-late", f"not done within {limits.turn_s:g} s: {words}", rollout)
    if _over(max(turn.since, node.heard_at or turn.since), limits.silent_s, now):
        return _stopped("node-late", f"nothing was heard of it for {limits.silent_s:g} s: {words}", rollout)
    return Step("node-at-work", words, rollout)


def _handing_over(rollout: Rollout, turn: Turn, sight: Sight, limits: RolloutLimits, now: datetime) -> Step:
    serving, command = sight.serving, sight.command
    moved = serving is not None and serving != turn.node
    if moved and not sight.unwell:
        return Step("handed-over", f"node {serving} serves now", _without_turn(rollout))
    if command is not None and command.status is CommandStatus.FAILED and not moved:
        return _stopped("hand-over-failed", f"node {turn.node}: {command.message or 'it did not say why'}", rollout)
    if _over(turn.since, limits.hand_over_s, now):
        words = sight.unwell or f"node {serving} serves"
        return _stopped("hand-over-late", f"not done within {limits.hand_over_s:g} s: {words}", rollout)
    words = sight.unwell or f"node {turn.node} is told to hand over"
    return Step("handing-over", words, rollout, hand_over=None if command is not None or moved else turn.node)


def _with_turn(rollout: Rollout, kind: TurnKind, node: NodeName, now: datetime) -> Rollout:
    """Each turn has an id of its own, also the second one of a node: a node carries out an order once."""
    number = rollout.turns + 1
    turn = Turn(kind=kind, node=node, id=f"{rollout.operation_id}-{number}", since=now)
    return rollout.model_copy(update={"turn": turn, "turns": number, "waiting_since": None})


def _without_turn(rollout: Rollout) -> Rollout:
    return rollout.model_copy(update={"turn": None})


def _stopped(rule: str, sentence: str, rollout: Rollout) -> Step:
    return Step(rule, sentence, _without_turn(rollout), ended=STOPPED[rule])


def _over(since: datetime, limit_s: float, now: datetime) -> bool:
    return now - since > timedelta(seconds=limit_s)


def _stage_words(stage: RolloutStage) -> str:
    return {
        RolloutStage.IDLE: "has not heard of its turn yet",
        RolloutStage.PREPARING: "prepares what it needs",
        RolloutStage.RESTARTING: "begins anew",
        RolloutStage.PROVING: "has begun anew and proves itself",
        RolloutStage.DONE: "has proven itself",
        RolloutStage.REFUSED: "has refused",
        RolloutStage.RETURNED: "has returned to the previous agent",
    }[stage]
