"""How far the nodes themselves are, judged from what they have sent: pure.

A heartbeat counts only while it is fresh by our own clock of arrival; the node's clock is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mirror_agent.contract import NodeName, Phase, Role

from shared.model.cluster import NODES
from shared.model.node_state import NodeState


@dataclass(frozen=True, slots=True)
class Readiness:
    ready: bool
    message: str


def enrolment(enrolled: frozenset[NodeName]) -> Readiness:
    """Both nodes have exchanged their token for a certificate."""
    words = [f"node {node}: {'enrolled' if node in enrolled else 'waiting for its first boot'}" for node in NODES]
    return Readiness(enrolled == frozenset(NODES), ", ".join(words))


def replication(states: Mapping[NodeName, NodeState], now: datetime, fresh_s: float) -> Readiness:
    """One node is PRIM and ready, the other SECOND and ready, both by fresh heartbeats."""
    fresh = {node: state for node, state in states.items() if _fresh(state, now, fresh_s)}
    roles = {
        node: (state.heartbeat.role, state.heartbeat.phase is Phase.READY) for node, state in sorted(fresh.items())
    }
    wanted = {(Role.PRIM, True), (Role.SECOND, True)}
    message = ", ".join(_state_words(node, fresh.get(node)) for node in NODES)
    return Readiness(set(roles.values()) == wanted and len(roles) == len(NODES), message)


def configuration(states: Mapping[NodeName, NodeState], version: int, now: datetime, fresh_s: float) -> Readiness:
    """Every node that is alive has fetched the version. A silent node fetches it when it comes back."""
    words = []
    ready = True
    for node in NODES:
        state = states.get(node)
        if state is None or not _fresh(state, now, fresh_s):
            words.append(f"node {node}: silent, fetches it when it is back")
        elif state.configuration_version < version:
            ready = False
            words.append(f"node {node}: still has version {state.configuration_version}")
        else:
            words.append(f"node {node}: has version {state.configuration_version}")
    return Readiness(ready, ", ".join(words))


def _fresh(state: NodeState, now: datetime, fresh_s: float) -> bool:
    return (now - state.received_at).total_seconds() <= fresh_s


def _state_words(node: NodeName, state: NodeState | None) -> str:
    if state is None:
        return f"node {node}: no fresh heartbeat"
    return f"node {node}: {state.heartbeat.role.value} {state.heartbeat.phase.value}"
