"""The storm guard: when many clusters look sick at once, the observer or its network is sick. Pure.

Counted are clusters in which this very look suspects a node, before any hysteresis: the guard must be faster than the
verdicts whose actions it stops. Entered at more than `STORM_AT_LEAST` clusters and more than `STORM_SHARE` of the
fleet; left after `STORM_CALM_S` of calm. The times live in the fleet's row, so a restart of the control plane neither
enters nor leaves. After Medik8s' storm cool-down (guard on by default, unlike Cluster API's).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from shared.health.limits import STORM_AT_LEAST, STORM_CALM_S, STORM_SHARE
from shared.health.rules import GUARD_RULES
from shared.health.verdict import ClusterVerdict, Fleet, Health

MAX_NAMES: Final = 20
# Silence that is not (yet) confirmed by a second source: exactly what a sick observer sees everywhere.
_UNSURE: Final = frozenset({"not-enough-evidence", "confirming", "silent-but-answering"})


def suspicious(verdict: ClusterVerdict) -> bool:
    """Is a node of this cluster suspected now? Clusters that are stopped or still being made are not."""
    if verdict.paused_by:
        return False
    return any(
        node.suspect or node.state is Health.DOWN or (node.rule in _UNSURE and node.state is not Health.HEALTHY)
        for node in verdict.nodes.values()
    )


def advance_fleet(before: Fleet, verdicts: Sequence[ClusterVerdict], now: datetime) -> tuple[Fleet, str]:
    """The guard after this look, and the rule that decided."""
    names = tuple(sorted(verdict.cluster for verdict in verdicts if suspicious(verdict)))
    sick = len(names)
    stormy = sick > max(STORM_AT_LEAST, STORM_SHARE * len(verdicts))
    fleet = replace(before, suspects=sick, clusters=len(verdicts), names=names[:MAX_NAMES])
    if stormy:
        rule = "storm-continues" if before.storm else "storm-entered"
        entered_at = before.entered_at if before.storm else now
        return _said(replace(fleet, storm=True, entered_at=entered_at, calm_since=None), rule), rule
    if not before.storm:
        return _said(fleet, "calm"), "calm"
    calm_since = before.calm_since or now
    if (now - calm_since).total_seconds() < STORM_CALM_S:
        return _said(replace(fleet, calm_since=calm_since), "storm-continues"), "storm-continues"
    return _said(replace(fleet, storm=False, calm_since=None, left_at=now), "storm-left"), "storm-left"


def _said(fleet: Fleet, rule: str) -> Fleet:
    return replace(fleet, sentence=f"{GUARD_RULES[rule]} ({fleet.suspects} of {fleet.clusters} clusters)")
