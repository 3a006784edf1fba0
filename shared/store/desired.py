"""Clusters and operations: what is wanted, written conditionally."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from shared.model.cluster import ClusterRecord
from shared.model.operation import Operation
from shared.store.board import BOARD, note
from shared.store.ports import Page, StoreError, Versioned
from shared.store.rows import Row, Rows, StoredRow, document, parse, parse_all
from shared.structured_log import Log

CLUSTERS: Final = "clusters"
OPERATIONS: Final = "operations"
CLUSTER_PARTITION: Final = "cluster"
# Cluster names consist of [a-z0-9-], so keys that begin with '~' sort behind all of them in the same partition, where
# one transaction can remove the record and leave the note.
_DELETED: Final = "~deleted~"
_SHARDS: Final = "0123456789abcdef"
log = Log("mirrorplane.store")


class TableClusters:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def get(self, name: str) -> Versioned[ClusterRecord] | None:
        row = await self._rows.get(CLUSTERS, CLUSTER_PARTITION, name)
        return None if row is None else _cluster(row)

    async def create(self, record: ClusterRecord) -> Versioned[ClusterRecord]:
        made = Versioned(record, await self._rows.insert(CLUSTERS, _cluster_row(record)))
        await self._note(record.name, exists=True)
        return made

    async def replace(self, record: ClusterRecord, etag: str) -> Versioned[ClusterRecord]:
        return Versioned(record, await self._rows.replace(CLUSTERS, _cluster_row(record), etag))

    async def delete(self, record: ClusterRecord, etag: str) -> None:
        left = Row(CLUSTER_PARTITION, _DELETED + record.id, {"name": record.name})
        await self._rows.delete_if(CLUSTERS, CLUSTER_PARTITION, record.name, etag, leaving=left)
        await self._note(record.name, exists=False)

    async def page(self, after: str | None, limit: int) -> Page[Versioned[ClusterRecord]]:
        rows = await self._rows.scan(CLUSTERS, CLUSTER_PARTITION, limit + 1, after=after or "", before="~")
        more = rows[limit - 1].key if len(rows) > limit else None
        return Page(tuple(Versioned(record, row.etag) for record, row in parse_all(ClusterRecord, rows[:limit])), more)

    async def _note(self, name: str, *, exists: bool) -> None:
        """For the page of the fleet, which the next audit would mend too: what was just written stands without it."""
        try:
            await self._rows.upsert(BOARD, [note(name, exists)])
        except StoreError as error:
            log.failure("board_note_failed", error, cluster=name)

    async def deleted(self) -> list[str]:
        rows = await self._rows.scan(CLUSTERS, CLUSTER_PARTITION, 100, after=_DELETED)
        return [row.key.removeprefix(_DELETED) for row in rows]

    async def forget_deleted(self, cluster_id: str) -> None:
        await self._rows.delete(CLUSTERS, CLUSTER_PARTITION, [_DELETED + cluster_id])


class TableOperations:
    """Partitioned by the first hex digit of the id: point reads only, and no single hot partition."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def get(self, operation_id: str) -> Versioned[Operation] | None:
        row = await self._rows.get(OPERATIONS, _shard(operation_id), operation_id)
        return None if row is None else Versioned(parse(Operation, row), row.etag)

    async def create(self, operation: Operation) -> Versioned[Operation]:
        return Versioned(operation, await self._rows.insert(OPERATIONS, _operation_row(operation)))

    async def replace(self, operation: Operation, etag: str) -> Versioned[Operation]:
        return Versioned(operation, await self._rows.replace(OPERATIONS, _operation_row(operation), etag))

    async def purge_finished(self, before: datetime, limit: int) -> int:
        removed = 0
        for shard in _SHARDS:
            after = ""
            while removed < limit and (rows := await self._rows.scan(OPERATIONS, f"op{shard}", 200, after=after)):
                after = rows[-1].key
                for operation, row in parse_all(Operation, rows):
                    ended = operation.finished_at
                    if ended is not None and ended < before and removed < limit:
                        await self._rows.delete(OPERATIONS, row.partition, [row.key])
                        removed += 1
        return removed


def _cluster_row(record: ClusterRecord) -> Row:
    return Row(
        CLUSTER_PARTITION, record.name, {"clusterId": record.id, "state": record.state.value, **document(record)}
    )


def _cluster(row: StoredRow) -> Versioned[ClusterRecord]:
    return Versioned(parse(ClusterRecord, row), row.etag)


def _shard(operation_id: str) -> str:
    first = operation_id[:1].lower()
    return f"op{first if first in _SHARDS else '0'}"


def _operation_row(operation: Operation) -> Row:
    properties = {"cluster": operation.cluster, "status": operation.status.value, **document(operation)}
    return Row(_shard(operation.id), operation.id, properties)
