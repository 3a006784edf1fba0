"""How far the nodes themselves are, judged from what they have sent: pure.

A heartbeat counts only while it is fresh by our own clock of arrival; the node's clock is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mirror_agent.contract import MIRROR_NODES, NodeName, Phase, Role

from shared.model.node_state import NodeState


@dataclass(frozen=True, slots=True)
class Readiness:
    ready: bool
    message: str


def enrolment(nodes: tuple[NodeName, ...], enrolled: frozenset[NodeName]) -> Readiness:
    """Every node has exchanged its token for a certificate."""
    words = [f"node {node}: {'enrolled' if node in enrolled else 'waiting for its first boot'}" for node in nodes]
    return Readiness(enrolled == frozenset(nodes), ", ".join(words))


def replication(states: Mapping[NodeName, NodeState], now: datetime, fresh_s: float) -> Readiness:
    """One node is PRIM and ready, the other SECOND and ready, both by fresh heartbeats."""
    fresh = {node: state for node, state in states.items() if _fresh(state, now, fresh_s)}
    roles = {node: (state.heartbeat.role, _ready(state)) for node, state in sorted(fresh.items())}
    wanted = {(Role.PRIM, True), (Role.SECOND, True)}
    message = ", ".join(_state_words(node, fresh.get(node)) for node in MIRROR_NODES)
    return Readiness(set(roles.values()) == wanted and len(roles) == len(MIRROR_NODES), message)


def serving(
    nodes: tuple[NodeName, ...], states: Mapping[NodeName, NodeState], now: datetime, fresh_s: float
) -> Readiness:
    """Of a farm: every node is UP and ready, by a fresh heartbeat."""
    fresh = {node: state for node, state in states.items() if _fresh(state, now, fresh_s)}
    up = {node for node, state in fresh.items() if state.heartbeat.role is Role.UP and _ready(state)}
    return Readiness(up == set(nodes), ", ".join(_state_words(node, fresh.get(node)) for node in nodes))


def configuration(
    nodes: tuple[NodeName, ...], states: Mapping[NodeName, NodeState], version: int, now: datetime, fresh_s: float
) -> Readiness:
    """Every node that is alive has fetched the version. A silent node fetches it when it comes back."""
    words = []
    ready = True
    for node in nodes:
        state = states.get(node)
        if state is None or not _fresh(state, now, fresh_s):
            words.append(f"node {node}: silent, fetches it when it is back")
        elif state.configuration_version < version:
            ready = False
            words.append(f"node {node}: still has version {state.configuration_version}")
        else:
            words.append(f"node {node}: has version {state.configuration_version}")
    return Readiness(ready, ", ".join(words))


def _ready(state: NodeState) -> bool:
    return state.heartbeat.phase is Phase.READY


def _fresh(state: NodeState, now: datetime, fresh_s: float) -> bool:
    return (now - state.received_at).total_seconds() <= fresh_s


def _state_words(node: NodeName, state: NodeState | None) -> str:
    if state is None:
        return f"node {node}: no fresh heartbeat"
    return f"node {node}: {state.heartbeat.role.value} {state.heartbeat.phase.value}"
