"""A control plane, an Azure and one cluster in memory, for tests of the executor."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from mirror_agent.contract import OperatingSystem, Role

from shared.api.plane import ControlPlane
from shared.azure.faults import ArmError, Fault
from shared.azure.ports import Accepted, InstanceView, PowerAction
from shared.azure.resources import ResourceRef
from shared.health.verdict import Fleet
from shared.model.cluster import ClusterRecord, ProvisioningState
from shared.model.node_state import NodeState
from shared.model.remediation import ActionRecord, RemediationRecord
from shared.model.remediation_policy import RemediationPolicy
from shared.remediation.context import Executor
from shared.remediation.execute import carry_out_all
from shared.remediation.tick import remediate
from shared.settings import Settings
from shared.store.connect import memory_store
from shared.store.memory_rows import MemoryRows
from shared.store.ports import Changed
from shared.store.queue import MemoryReconcileQueue
from shared.store.rows import Row, Value
from tests.control_plane_app import WRAPPING_KEY, ScriptedProber
from tests.control_plane_samples import Clock, node_state, record
from tests.remediation_samples import CLUSTER_ID, SICK_B, Scene, verdict
from tests.unit.provisioning.memory_arm import SUBSCRIPTION, MemoryArm

NO_GRACE = RemediationPolicy.model_validate({"limits": {"graceS": 0}})


@dataclass
class MemoryMachines:
    """What was done to which VM. `faults`: the next calls end so; `killed`: the process dies after the effect."""

    view: InstanceView | None = field(default_factory=lambda: InstanceView("running", "succeeded", True))
    done: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    killed: bool = False

    async def instance_view(self, ref: ResourceRef) -> InstanceView | None:
        return self.view

    async def power(self, ref: ResourceRef, action: PowerAction) -> Accepted:
        return self._do(f"{action.value} {ref.name}")

    async def run_command(self, ref: ResourceRef, script: tuple[str, ...], os: OperatingSystem = "linux") -> Accepted:
        return self._do(f"run {ref.name}: {'; '.join(script)}")

    def _do(self, words: str) -> Accepted:
        if self.faults:
            raise ArmError(self.faults.pop(0))
        self.done.append(words)
        if self.killed:
            self.killed = False
            raise Killed
        return Accepted(None, None)


class Killed(Exception):
    """The process died here."""


class Bench:
    """Node a serves alone, node b is silent; the safety record says so too."""

    def __init__(self, **changes: Any) -> None:
        self.clock = Clock()
        self.rows = MemoryRows()
        self.queue = MemoryReconcileQueue(self.clock)
        self.store = memory_store(self.rows, self.queue)
        self.arm = MemoryArm(self.clock)
        self.machines = MemoryMachines()
        numbers = itertools.count(1)
        self.plane = ControlPlane(
            settings=Settings(
                public_url="https://control.example.org",
                subscription_id=SUBSCRIPTION,
                arm_endpoint="https://management.example.org",
                wrapping_key=WRAPPING_KEY,
                bootstrap_token_sha256=None,
                easy_auth=False,
                agent_wheel=None,
                control_plane_addresses=(),
            ),
            store=self.store,
            clock=self.clock,
            new_id=lambda: f"00000000-0000-4000-8000-{next(numbers):012d}",
            prober=ScriptedProber(),
        )
        self.changes = changes

    async def prepare(self, *, cluster_id: str = CLUSTER_ID, name: str = "pay") -> Bench:
        cluster = record(name, cluster_id=cluster_id, state=ProvisioningState.SUCCEEDED, **self.changes)
        cluster = cluster.model_copy(update={"ever_succeeded": True})
        cluster = cluster.model_copy(update={"spec": cluster.spec.model_copy(update={"remediation": NO_GRACE})})
        await self.store.clusters.create(cluster)
        await self.arbiter("a", "a")
        await self.heard("a", Role.ALONE)
        return self

    def executor(self) -> Executor:
        return Executor(self.plane, self.arm, self.machines)

    async def arbiter(self, primary: str, in_sync: str, epoch: int = 5) -> None:
        columns: dict[str, Value] = {
            "epoch": epoch,
            "primary": primary,
            "in_sync": in_sync,
            "nonce": f"n{epoch}",
            "rule": "made-up",
        }
        await self.rows.upsert("witness", [Row(CLUSTER_ID, "record", columns)])

    async def heard(self, node: Any, role: Role, **changes: Any) -> None:
        state: NodeState = node_state(CLUSTER_ID, node, at=self.clock(), role=role, **changes)
        current = await self.store.node_states.get(CLUSTER_ID, node)
        await self.store.node_states.put(state, None if current is None else current.etag)

    async def audit(self, scene: Scene = SICK_B, *, times: int = 1, storm: bool = False) -> None:
        for _ in range(times):
            await remediate(self.plane, [verdict(scene, self.clock())], Fleet(storm=storm), self.clock())
            self.clock.advance(30)
            await self.heard("a", Role.ALONE)

    async def planned(self) -> ActionRecord:
        """Audits until something is planned."""
        for _ in range(20):
            await self.audit()
            action = (await self.row()).open_action
            if action is not None:
                return action
        raise AssertionError(f"nothing was planned: {(await self.row()).sentence}")

    async def run(self) -> None:
        await carry_out_all(self.executor())

    async def row(self) -> RemediationRecord:
        found = await self.store.remediations.get(CLUSTER_ID)
        assert found is not None
        return found.value

    async def cluster(self) -> ClusterRecord:
        found = await self.store.clusters.get("pay")
        assert found is not None
        return found.value

    async def respec(self, **update: Any) -> None:
        found = await self.store.clusters.get("pay")
        assert found is not None
        spec = found.value.spec.model_copy(update=update)
        try:
            await self.store.clusters.replace(found.value.model_copy(update={"spec": spec}), found.etag)
        except Changed as error:
            raise AssertionError("only the test writes clusters") from error
