"""Is the data safe? One sentence from what the nodes themselves said last. Pure.

The nodes know whether a write is on both of them; the control plane only repeats it and says how old the news is. A
serving node is one that runs the application and answers the probe with OK. What a node said of an epoch that another
one has left behind is over: a dead primary's last words must not hide that its peer took over. Two that serve in one
epoch are never explained away: the contradiction is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from mirror_agent.contract import ApplicationState, NodeName, Phase, Role
from pydantic import AwareDatetime

from shared.model.document import ApiModel
from shared.model.node_state import NodeState


class Safety(StrEnum):
    IN_SYNC = "in-sync"
    EXPOSED = "exposed"
    ALL_SERVE = "all-serve"
    REDUCED = "reduced"
    NOT_SERVING = "not-serving"
    UNKNOWN = "unknown"


_FARM: Final = ("Every node serves.", "No node serves the application.", "No node is known to serve.")
_SILENCE: Final = ("No node has reported yet.", "Node {} is silent.", "Nodes {} and {} are silent.")


class SafetyView(ApiModel):
    """`since` is set while exposed; by our clock, from the duration the node reported. A farm has no data of ours to
    be safe: `up` names the nodes that serve, and the state is all-serve, reduced, not-serving or unknown."""

    state: Safety
    sentence: str
    serving: NodeName | None = None
    epoch: int | None = None
    since: AwareDatetime | None = None
    up: tuple[NodeName, ...] = ()


def farm_safety(
    nodes: tuple[NodeName, ...], states: Mapping[NodeName, NodeState], now: datetime, silent_after_s: float
) -> SafetyView:
    """How many nodes of a farm serve, by their own fresh word."""
    fresh = {
        node: state for node, state in states.items() if (now - state.received_at).total_seconds() <= silent_after_s
    }
    up = tuple(node for node in nodes if (state := fresh.get(node)) is not None and _up(state))
    everybody, nobody, unknown = _FARM
    if len(up) == len(nodes):
        return SafetyView(state=Safety.ALL_SERVE, sentence=everybody, up=up)
    if up:
        sentence = f"{len(up)} of {len(nodes)} nodes serve: {', '.join(up)}."
        return SafetyView(state=Safety.REDUCED, sentence=sentence, up=up)
    if len(fresh) == len(nodes):
        return SafetyView(state=Safety.NOT_SERVING, sentence=nobody)
    return SafetyView(state=Safety.UNKNOWN, sentence=unknown)


def _up(state: NodeState) -> bool:
    beat = state.heartbeat
    return beat.role is Role.UP and beat.phase is Phase.READY and _serves(state)


def safety(states: Mapping[NodeName, NodeState], now: datetime, silent_after_s: float) -> SafetyView:
    """From the latest heartbeats; one older than `silent_after_s` says nothing about the present."""
    fresh = {
        node: state for node, state in states.items() if (now - state.received_at).total_seconds() <= silent_after_s
    }
    claims = [state for state in fresh.values() if state.heartbeat.role in (Role.PRIM, Role.ALONE)]
    epoch = max((state.heartbeat.epoch for state in claims), default=0)
    newest = [state for state in claims if state.heartbeat.epoch == epoch]
    serving = [state for state in newest if _serves(state)]
    if not serving and newest:
        return _starting(newest[0])
    if not serving:
        if len(fresh) == len(states) and fresh:
            return SafetyView(state=Safety.NOT_SERVING, sentence="No node serves the application.")
        silent = [node for node in states if node not in fresh]
        return SafetyView(state=Safety.UNKNOWN, sentence=_SILENCE[len(silent)].format(*silent))
    beat = serving[0].heartbeat
    if len(serving) > 1:
        sentence = f"Both nodes say that they serve, in epoch {epoch}."
        return SafetyView(state=Safety.UNKNOWN, sentence=sentence, epoch=epoch)
    if beat.role is Role.PRIM and len(beat.in_sync) == 2:
        sentence = f"Every acknowledged write is on both nodes; node {beat.node} serves."
        return SafetyView(state=Safety.IN_SYNC, sentence=sentence, serving=beat.node, epoch=beat.epoch)
    sentence = f"Only node {beat.node} has the newest writes; the other one is not in sync."
    since = _exposed_since(serving[0])
    return SafetyView(state=Safety.EXPOSED, sentence=sentence, serving=beat.node, epoch=beat.epoch, since=since)


def _exposed_since(state: NodeState) -> datetime | None:
    exposed_for_s = state.heartbeat.exposed_for_s
    return None if exposed_for_s is None else state.received_at - timedelta(seconds=exposed_for_s)


def _starting(state: NodeState) -> SafetyView:
    """The role is taken, the application does not serve yet (or not any more)."""
    beat = state.heartbeat
    if beat.role is Role.ALONE:
        sentence = f"Node {beat.node} is primary, its application does not serve yet; only it has the newest writes."
        return SafetyView(state=Safety.EXPOSED, sentence=sentence, epoch=beat.epoch, since=_exposed_since(state))
    sentence = f"Node {beat.node} is primary, its application does not serve yet."
    return SafetyView(state=Safety.NOT_SERVING, sentence=sentence, epoch=beat.epoch)


def _serves(state: NodeState) -> bool:
    beat = state.heartbeat
    return beat.probe_ok and beat.application is ApplicationState.RUNNING
