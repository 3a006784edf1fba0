"""A control plane, an Azure and two nodes in memory, driven by a queue and a clock that moves only when told."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from mirror_agent.contract import NodeName, Role

from shared.model.cluster import ClusterRecord, OperationRef, ProvisioningState
from shared.model.operation import Operation, OperationKind
from shared.model.principal import NodeCredential
from shared.provisioning.configuration import configuration_version
from shared.provisioning.context import Context
from shared.provisioning.limits import Limits
from shared.provisioning.reconcile import handle
from shared.provisioning.windows_artifacts import WindowsArtifacts
from shared.security.enrolment import find_enrolment
from shared.store.connect import memory_store
from shared.store.memory_rows import MemoryRows
from shared.store.ports import Changed, ReconcileMessage
from shared.store.queue import MemoryReconcileQueue
from tests.control_plane_samples import Clock, node_state, operation, record
from tests.unit.provisioning.memory_arm import SUBSCRIPTION, MemoryArm

CLUSTER_ID = "6f1d2c3b-0000-4000-8000-00000000abcd"
REDELIVERY_S = 30


class Killed(Exception):
    """The process died here."""


class Fuse:
    """Kills at the n-th call to the outside, before or after the call had its effect."""

    def __init__(self, at: int | None = None, *, after: bool = False) -> None:
        self.at = at
        self.after = after
        self.calls = 0

    def wrap(self, target: Any) -> Any:
        fuse = self

        class Fused:
            def __getattr__(self, name: str) -> Any:
                method = getattr(target, name)
                if not callable(method):
                    return method

                async def call(*arguments: Any, **options: Any) -> Any:
                    fuse.calls += 1
                    dies = fuse.calls == fuse.at
                    if dies and not fuse.after:
                        raise Killed
                    result = await method(*arguments, **options)
                    if dies:
                        raise Killed
                    return result

                return call

        return Fused()


class World:
    def __init__(
        self,
        wheel: Path,
        *,
        limits: Limits | None = None,
        fuse: Fuse | None = None,
        windows: WindowsArtifacts | None = None,
        **changes: Any,
    ) -> None:
        self.clock = Clock()
        self.arm = MemoryArm(self.clock)
        self.fuse = fuse or Fuse()
        self.rows = MemoryRows()
        self.queue = MemoryReconcileQueue(self.clock)
        self.store = memory_store(self.rows, self.queue)
        self.nodes_answer = True
        self.record = record("pay", cluster_id=CLUSTER_ID, **changes)
        self.roles: dict[NodeName, Role] = {"a": Role.PRIM, "b": Role.SECOND}
        if self.record.is_farm:
            self.roles = dict.fromkeys(self.record.nodes, Role.UP)
        self.context = Context(
            store=memory_store(self.fuse.wrap(self.rows), self.queue),
            arm=self.fuse.wrap(self.arm),
            subscription_id=SUBSCRIPTION,
            public_url="https://plane.example.org",
            control_plane_addresses=("198.51.100.7/32",),
            agent_wheel=wheel,
            clock=self.clock,
            windows=windows,
            limits=limits or Limits(),
        )

    # --- what callers of the API do ---------------------------------------------------------------------------------
    async def request(self, kind: OperationKind, change: Callable[[ClusterRecord], ClusterRecord] | None = None) -> str:
        """Accepts a wish as the API does: record, operation row, message. Returns the operation's id."""
        stored = await self.store.clusters.get("pay")
        if stored is None:
            await self.store.clusters.create(self.record)
            current = self.record
        else:
            generation = stored.value.generation + 1
            operation_id = f"00000000-0000-4000-8000-{generation:012d}"
            states = {
                OperationKind.DELETE: ProvisioningState.DELETING,
                OperationKind.UPDATE: ProvisioningState.UPDATING,
                OperationKind.CREATE: ProvisioningState.CREATING,
                OperationKind.UPGRADE: ProvisioningState.UPDATING,
            }
            reference = OperationRef(
                id=operation_id, kind=kind, generation=generation, requested_at=self.clock(), requested_by="test"
            )
            update = {"generation": generation, "operation": reference, "state": states[kind]}
            current = (change(stored.value) if change else stored.value).model_copy(update=update)
            await self.store.clusters.replace(current, stored.etag)
        row = operation(current).model_copy(
            update={"kind": kind, "generation": current.generation, "created_at": self.clock()}
        )
        await self.store.operations.create(row)
        await self.queue.enqueue(ReconcileMessage(row.id, "pay"))
        return row.id

    async def drive(self, *, seconds: int = 600) -> int:
        """Delivers messages until the queue is empty; a killed tick's message is delivered again. Returns ticks."""
        ticks = 0
        for _ in range(seconds):
            for message in self.queue.take():
                ticks += 1
                try:
                    await handle(self.context, message)
                except Killed:
                    await self.queue.enqueue(message, REDELIVERY_S)
            if not len(self.queue):
                return ticks
            self.clock.advance(1)
            if self.nodes_answer:
                await self.nodes_live()
        raise AssertionError(f"still not quiet after {seconds} s: {await self.operation_now()}")

    # --- what nodes do ----------------------------------------------------------------------------------------------
    async def nodes_live(self) -> None:
        """A node that runs enrols with the token of its own boot document, once, and then sends heartbeats."""
        stored = await self.store.clusters.get("pay")
        for node in self.record.nodes:
            windows = self.record.spec.compute.os == "windows"
            name = f"pay-{node}/bootstrap" if windows else f"pay-{node}"
            if stored is None or name not in self.arm.names():
                continue
            if self.arm.body(name)["properties"]["provisioningState"] != "Succeeded":
                continue
            if await self.store.credentials.credential(CLUSTER_ID, node) is None:
                settings = settings_of if windows else bootstrap_of
                booted_by = self.arm.commands if windows else self.arm.custom_data
                await self._enrol(node, settings(booted_by[f"pay-{node}"][-1 if windows else 0])["enrolmentToken"])
            version = configuration_version(stored.value, self.clock())
            state = node_state(CLUSTER_ID, node, at=self.clock(), role=self.roles[node])
            state = state.model_copy(update={"configuration_version": version})
            current = await self.store.node_states.get(CLUSTER_ID, node)
            try:
                await self.store.node_states.put(state, None if current is None else current.etag)
            except Changed as error:
                raise AssertionError("only the test writes node states") from error

    async def _enrol(self, node: NodeName, token: str) -> None:
        found = await find_enrolment(self.store.credentials, token, self.clock())
        assert found is not None, f"the token in the boot document of node {node} is not valid"
        assert found.value.node == node
        credential = NodeCredential(
            cluster_id=CLUSTER_ID,
            cluster="pay",
            node=node,
            enrolment_id=found.value.id,
            secret_sha256="0" * 64,
            enrolled_at=self.clock(),
        )
        await self.store.credentials.put_credential(credential, None)

    # --- what a test looks at ---------------------------------------------------------------------------------------
    async def operation_now(self, operation_id: str | None = None) -> Operation:
        stored = await self.store.operations.get(operation_id or self.record.operation.id)
        assert stored is not None
        return stored.value

    async def record_now(self) -> ClusterRecord:
        stored = await self.store.clusters.get("pay")
        assert stored is not None
        return stored.value

    def pass_time(self, **duration: float) -> None:
        self.clock.now += timedelta(**duration)


def settings_of(command: str) -> dict[str, Any]:
    """What the bootstrap script of a Windows node is told."""
    found = re.search(r"-Settings '([A-Za-z0-9+/=]+)'", command)
    assert found is not None, command
    settings: dict[str, Any] = json.loads(base64.b64decode(found[1]))
    return settings


def bootstrap_of(custom_data: str) -> dict[str, str]:
    """bootstrap.json of a boot document."""
    document = base64.b64decode(custom_data).decode()
    assert document.startswith("#cloud-config\n")
    files = json.loads(document.removeprefix("#cloud-config\n"))["write_files"]
    content = next(entry["content"] for entry in files if entry["path"].endswith("/bootstrap.json"))
    result: dict[str, str] = json.loads(content)
    return result
