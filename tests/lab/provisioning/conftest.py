"""The reconciler with Microsoft's unmodified clients and managed identity against the lab's ARM, over loopback TLS."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mirror_agent.contract import Role

from lab.arm.core import Timing
from lab.arm.provider import PowerState
from lab.arm.server import serve_arm
from lab.arm.service import ArmService
from lab.identity import IdentityEndpoint, TokenIssuer, serve_identity
from shared.azure.arm import AzureArm, AzureMachines
from shared.azure.session import AzureSession
from shared.azure.settings import AzureSettings
from shared.model.cluster import ClusterRecord, OperationRef, ProvisioningState
from shared.model.operation import Operation, OperationKind
from shared.model.principal import NodeCredential
from shared.provisioning.configuration import configuration_version
from shared.provisioning.context import Context
from shared.provisioning.limits import Limits
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.reconcile import Tick, tick
from shared.provisioning.records import plan_of
from shared.store.connect import memory_store
from shared.store.memory_rows import MemoryRows
from shared.store.ports import Changed, Exists, ReconcileMessage
from shared.store.queue import MemoryReconcileQueue
from tests.control_plane_samples import node_state, operation, record
from tests.lab.arm.certificates import make_tls
from tests.lab.arm.null_provider import NullProvider

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
QUICK = Timing(write_s=0.02, delete_s=0.02, machine_s=0.05, action_s=0.05, retry_after_s=None)
# Retries and polls of the same shape as in production, only shorter.
IMPATIENT = Limits(
    poll_s=0.02, longest_poll_s=0.1, first_retry_s=0.05, longest_retry_s=0.2, node_poll_s=0.02, longest_pause_s=2.0
)
DEADLINE_S = 30.0


@dataclass
class Plane:
    """A control plane over memory whose Azure is the lab's ARM."""

    service: ArmService
    provider: NullProvider
    session: AzureSession
    context: Context
    record: ClusterRecord

    @property
    def arm(self) -> AzureArm:
        return AzureArm(self.session)

    @property
    def machines(self) -> AzureMachines:
        return AzureMachines(self.session)

    @property
    def plan(self) -> ClusterPlan:
        return plan_of(self.record, subscription_id=SUBSCRIPTION)

    async def request(self, kind: OperationKind, **update: Any) -> str:
        store = self.context.store
        stored = await store.clusters.get(self.record.name)
        if stored is None:
            await store.clusters.create(self.record)
        else:
            generation = stored.value.generation + 1
            states = {
                OperationKind.DELETE: ProvisioningState.DELETING,
                OperationKind.UPDATE: ProvisioningState.UPDATING,
                OperationKind.CREATE: ProvisioningState.CREATING,
            }
            reference = OperationRef(
                id=f"00000000-0000-4000-8000-{generation:012d}",
                kind=kind,
                generation=generation,
                requested_at=self.context.clock(),
                requested_by="test",
            )
            changes = {**update, "generation": generation, "operation": reference, "state": states[kind]}
            self.record = stored.value.model_copy(update=changes)
            await store.clusters.replace(self.record, stored.etag)
        now = self.context.clock()
        row = operation(self.record).model_copy(update={"kind": kind, "created_at": now, "updated_at": now})
        await store.operations.create(row)
        return row.id

    async def finish(self, operation_id: str) -> Operation:
        """Ticks until the operation has ended. The pause between ticks is what the tick asked for."""
        message = ReconcileMessage(operation_id, self.record.name)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                result: Tick = await tick(self.context, message)
                stored = await self.context.store.operations.get(operation_id)
                assert stored is not None
                if stored.value.is_final:
                    return stored.value
                await self.nodes_live()
                await asyncio.sleep(result.delay_s or 0.02)

    async def nodes_live(self) -> None:
        """A node whose VM runs has enrolled and sends heartbeats."""
        store, now = self.context.store, self.context.clock()
        for node in self.record.nodes:
            role = Role.UP if self.record.is_farm else Role.PRIM if node == "a" else Role.SECOND
            vm_id = next((key for key in self.provider.vms if key.endswith(f"{self.record.name}-{node}")), None)
            if vm_id is None or self.provider.power.get(vm_id) is not PowerState.RUNNING:
                continue
            credential = NodeCredential(
                cluster_id=self.record.id,
                cluster=self.record.name,
                node=node,
                enrolment_id="e",
                secret_sha256="0" * 64,
                enrolled_at=now,
            )
            current = await store.node_states.get(self.record.id, node)
            version = configuration_version(self.record, now)
            state = node_state(self.record.id, node, at=now, role=role)
            try:
                await store.credentials.put_credential(credential, None)
            except Exists:
                pass  # has enrolled before
            try:
                update = state.model_copy(update={"configuration_version": version})
                await store.node_states.put(update, None if current is None else current.etag)
            except Changed as error:
                raise AssertionError("only the test writes node states") from error

    async def names(self) -> set[str]:
        """Resources of the group as the clients list them, and the group."""
        listed = {row.name for row in await self.arm.list_group(self.plan.group)}
        return listed | ({self.plan.group} if await self.arm.get(self.plan.group_ref) is not None else set())


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return make_tls(tmp_path_factory.mktemp("provisioning-tls"))


@pytest.fixture
async def plane(tls: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Plane]:
    server_context, ca = tls
    provider = NullProvider()
    service = ArmService(subscription_id=SUBSCRIPTION, provider=provider, timing=QUICK)
    issuer = TokenIssuer(b"k" * 32)
    identity = IdentityEndpoint(issuer, header="a-header", client_ids=frozenset(), system_client_id="app")
    wheel = tmp_path / "mirror_agent-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_sockets_closed, _sockets())
        stack.push_async_callback(service.close)
        arm_runner, url = await serve_arm(service, "127.0.0.1", 0, server_context, issuer=issuer, lab_key="k" * 16)
        stack.push_async_callback(arm_runner.cleanup)
        identity_runner, identity_url = await serve_identity(identity, "127.0.0.1", 0)
        stack.push_async_callback(identity_runner.cleanup)
        monkeypatch.setenv("IDENTITY_ENDPOINT", identity_url)
        monkeypatch.setenv("IDENTITY_HEADER", "a-header")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca))
        session = AzureSession(AzureSettings(SUBSCRIPTION, url))
        stack.callback(session.close)

        def clock() -> datetime:
            return datetime.now(UTC)

        context = Context(
            store=memory_store(MemoryRows(), MemoryReconcileQueue(clock)),
            arm=AzureArm(session),
            subscription_id=SUBSCRIPTION,
            public_url="https://plane.example.org",
            control_plane_addresses=("198.51.100.7/32",),
            agent_wheel=wheel,
            clock=clock,
            limits=IMPATIENT,
        )
        yield Plane(service, provider, session, context, record("pay").model_copy(update={"created_at": clock()}))


def _sockets() -> int:
    """Open sockets of this process."""
    return sum(1 for entry in Path("/proc/self/fd").iterdir() if _target(entry).startswith("socket:"))


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        return ""  # closed meanwhile


async def _sockets_closed(before: int) -> None:
    """Two ends come late: urllib3 2 closes a pool's connections when the pool is collected, and the server's half of a
    TLS connection ends some turns of the event loop after the client's."""
    async with asyncio.timeout(DEADLINE_S):
        while _sockets() > before:
            gc.collect()
            await asyncio.sleep(0.005)
