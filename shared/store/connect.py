"""Building a `Store` from a storage account or from memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from azure.core.credentials_async import AsyncTokenCredential
from azure.data.tables.aio import TableServiceClient
from azure.storage.queue.aio import QueueClient

from shared.store.alert_flow import TableDeadLetters, TableDeliveries, TableEventFacts
from shared.store.alert_ports import AlertStore
from shared.store.alerts import TableAlerts, TableGroups, TableSilences
from shared.store.azure_rows import AzureRows
from shared.store.desired import TableClusters, TableOperations
from shared.store.fleet import TableFleet
from shared.store.identities import TableCredentials, TableTokens
from shared.store.journal import TableJournal
from shared.store.memory_rows import MemoryRows
from shared.store.observed import TableAudits, TableCommands, TableEvents, TableNodeStates
from shared.store.ports import QUEUE_NAME, ReconcileQueue, Store
from shared.store.probe_log import TableProbes
from shared.store.queue import AzureReconcileQueue, MemoryReconcileQueue, base64_policy
from shared.store.remediation import TableRemediations
from shared.store.retention import TableRetention
from shared.store.rows import Rows
from shared.store.witness import TableWitness

_STORAGE: Final = "AzureWebJobsStorage"
_WITNESS: Final = "MIRRORPLANE_WITNESS_STORAGE"


class SettingMissing(Exception):
    """An app setting is absent or unusable; the message names it and what belongs there."""


class MakeCredential(Protocol):
    def __call__(self, client_id: str | None) -> AsyncTokenCredential: ...


@dataclass(frozen=True)
class Connection:
    store: Store
    close: Callable[[], Awaitable[None]]


def assemble(rows: Rows, queue: ReconcileQueue, witness: TableWitness, witness_rows: Rows) -> Store:
    return Store(
        clusters=TableClusters(rows),
        operations=TableOperations(rows),
        node_states=TableNodeStates(rows),
        probes=TableProbes(rows),
        events=TableEvents(rows),
        tokens=TableTokens(rows),
        credentials=TableCredentials(rows),
        commands=TableCommands(rows),
        audits=TableAudits(rows),
        fleet=TableFleet(rows, witness_rows),
        witness=witness,
        queue=queue,
        retention=TableRetention(rows),
        alerting=AlertStore(
            alerts=TableAlerts(rows),
            groups=TableGroups(rows),
            silences=TableSilences(rows),
            event_facts=TableEventFacts(rows),
            deliveries=TableDeliveries(rows),
            dead_letters=TableDeadLetters(rows),
        ),
        remediations=TableRemediations(rows),
        journal=TableJournal(rows),
    )


def memory_store(rows: MemoryRows, queue: MemoryReconcileQueue) -> Store:
    """For tests: the same adapters over rows in memory. The witness signature is real, made with an invented key."""
    witness = TableWitness(rows, "https://witness.invalid", "witness", "aW52ZW50ZWQ=")
    return assemble(rows, queue, witness, rows)


def connect(settings: Mapping[str, str], make_credential: MakeCredential, *, retries: int = 3) -> Connection:
    """The store of the account in `AzureWebJobsStorage` (connection string, or identity-based settings
    `AzureWebJobsStorage__tableServiceUri`, `__queueServiceUri`, `__clientId`) with the witness rows in the account of
    `MIRRORPLANE_WITNESS_STORAGE`. `retries` is per request, by the SDK. Opens no connection. Raises SettingMissing."""
    text = settings.get(_STORAGE, "")
    if text:
        tables = TableServiceClient.from_connection_string(text, retry_total=retries)
        queue_client = QueueClient.from_connection_string(
            text, QUEUE_NAME, message_encode_policy=base64_policy(), retry_total=retries
        )
        credential = None
    else:
        table_uri = _required(settings, f"{_STORAGE}__tableServiceUri", f"or a connection string in {_STORAGE}")
        queue_uri = _required(settings, f"{_STORAGE}__queueServiceUri", f"or a connection string in {_STORAGE}")
        credential = make_credential(settings.get(f"{_STORAGE}__clientId"))
        tables = TableServiceClient(table_uri, credential=credential, retry_total=retries)
        queue_client = QueueClient(
            queue_uri, QUEUE_NAME, credential=credential, message_encode_policy=base64_policy(), retry_total=retries
        )
    rows = AzureRows(tables)
    queue = AzureReconcileQueue(queue_client)
    witness_rows, witness = _witness(
        _required(settings, _WITNESS, "a connection string with the account's key"), retries
    )

    async def close() -> None:
        await rows.close()
        await queue.close()
        await witness_rows.close()
        if credential is not None:
            await credential.close()

    return Connection(assemble(rows, queue, witness, witness_rows), close)


def _witness(text: str, retries: int) -> tuple[AzureRows, TableWitness]:
    parts = dict(entry.split("=", 1) for entry in text.split(";") if "=" in entry)
    account, key = parts.get("AccountName", ""), parts.get("AccountKey", "")
    if not account or not key:
        raise SettingMissing(f"{_WITNESS} has no AccountName or AccountKey; the witness signature is made with the key")
    service = TableServiceClient.from_connection_string(text, retry_total=retries)
    rows = AzureRows(service)
    return rows, TableWitness(rows, service.url, account, key)


def _required(settings: Mapping[str, str], name: str, what: str) -> str:
    value = settings.get(name, "")
    if not value:
        raise SettingMissing(f"the app setting {name} is missing; give {what}")
    return value
