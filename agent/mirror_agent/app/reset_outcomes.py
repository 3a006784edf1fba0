"""What came of resetting the connections of the service ports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ConnectionsReset:
    """No connection of the ports is left; `count` were destroyed."""

    count: int


@dataclass(frozen=True)
class ResetIncomplete:
    """New ones came faster than they were destroyed, or the deadline passed."""

    count: int
    reason: str


@dataclass(frozen=True)
class ResetImpossible:
    """The kernel refuses; clients wait for their own time-out."""

    reason: str


ResetOutcome = ConnectionsReset | ResetIncomplete | ResetImpossible
