"""Remediation's memory: one row per cluster, an index of those that need attention, and leases on zones.

The index row is written before the record that needs it and removed after the one that does not, so it names at least
every cluster with an open incident or action; a row too many costs one look. A lease on a zone is a row: of two
clusters that want one zone at the same time exactly one inserts it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from shared.model.remediation import RemediationRecord, Tracked, ZoneLease
from shared.store.keys import checked_key
from shared.store.ports import Changed, Exists, Versioned
from shared.store.rows import Row, Rows, document, parse, parse_all

REMEDIATION: Final = "remediation"
MAX_TRACKED: Final = 5_000
_LATEST: Final = "latest"
_TRACKED: Final = "tracked"
_ZONES: Final = "zones"


class TableRemediations:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def get(self, cluster_id: str) -> Versioned[RemediationRecord] | None:
        row = await self._rows.get(REMEDIATION, cluster_id, _LATEST)
        return None if row is None else Versioned(parse(RemediationRecord, row), row.etag)

    async def put(self, record: RemediationRecord, etag: str | None) -> Versioned[RemediationRecord]:
        row = Row(record.cluster_id, _LATEST, document(record))
        written = await (
            self._rows.insert(REMEDIATION, row) if etag is None else self._rows.replace(REMEDIATION, row, etag)
        )
        return Versioned(record, written)

    async def tracked(self) -> list[Tracked]:
        rows = await self._rows.scan(REMEDIATION, _TRACKED, MAX_TRACKED)
        return [entry for entry, _ in parse_all(Tracked, rows)]

    async def track(self, entry: Tracked) -> None:
        await self._rows.upsert(REMEDIATION, [Row(_TRACKED, entry.cluster_id, document(entry))])

    async def untrack(self, cluster_id: str) -> None:
        await self._rows.delete(REMEDIATION, _TRACKED, [cluster_id])

    async def take_zone(self, lease: ZoneLease, now: datetime) -> bool:
        row = Row(_ZONES, checked_key(lease.zone), document(lease))
        try:
            await self._rows.insert(REMEDIATION, row)
            return True
        except Exists:
            held = await self._rows.get(REMEDIATION, _ZONES, lease.zone)
        if held is None:
            return False  # it went this moment; the next look takes it
        holder = parse(ZoneLease, held)
        if holder.holder != lease.holder and holder.expires_at > now:
            return False
        try:
            await self._rows.replace(REMEDIATION, row, held.etag)
        except Changed:
            return False
        return True

    async def leave_zone(self, zone: str, holder: str) -> None:
        held = await self._rows.get(REMEDIATION, _ZONES, zone)
        if held is None or parse(ZoneLease, held).holder != holder:
            return
        try:
            await self._rows.delete_if(REMEDIATION, _ZONES, zone, held.etag)
        except Changed:
            return  # another one has taken it over after its end
