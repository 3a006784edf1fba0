"""Sample values of the control plane, shared by unit and conformance tests."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from mirror_agent.contract import ApplicationState, Heartbeat, NodeName, Phase, Role

from shared.model.cluster import ClusterRecord, OperationRef, ProvisioningState
from shared.model.cluster_spec import ClusterSpec
from shared.model.node_state import NodeState
from shared.model.operation import Operation, OperationKind

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8f someone@example.org"


class Clock:
    """Time that moves only when told."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def cluster_body(**changes: Any) -> dict[str, Any]:
    """The body of a PUT. A change is a dotted path with '__' for the dot: `network__subnet='10.1.0.0/24'`.

    With `kind='farm'` it replicates nothing unless that is asked for.
    """
    body: dict[str, Any] = {
        "location": "westeurope",
        "kind": "mirror",
        "tags": {"team": "ledger"},
        "compute": {"os": "linux", "image": "debian-12", "sshPublicKey": SSH_KEY},
        "network": {
            "addressSpace": "10.0.0.0/16",
            "subnet": "10.0.0.0/24",
            "adminAddresses": ["203.0.113.0/24"],
            "rules": [{"name": "ledger", "protocol": "tcp", "frontendPort": 8080, "backendPort": 8080}],
        },
        "application": {
            "name": "ledger",
            "startPrim": "./ledger &\n",
            "replicatedPaths": [{"path": "/data/ledger"}],
            "servicePorts": [8080],
        },
    }
    if changes.get("kind") == "farm":
        del body["application"]["replicatedPaths"]
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = body
        for parent in parents:
            target = target[parent]
        target[last] = value
    return body


def spec(**changes: Any) -> ClusterSpec:
    return ClusterSpec.model_validate(cluster_body(**changes))


def record(
    name: str = "pay",
    *,
    cluster_id: str | None = None,
    state: ProvisioningState = ProvisioningState.CREATING,
    **changes: Any,
) -> ClusterRecord:
    return ClusterRecord(
        id=cluster_id or str(uuid.uuid4()),
        name=name,
        spec=spec(**changes),
        generation=1,
        state=state,
        operation=OperationRef(
            id=str(uuid.uuid4()), kind=OperationKind.CREATE, generation=1, requested_at=NOW, requested_by="test"
        ),
        created_at=NOW,
        updated_at=NOW,
    )


def operation(cluster: ClusterRecord, operation_id: str | None = None) -> Operation:
    return Operation(
        id=operation_id or cluster.operation.id,
        kind=OperationKind.CREATE,
        cluster=cluster.name,
        cluster_id=cluster.id,
        generation=1,
        created_at=NOW,
        updated_at=NOW,
    )


def heartbeat(node: NodeName = "a", *, sequence: int = 1, role: Role = Role.PRIM, **changes: Any) -> Heartbeat:
    values: dict[str, Any] = {
        "node": node,
        "boot_id": "boot-1",
        "agent_start_id": "start-1",
        "sequence": sequence,
        "sent_utc": "2026-11-22T12:00:00Z",
        "role": role,
        "phase": Phase.READY,
        "epoch": 3,
        "in_sync": ("a", "b"),
        "rule": "keep-serving",
        "sentence": "PRIM, peer in sync",
        "application": ApplicationState.RUNNING,
        "probe_ok": role is Role.PRIM,
    }
    return Heartbeat(**{**values, **changes})


def farm_heartbeat(node: NodeName = "a", **changes: Any) -> Heartbeat:
    """Of a node that serves."""
    usual = {"epoch": 0, "in_sync": (), "probe_ok": True, "rule": "up", "sentence": "the application runs"}
    return heartbeat(node, **{"role": Role.UP, **usual, **changes})


def node_state(cluster_id: str, node: NodeName = "a", *, at: datetime = NOW, **changes: Any) -> NodeState:
    return NodeState(
        cluster_id=cluster_id,
        node=node,
        heartbeat=heartbeat(node, **changes),
        agent_version="0.1.0",
        configuration_version=1,
        received_at=at,
        agent_start_seen_at=at,
    )
