"""The audit's view of the tables: whole ranges of clusters in few queries.

Cluster ids are random, so the ids between two bounds are a fair share of the fleet; states, safety records and audit
rows are partitioned by that id. A range of 500 clusters is one query of 1,000 rows in `nodestate` and one each in
`witness` and `audit`, instead of 1,500 point reads.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from mirror_agent.contract import MAX_FARM_NODES, NodeName

from shared.model.audit import AuditRecord
from shared.model.node_state import NodeState
from shared.store.board import TableBoard
from shared.store.desired import CLUSTER_PARTITION, CLUSTERS
from shared.store.observed import AUDIT, LATEST, STATES
from shared.store.ports import FLEET, ClusterRows, Noted, Posted, StoreError
from shared.store.rows import Rows, StoredRow, parse, parse_all
from shared.store.witness import ROW_KEY, TABLE, witness_record
from shared.structured_log import Log

MAX_CLUSTERS: Final = 100_000
log = Log("mirrorplane.store")


class TableFleet:
    """`witness_rows`: the account of the safety records, which may be another one."""

    def __init__(self, rows: Rows, witness_rows: Rows) -> None:
        self._rows = rows
        self._witness_rows = witness_rows
        self._board = TableBoard(rows)

    async def between(self, first: str, beyond: str, limit: int) -> Mapping[str, ClusterRows]:
        state_rows, witness_rows, audit_rows = await asyncio.gather(
            self._rows.scan_range(STATES, first, beyond, MAX_FARM_NODES * limit),
            self._witness_rows.scan_range(TABLE, first, beyond, limit),
            self._rows.scan_range(AUDIT, first, beyond, limit + 1),
        )
        states: dict[str, dict[NodeName, NodeState]] = defaultdict(dict)
        for state, row in parse_all(NodeState, state_rows):
            states[row.partition][state.node] = state
        witness = {row.partition: witness_record(row) for row in witness_rows if row.key == ROW_KEY}
        audits: dict[str, tuple[AuditRecord | None, str]] = {}
        for row in audit_rows:
            if row.key == LATEST and row.partition != FLEET:
                audits[row.partition] = (_audit(row), row.etag)
        found: dict[str, ClusterRows] = {}
        for cluster_id in states.keys() | witness.keys() | audits.keys():
            audit, etag = audits.get(cluster_id, (None, None))
            found[cluster_id] = ClusterRows(states.get(cluster_id, {}), witness.get(cluster_id), audit, etag)
        return found

    async def names(self) -> list[str]:
        # Notes of deleted clusters are in the same partition; their keys begin with '~'.
        keys = await self._rows.scan_keys(CLUSTERS, CLUSTER_PARTITION, f"{CLUSTER_PARTITION}!", MAX_CLUSTERS)
        return sorted(key for _, key in keys if not key.startswith("~"))

    async def audits(self) -> list[AuditRecord]:
        rows = await self._rows.scan_range(AUDIT, "", FLEET, MAX_CLUSTERS)
        rows += await self._rows.scan_range(AUDIT, f"{FLEET}!", "~", MAX_CLUSTERS)
        return [audit for audit, _ in parse_all(AuditRecord, [row for row in rows if row.key == LATEST])]

    async def posted(self) -> Posted | None:
        return await self._board.read()

    async def noted(self) -> Noted:
        return await self._board.noted()

    async def post(self, run_id: str, text: str, noted: Noted) -> None:
        await self._board.post(run_id, text, noted)


def _audit(row: StoredRow) -> AuditRecord | None:
    """None for a row nobody can read (of an older release, or damaged): it is replaced under its ETag."""
    try:
        return parse(AuditRecord, row)
    except StoreError as error:
        log.failure("row_unreadable", error, partition=row.partition, key=row.key)
        return None
