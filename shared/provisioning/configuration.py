"""What a node is told: the configuration in the answers to enrolment and heartbeats.

The version grows with every accepted change of the cluster and with every renewal period of the witness signature; a
node fetches a configuration exactly when its version is below this one. Both parts of it only ever grow, and any two
instances of the control plane compute the same number from the same record at the same time.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from mirror_agent.contract import FarmConfiguration, NodeConfiguration, NodeName, Peer, WitnessAccess

from shared.model.cluster import ClusterRecord
from shared.model.cluster_spec import node_private_address
from shared.store.witness import RENEWAL

# Renewal periods that fit below one generation: 10,000 × 14 days is 383 years.
_PERIODS: Final = 10_000


def configuration_version(record: ClusterRecord, now: datetime) -> int:
    period = max(0, (now - record.created_at) // RENEWAL)
    return record.generation * _PERIODS + min(period, _PERIODS - 1)


def node_configuration(
    record: ClusterRecord, node: NodeName, *, witness: WitnessAccess, now: datetime
) -> NodeConfiguration:
    """`witness`: `store.witness.access(record.id, now)`; made by the caller, because it signs."""
    spec = record.spec
    (peer,) = peers_of(record, node)
    return NodeConfiguration(
        version=configuration_version(record, now),
        cluster_name=record.name,
        cluster_id=record.id,
        node=node,
        address=node_private_address(spec, node),
        peer=peer,
        witness=witness,
        application=spec.application,
        timing=spec.timing,
        failover=spec.failover,
        default_primary=spec.default_primary,
    )


def farm_configuration(record: ClusterRecord, node: NodeName, now: datetime) -> FarmConfiguration:
    spec = record.spec
    return FarmConfiguration(
        kind="farm",
        version=configuration_version(record, now),
        cluster_name=record.name,
        cluster_id=record.id,
        node=node,
        address=node_private_address(spec, node),
        peers=peers_of(record, node),
        application=spec.application,
        timing=spec.timing,
        minimum_healthy=spec.healthy_needed,
    )


def peers_of(record: ClusterRecord, node: NodeName) -> tuple[Peer, ...]:
    return tuple(
        Peer(name=peer, addresses=(node_private_address(record.spec, peer),)) for peer in record.nodes if peer != node
    )
