"""A control plane with a small fleet on it, for browsers: the real function app, the real host, Azurite; nodes that
report by the real API. What the audit would have concluded is written as the audit writes it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from azure.core.credentials_async import AsyncTokenCredential
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient
from mirror_agent.contract import ApplicationState, CheckerReport, Heartbeat, MirrorReport, NodeName, Phase, Role

from lab.azurite.server import Azurite
from shared.model.alert import Alert, AlertState, Severity, alert_key
from shared.model.audit import AuditRecord, TrackRecord, TurnKind, VerdictTurn
from shared.model.cluster import ClusterRecord, ObservedNode, ObservedResources, ProvisioningState, settled
from shared.model.node_state import ProbeOutcome, ProbeResult
from shared.model.operation import OperationStatus, finished
from shared.model.principal import AccessRole
from shared.security.enrolment import create_enrolment_token
from shared.security.secret import hashed
from shared.store.connect import connect
from shared.store.ports import Store
from shared.store.witness import ROW_KEY, TABLE
from tests.control_plane_app import BOOTSTRAP, csr, enrol_body
from tests.control_plane_samples import cluster_body, heartbeat
from tests.lab.functions_host.process import REPOSITORY, Answer, HostProcess

VERSION: Final = "api-version=2026-11-01"
ADMIN: Final = BOOTSTRAP
BEAT_S: Final = 5.0


class Stage:
    """`url` is where the console is. Enrolled nodes keep their credentials here."""

    def __init__(self, directory: Path, storage: Azurite) -> None:
        self._settings = {
            "AzureWebJobsStorage": storage.connection_string,
            "MIRRORPLANE_WITNESS_STORAGE": storage.connection_string,
            "MIRRORPLANE_SUBSCRIPTION_ID": str(uuid.uuid4()),
            "MIRRORPLANE_PUBLIC_URL": "https://control.example.org",
            "MIRRORPLANE_WRAPPING_KEY": base64.b64encode(bytes(32)).decode(),
            "MIRRORPLANE_BOOTSTRAP_TOKEN_SHA256": hashed(BOOTSTRAP),
        }
        self._host = HostProcess(directory, REPOSITORY, self._settings, "--no-triggers").ready()
        self._connection = connect(self._settings, _no_credential)
        self._credentials: dict[tuple[str, NodeName], str] = {}
        self._sequence = 0
        self._present: dict[tuple[str, NodeName], tuple[Role, dict[str, Any]]] = {}
        self._beating = asyncio.create_task(self._beat_on())

    @property
    def url(self) -> str:
        return self._host.url

    @property
    def store(self) -> Store:
        return self._connection.store

    async def close(self) -> None:
        self._beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._beating
        await self._connection.close()
        self._host.kill()

    def call(self, method: str, path: str, body: object = None, *, token: str = ADMIN) -> Answer:
        separator = "&" if "?" in path else "?"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        return self._host.call(method, f"/api/{path}{separator}{VERSION}", content, headers)

    def token(self, role: AccessRole) -> str:
        made = self.call("POST", "tokens", {"name": f"{role.value} of the tests", "role": role.value})
        assert made.status == 201, made.body
        return str(json.loads(made.body)["token"])

    async def cluster(self, name: str) -> ClusterRecord:
        """A cluster as the reconciler leaves it, with both nodes enrolled."""
        created = self.call("PUT", f"clusters/{name}", cluster_body())
        assert created.status == 201, created.body
        record = await self.settle(name)
        for node in ("a", "b"):
            now = datetime.now(UTC)
            token = await create_enrolment_token(
                self.store.credentials, cluster=name, cluster_id=record.id, node=node, now=now
            )
            enrolled = self.call("POST", "nodes/enrol", enrol_body(csr()), token=token)
            assert enrolled.status == 200, enrolled.body
            self._credentials[name, node] = json.loads(enrolled.body)["nodeCredential"]
        await self.store.witness.ensure(record.id, "a")
        return record

    async def begun(self, name: str) -> None:
        """A cluster whose creation is under way."""
        created = self.call("PUT", f"clusters/{name}", cluster_body())
        assert created.status == 201, created.body

    async def link(self, cluster: str, who: str) -> str:
        """A one-time link for somebody, at the address of this stage."""
        made = self.call("POST", f"clusters/{cluster}/credentials", {"name": who, "role": "Control"})
        assert made.status == 201, made.body
        return self.url + str(json.loads(made.body)["url"]).removeprefix("https://control.example.org")

    async def copies(self, record: ClusterRecord, count: int) -> None:
        """So many more clusters like this one, `<name>-000` and on; nobody has looked at them yet."""

        async def copy(number: int) -> None:
            name = f"{record.name}-{number:03d}"
            await self.store.clusters.create(record.model_copy(update={"name": name, "id": str(uuid.uuid4())}))

        await asyncio.gather(*(copy(number) for number in range(count)))

    async def witnessed(self, record: ClusterRecord, epoch: int, primary: NodeName, in_sync: str) -> None:
        """The safety record as a node writes it."""
        words = {"primary": primary, "in_sync": in_sync, "nonce": "stage", "rule": "stage"}
        row = {"PartitionKey": record.id, "RowKey": ROW_KEY, "epoch": epoch, **words}
        async with TableClient.from_connection_string(self._settings["AzureWebJobsStorage"], TABLE) as table:
            await table.update_entity(row, mode=UpdateMode.REPLACE)

    async def settle(self, name: str) -> ClusterRecord:
        found = await self.store.clusters.get(name)
        assert found is not None
        now = datetime.now(UTC)
        operation = await self.store.operations.get(found.value.operation.id)
        assert operation is not None
        await self.store.operations.replace(finished(operation.value, OperationStatus.SUCCEEDED, now), operation.etag)
        nodes: dict[NodeName, ObservedNode] = {
            "a": ObservedNode(private_address="10.0.0.4", public_address="198.51.100.4"),
            "b": ObservedNode(private_address="10.0.0.5", public_address="198.51.100.5"),
        }
        record = settled(found.value, ProvisioningState.SUCCEEDED, now).model_copy(
            update={"resources": ObservedResources(virtual_ip_address="198.51.100.9", nodes=nodes)}
        )
        return (await self.store.clusters.replace(record, found.etag)).value

    def beat(self, name: str, node: NodeName, role: Role, **changes: Any) -> None:
        """Reported now and from now on, as a node does, until it is told otherwise."""
        self._present[name, node] = (role, changes)
        self._send(name, node, role, changes)

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            for (name, node), (role, changes) in list(self._present.items()):
                await asyncio.to_thread(self._send, name, node, role, changes)

    def _send(self, name: str, node: NodeName, role: Role, changes: Mapping[str, Any]) -> None:
        self._sequence += 1
        beat = heartbeat(node, sequence=self._sequence, role=role, agent_start_id=f"{name}-{node}", **changes)
        self._post(name, node, beat)

    def _post(self, name: str, node: NodeName, beat: Heartbeat) -> None:
        body = {
            "agentVersion": "0.1.0",
            "configurationVersion": 0,
            "heartbeats": [beat.model_dump(mode="json", by_alias=True)],
        }
        posted = self.call("POST", "nodes/heartbeat", body, token=self._credentials[name, node])
        assert posted.status == 200, posted.body

    def in_sync(self, name: str, epoch: int = 3) -> None:
        """Node a is PRIM, b its SECOND."""
        mirror = MirrorReport(
            mode="primary",
            link="live",
            acknowledging="paired",
            operations=48_211,
            replicated_bytes=734_003_200,
            operations_per_s=120.4,
            replicated_bytes_per_s=1_468_006,
            in_flight_bytes=8192,
            ack_latency_ms_p50=0.6,
            ack_latency_ms_p99=2.4,
        )
        checkers = (CheckerReport(name="server", healthy=True), CheckerReport(name="answers", healthy=True))
        self.beat(name, "a", Role.PRIM, epoch=epoch, mirror=mirror, checkers=checkers)
        self.beat(
            name,
            "b",
            Role.SECOND,
            epoch=epoch,
            application=ApplicationState.STOPPED,
            rule="second-ready",
            sentence="replica in sync",
            mirror=MirrorReport(mode="replica", link="live", acknowledging="none"),
        )

    def exposed(self, name: str, epoch: int = 4, *, resync: tuple[int, int] | None = None) -> None:
        """Node b serves alone; a is gone, or being resynchronised."""
        mirror = MirrorReport(
            mode="primary",
            link="connecting" if resync is None else "resync",
            acknowledging="solo",
            operations=120,
            replicated_bytes=1_048_576,
            resync_done_bytes=None if resync is None else resync[0],
            resync_total_bytes=None if resync is None else resync[1],
            resync_remaining_s=None if resync is None else 42.0,
            replicated_bytes_per_s=0.0 if resync is None else 18_000_000,
        )
        self.beat(
            name,
            "b",
            Role.ALONE,
            epoch=epoch,
            in_sync=("b",),
            exposed_for_s=75.0,
            probe_ok=True,
            rule="take-over",
            sentence="peer silent, the witness record names this node",
            mirror=mirror,
        )
        if resync is not None:
            words = {"rule": "resync-from-primary", "sentence": "resynchronising from node b"}
            self.beat(
                name,
                "a",
                Role.SECOND,
                epoch=epoch,
                phase=Phase.TRANSIENT,
                application=ApplicationState.STOPPED,
                mirror=MirrorReport(mode="replica", link="resync", acknowledging="none"),
                **words,
            )

    async def audited(
        self,
        record: ClusterRecord,
        state: str,
        sentence: str,
        nodes: Mapping[NodeName, str],
        serving: NodeName = "a",
    ) -> None:
        now = datetime.now(UTC)

        def track(word: str) -> TrackRecord:
            return TrackRecord(state=word, rule=f"{word}-rule", sentence=sentence, since=now, seen=word, seen_since=now)

        verdict = AuditRecord(
            cluster_id=record.id,
            cluster=record.name,
            audited_at=now,
            run_id="stage",
            verdict=track(state),
            nodes={node: track(word) for node, word in nodes.items()},
            serving=serving,
        )
        found = await self.store.audits.get(record.id)
        await self.store.audits.put(verdict, None if found is None else found.etag)
        turn = VerdictTurn(
            cluster_id=record.id,
            cluster=record.name,
            kind=TurnKind.CLUSTER,
            at=now,
            before="unknown" if state == "healthy" else "healthy",
            after=state,
            rule=f"{state}-rule",
            sentence=sentence,
        )
        await self.store.audits.append_turns([turn])

    async def firing(self, record: ClusterRecord, rule: str, sentence: str) -> None:
        now = datetime.now(UTC)
        alert = Alert(
            key=alert_key(record.name, rule, "cluster"),
            cluster=record.name,
            rule=rule,
            subject="cluster",
            severity=Severity.CRITICAL,
            state=AlertState.FIRING,
            step="held-long-enough",
            sentence=sentence,
            started_at=now,
            changed_at=now,
            held_since=now,
            fired_at=now,
        )
        await self.store.alerting.alerts.create(alert)

    async def past(self, record: ClusterRecord, hours: float = 2.0) -> None:
        """Probes of the last hours, as the audit logs them."""
        now = datetime.now(UTC)
        results = []
        for minute in range(int(hours * 60)):
            at = now - timedelta(minutes=minute)
            results.append(ProbeResult(cluster_id=record.id, node="a", at=at, outcome=ProbeOutcome.SERVING))
            bad = 40 <= minute < 45
            outcome = ProbeOutcome.TIMEOUT if bad else ProbeOutcome.STANDBY
            results.append(ProbeResult(cluster_id=record.id, node="b", at=at, outcome=outcome))
        await self.store.probes.append(results)


def _no_credential(client_id: str | None) -> AsyncTokenCredential:
    raise AssertionError("a connection string needs no credential")
