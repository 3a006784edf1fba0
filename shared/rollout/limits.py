"""Bounds of a rollout: how long it waits for others, and for one node's turn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RolloutLimits:
    """A node's turn holds a download, an installation beside an application that comes first (two steps of 15 minutes
    at most), the agent's own check, and three starts of three minutes, in which it may be silent. A resync moves by
    itself and is not counted."""

    patience_s: float = 300.0
    turn_s: float = 3600.0
    silent_s: float = 900.0
    hand_over_s: float = 300.0
    prove_within_s: float = 180.0
