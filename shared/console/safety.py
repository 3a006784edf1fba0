"""Is the data safe? One sentence from what the nodes themselves said last. Pure.

The nodes know whether a write is on both of them; the control plane only repeats it and says how old the news is. A
serving node is one that runs the application and answers the probe with OK; two of them at once is never explained
away: the newer epoch is shown and the contradiction is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from mirror_agent.contract import ApplicationState, NodeName, Role
from pydantic import AwareDatetime

from shared.model.document import ApiModel
from shared.model.node_state import NodeState


class Safety(StrEnum):
    IN_SYNC = "in-sync"
    EXPOSED = "exposed"
    NOT_SERVING = "not-serving"
    UNKNOWN = "unknown"


_SILENCE: Final = ("No node has reported yet.", "Node {} is silent.", "Nodes {} and {} are silent.")


class SafetyView(ApiModel):
    """`since` is set while exposed; by our clock, from the duration the node reported."""

    state: Safety
    sentence: str
    serving: NodeName | None = None
    epoch: int | None = None
    since: AwareDatetime | None = None


def safety(states: Mapping[NodeName, NodeState], now: datetime, silent_after_s: float) -> SafetyView:
    """From the latest heartbeats; one older than `silent_after_s` says nothing about the present."""
    fresh = {
        node: state for node, state in states.items() if (now - state.received_at).total_seconds() <= silent_after_s
    }
    serving = [state for state in fresh.values() if _serves(state)]
    if not serving:
        if len(fresh) == len(states) and fresh:
            return SafetyView(state=Safety.NOT_SERVING, sentence="No node serves the application.")
        silent = [node for node in states if node not in fresh]
        return SafetyView(state=Safety.UNKNOWN, sentence=_SILENCE[len(silent)].format(*silent))
    newest = max(serving, key=lambda state: state.heartbeat.epoch)
    beat = newest.heartbeat
    if len(serving) > 1:
        sentence = f"Both nodes say that they serve; node {beat.node} has the newer epoch {beat.epoch}."
        return SafetyView(state=Safety.UNKNOWN, sentence=sentence, serving=beat.node, epoch=beat.epoch)
    if beat.role is Role.PRIM and len(beat.in_sync) == 2:
        sentence = f"Every acknowledged write is on both nodes; node {beat.node} serves."
        return SafetyView(state=Safety.IN_SYNC, sentence=sentence, serving=beat.node, epoch=beat.epoch)
    since = None if beat.exposed_for_s is None else newest.received_at - timedelta(seconds=beat.exposed_for_s)
    sentence = f"Only node {beat.node} has the newest writes; the other one is not in sync."
    return SafetyView(state=Safety.EXPOSED, sentence=sentence, serving=beat.node, epoch=beat.epoch, since=since)


def _serves(state: NodeState) -> bool:
    beat = state.heartbeat
    return beat.probe_ok and beat.application is ApplicationState.RUNNING and beat.role in (Role.PRIM, Role.ALONE)
