"""What the node's state means for an announced maintenance of its machine. Pure."""

from __future__ import annotations

from mirror_agent.core.model import SERVING, Instant, Role, State, Timing, peer_alive
from mirror_agent.net.scheduled_events import NodeFacts


def maintenance_facts(state: State, now: Instant, *, relaying: bool) -> NodeFacts:
    peer, alive = state.peer, peer_alive(state, now)
    stands_by = alive and peer.role is Role.SECOND and not peer.leaving
    return NodeFacts(
        role=state.role,
        peer_ready=state.role is Role.PRIM and stands_by and state.order is None,
        peer_serves=alive and peer.role in SERVING,
        bridged_s=bridged_s(state.timing),
        relaying=relaying,
    )


def bridged_s(timing: Timing) -> float:
    """A pause shorter than this is over before either node suspects the other: the last heartbeat may have been sent
    `heartbeat_s` before it began."""
    return max(0.0, timing.suspect_s - timing.heartbeat_s)
