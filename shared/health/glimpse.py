"""What the heartbeats alone say of a node, for a view that is asked for now; the audit concludes more (`assess`).

Rules, in order; the name of the one that decided is stored, logged and shown:
- `observer-just-started`: we ourselves were away, so silence proves nothing. Verdict unknown.
- `never-seen`: the node has not reported yet (it is still being made). Verdict unknown.
- `silent`: no heartbeat for longer than `silent_after_s`, and no answer to our probe. Verdict unhealthy.
- `silent-but-answering`: the same, yet our probe was answered: the module lives, its way to us does not. Unhealthy.
- `application-failed`: the node says itself that its application has failed; bad news is believed at once. Unhealthy.
- `fresh-heartbeat`: otherwise. A failed probe does not outweigh the node's own good news. Healthy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mirror_agent.contract import ApplicationState, Heartbeat

from shared.model.audit import NodeHealth
from shared.model.node_state import ProbeOutcome

MISSED_HEARTBEATS: Final = 3
SHORTEST_SILENCE_S: Final = 15.0
# The audit runs every 30 s; after three missed runs its picture of the fleet is too old to accuse anybody.
OBSERVER_GAP_S: Final = 90.0
_ANSWERED: Final = frozenset({ProbeOutcome.SERVING, ProbeOutcome.STANDBY, ProbeOutcome.UNEXPECTED})


@dataclass(frozen=True)
class NodeFacts:
    """`heartbeat_age_s` is ours, by arrival; None means that none ever arrived. `observer_gap_s` is the time since
    the audit last looked (None: never)."""

    heartbeat: Heartbeat | None
    heartbeat_age_s: float | None
    control_plane_heartbeat_s: float
    probe: ProbeOutcome | None
    observer_gap_s: float | None


@dataclass(frozen=True)
class Assessment:
    health: NodeHealth
    rule: str
    sentence: str


def silent_after_s(control_plane_heartbeat_s: float) -> float:
    """Three missed heartbeats, but at least 15 s: a cold start of the control plane must not look like silence."""
    return max(SHORTEST_SILENCE_S, MISSED_HEARTBEATS * control_plane_heartbeat_s)


def glimpse(facts: NodeFacts) -> Assessment:
    if facts.heartbeat is None or facts.heartbeat_age_s is None:
        return Assessment(NodeHealth.UNKNOWN, "never-seen", "the node has not reported yet")
    limit_s = silent_after_s(facts.control_plane_heartbeat_s)
    if facts.heartbeat_age_s > limit_s:
        return _silent(facts, facts.heartbeat_age_s, limit_s)
    if facts.heartbeat.application is ApplicationState.FAILED:
        return Assessment(NodeHealth.UNHEALTHY, "application-failed", facts.heartbeat.sentence)
    return Assessment(NodeHealth.HEALTHY, "fresh-heartbeat", facts.heartbeat.sentence)


def _silent(facts: NodeFacts, age_s: float, limit_s: float) -> Assessment:
    if facts.observer_gap_s is None or facts.observer_gap_s > OBSERVER_GAP_S:
        return Assessment(
            NodeHealth.UNKNOWN, "observer-just-started", f"no heartbeat for {age_s:.0f} s, but the audit was away too"
        )
    if facts.probe in _ANSWERED:
        return Assessment(
            NodeHealth.UNHEALTHY,
            "silent-but-answering",
            f"no heartbeat for {age_s:.0f} s (limit {limit_s:.0f} s), yet the probe was answered",
        )
    return Assessment(NodeHealth.UNHEALTHY, "silent", f"no heartbeat for {age_s:.0f} s (limit {limit_s:.0f} s)")
