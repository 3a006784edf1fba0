"""Bounds of one operation: budgets, attempts, pauses."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.rollout.limits import RolloutLimits


@dataclass(frozen=True, slots=True)
class Limits:
    """Creating a cluster in Azure takes 5 to 10 minutes; the budget leaves room for retries."""

    budget_s: float = 45 * 60.0
    """Of the whole operation; past it the operation fails with the last error seen."""
    max_attempts: int = 5
    """For one resource, of failures that each cost a real operation (allocation, permission)."""
    first_retry_s: float = 2.0
    longest_retry_s: float = 60.0
    poll_s: float = 1.0
    longest_poll_s: float = 5.0
    longest_pause_s: float = 20.0
    """Between two ticks, whatever Azure asks for: an operation that is not touched for 30 s counts as lost."""
    node_poll_s: float = 2.0
    """While waiting for the nodes: enrolment, replication, configuration."""
    fresh_s: float = 30.0
    """A heartbeat older than this says nothing about now (the agent sends every 10 s by default)."""
    purge_rows: int = 500
    """Rows removed in one tick of a deletion."""
    rollout: RolloutLimits = field(default_factory=RolloutLimits)
