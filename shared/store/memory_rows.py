"""`Rows` in memory, for tests: the same limits, keys, order, ETags and conditions as Table Storage.

It passes the suite that the real adapter passes. What it does not imitate: latency, throttling, lost answers.
`fail` makes the next call (of one operation) raise, to test what a caller does when storage is away.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from shared.store.keys import checked_key
from shared.store.ports import Changed, Exists, StoreError
from shared.store.rows import Row, StoredRow


class MemoryRows:
    def __init__(self) -> None:
        self._tables: dict[str, dict[tuple[str, str], StoredRow]] = {}
        self._versions = itertools.count(1)
        self._failures: list[tuple[str, str, StoreError]] = []

    def fail(self, operation: str, table: str, error: StoreError) -> None:
        """The next `operation` (a method name) on `table` raises `error` before it does anything."""
        self._failures.append((operation, table, error))

    def forget_failures(self) -> None:
        """Storage is back: what was to fail and was never called does not."""
        self._failures.clear()

    def _enter(self, operation: str, table: str) -> dict[tuple[str, str], StoredRow]:
        for failure in self._failures:
            if failure[:2] == (operation, table):
                self._failures.remove(failure)
                raise failure[2]
        return self._tables.setdefault(table, {})

    def _store(self, rows: dict[tuple[str, str], StoredRow], row: Row) -> str:
        etag = f'W/"memory-{next(self._versions)}"'
        rows[row.partition, row.key] = StoredRow(row.partition, row.key, dict(row.properties), etag)
        return etag

    async def get(self, table: str, partition: str, key: str) -> StoredRow | None:
        return self._enter("get", table).get((checked_key(partition), checked_key(key)))

    async def insert(self, table: str, row: Row) -> str:
        rows = self._enter("insert", table)
        if (row.partition, row.key) in rows:
            raise Exists(f"table {table}: the row exists")
        return self._store(rows, row)

    async def replace(self, table: str, row: Row, etag: str) -> str:
        rows = self._enter("replace", table)
        self._require(table, rows, row.partition, row.key, etag)
        return self._store(rows, row)

    async def upsert(self, table: str, rows: Sequence[Row]) -> None:
        stored = self._enter("upsert", table)
        if len({row.partition for row in rows}) > 1:
            raise ValueError("a batch writes one partition")
        for row in rows:
            self._store(stored, row)

    async def delete(self, table: str, partition: str, keys: Sequence[str]) -> None:
        rows = self._enter("delete", table)
        for key in keys:
            rows.pop((partition, key), None)

    async def delete_if(self, table: str, partition: str, key: str, etag: str, leaving: Row | None = None) -> None:
        rows = self._enter("delete_if", table)
        self._require(table, rows, partition, key, etag)
        del rows[partition, key]
        if leaving is not None:
            self._store(rows, leaving)

    async def scan(
        self, table: str, partition: str, limit: int, *, after: str = "", before: str | None = None
    ) -> list[StoredRow]:
        rows = self._enter("scan", table)
        keys = sorted(
            key for part, key in rows if part == partition and key > after and (before is None or key < before)
        )
        return [rows[partition, key] for key in keys[: max(limit, 0)]]

    async def scan_keys(self, table: str, first: str, beyond: str, limit: int) -> list[tuple[str, str]]:
        rows = self._enter("scan_keys", table)
        return sorted(pair for pair in rows if first <= pair[0] < beyond)[: max(limit, 0)]

    async def scan_range(self, table: str, first: str, beyond: str, limit: int) -> list[StoredRow]:
        rows = self._enter("scan_range", table)
        pairs = sorted(pair for pair in rows if first <= pair[0] < beyond)
        return [rows[pair] for pair in pairs[: max(limit, 0)]]

    async def close(self) -> None:
        return None

    def everything(self, *, without: str = "") -> str:
        """All rows (but of one table) as text: no secret was stored, nothing was written."""
        return repr({table: rows for table, rows in self._tables.items() if rows and table != without})

    @staticmethod
    def _require(table: str, rows: dict[tuple[str, str], StoredRow], partition: str, key: str, etag: str) -> None:
        found = rows.get((partition, key))
        if found is None or found.etag != etag:
            raise Changed(f"table {table}: the row was changed or removed meanwhile")
