"""A fleet of healthy clusters in the tables, and a prober that answers for it without a network.

Real probes wait for the network and cost the control plane little processor; what is measured here is everything else.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from mirror_agent.contract import MIRROR_NODES, Heartbeat, MirrorReport, NodeName, Phase, Role

from bench.control_plane.storage import Bench
from shared.api.probe import Probed
from shared.model.cluster import ClusterRecord, ObservedNode, ObservedResources, ProvisioningState
from shared.model.node_state import NodeState, ProbeOutcome
from shared.store.desired import CLUSTERS
from shared.store.observed import STATES
from shared.store.rows import Row, document
from shared.store.witness import ROW_KEY, TABLE
from tests.control_plane_samples import heartbeat, record

AT_ONCE: Final = 32
SERVING: Final = "198.51.100.4"
STANDBY: Final = "198.51.100.5"


class FleetProber:
    async def probe(self, address: str) -> Probed:
        if address == SERVING:
            return Probed(ProbeOutcome.SERVING, 200, 1.5, "OK")
        return Probed(ProbeOutcome.STANDBY, 503, 1.5, "not here")


def cluster(name: str, now: datetime) -> ClusterRecord:
    made = record(name, state=ProvisioningState.SUCCEEDED, timing={"controlPlaneHeartbeatS": 600})
    nodes: dict[NodeName, ObservedNode] = {
        "a": ObservedNode(private_address="10.0.0.4", public_address=SERVING),
        "b": ObservedNode(private_address="10.0.0.5", public_address=STANDBY),
    }
    return made.model_copy(
        update={"resources": ObservedResources(nodes=nodes), "created_at": now, "updated_at": now, "action": None}
    )


def beat(node: NodeName, sequence: int = 1) -> Heartbeat:
    role = Role.PRIM if node == "a" else Role.SECOND
    mirror = MirrorReport(mode="strict", link="live", acknowledging="both")
    return heartbeat(
        node=node, role=role, phase=Phase.READY, epoch=4, in_sync=MIRROR_NODES, sequence=sequence, mirror=mirror
    )


async def fill(bench: Bench, names: Sequence[str], now: datetime) -> list[ClusterRecord]:
    """Writes the rows as the control plane does, in as few requests as the tables allow."""
    records = [cluster(name, now) for name in names]
    rows = [
        Row("cluster", made.name, {"clusterId": made.id, "state": made.state.value, **document(made)})
        for made in records
    ]
    await bench.rows.upsert(CLUSTERS, rows)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(made: ClusterRecord) -> None:
        states = [Row(made.id, node, document(state_of(made.id, node, now))) for node in MIRROR_NODES]
        witness = Row(
            made.id, ROW_KEY, {"epoch": 4, "primary": "a", "in_sync": "ab", "nonce": uuid.uuid4().hex, "rule": "won"}
        )
        async with gate:
            await bench.rows.upsert(STATES, states)
            await bench.rows.upsert(TABLE, [witness])

    await asyncio.gather(*(one(made) for made in records))
    return records


def state_of(cluster_id: str, node: NodeName, now: datetime) -> NodeState:
    return NodeState(
        cluster_id=cluster_id,
        node=node,
        heartbeat=beat(node),
        agent_version="0.1.0",
        configuration_version=1,
        received_at=now,
        agent_start_seen_at=now,
    )
