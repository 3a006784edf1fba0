"""The planner's policy from the cluster's record."""

from __future__ import annotations

from datetime import datetime

from mirror_agent.contract import NodeName

from shared.api.commands import time_limit
from shared.model.cluster import SETTLED, ClusterRecord
from shared.model.cluster_compute import zone_of as zone_in_turn
from shared.remediation.model import Policy


def policy_of(record: ClusterRecord, now: datetime) -> Policy:
    return Policy(
        wishes=record.spec.remediation,
        generation=record.generation,
        changing=record.state not in SETTLED or not record.ever_succeeded,
        changed_at=record.updated_at,
        acting=record.action is not None and now - record.action.requested_at <= time_limit(record),
        nodes=record.nodes,
        is_farm=record.is_farm,
        minimum_healthy=record.spec.healthy_needed,
        zones={node: zone_of(record, node) for node in record.nodes},
    )


def zone_of(record: ClusterRecord, node: NodeName) -> str:
    """Zone numbers are per subscription and region; a region without zones counts as one."""
    return f"{record.spec.location}-{zone_in_turn(record.spec.compute.zones, node) or '0'}"
