"""The witness rows: created here, read here, changed only by the nodes.

A node gets a shared access signature that reads and updates exactly one row (start and end of partition and row key
are the same): it cannot see another cluster's record, cannot delete its own, cannot create one. The signature is
renewed with the node's configuration every `RENEWAL`; a control plane may be away for
`VALIDITY - RENEWAL` before it runs out.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables import TableSasPermissions, generate_table_sas
from mirror_agent.contract import NodeName, WitnessAccess

from shared.store.ports import Exists, WitnessRecord
from shared.store.rows import Row, Rows, StoredRow, Value

TABLE: Final = "witness"
ROW_KEY: Final = "record"
PROVISIONED: Final = "provisioned"
VALIDITY: Final = timedelta(days=60)
RENEWAL: Final = timedelta(days=14)


def witness_record(row: StoredRow) -> WitnessRecord:
    texts = {name: str(row.properties.get(name, "")) for name in ("primary", "in_sync", "nonce", "rule")}
    return WitnessRecord(epoch=int(row.properties.get("epoch", 0)), **texts)


class TableWitness:
    """`endpoint` is what the nodes use to reach the account's tables."""

    def __init__(self, rows: Rows, endpoint: str, account: str, key: str) -> None:
        self._rows = rows
        self._endpoint = endpoint
        self._credential = AzureNamedKeyCredential(account, key)

    async def ensure(self, cluster_id: str, in_sync: NodeName) -> bool:
        first: dict[str, Value] = {
            "epoch": 0,
            "primary": "",
            "in_sync": in_sync,
            "nonce": PROVISIONED,
            "rule": PROVISIONED,
        }
        try:
            await self._rows.insert(TABLE, Row(cluster_id, ROW_KEY, first))
        except Exists:
            return False
        return True

    async def read(self, cluster_id: str) -> WitnessRecord | None:
        row = await self._rows.get(TABLE, cluster_id, ROW_KEY)
        return None if row is None else witness_record(row)

    async def delete(self, cluster_id: str) -> None:
        await self._rows.delete(TABLE, cluster_id, [ROW_KEY])

    def access(self, cluster_id: str, now: datetime) -> WitnessAccess:
        sas = generate_table_sas(
            self._credential,
            TABLE,
            permission=TableSasPermissions(read=True, update=True),
            expiry=now + VALIDITY,
            start_pk=cluster_id,
            end_pk=cluster_id,
            start_rk=ROW_KEY,
            end_rk=ROW_KEY,
        )
        return WitnessAccess(endpoint=self._endpoint, table=TABLE, partition_key=cluster_id, row_key=ROW_KEY, sas=sas)
