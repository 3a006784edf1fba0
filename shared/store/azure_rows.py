"""`Rows` on Azure Table Storage, with the asynchronous SDK.

Tables are created on first use, once per process, and once more if one was deleted under us. Every failure that is
not an answer of the protocol becomes `Unavailable` with the table and the reason: the caller never sees an SDK error.
Retries of single requests are the SDK's (three, exponential); a repeated write that had succeeded unseen therefore
may report `Exists` or `Changed`, and callers read again before they conclude anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.data.tables import TableTransactionError, UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from shared.store.ports import MAX_PAGE, Changed, Exists, Unavailable
from shared.store.rows import MAX_BATCH_ROWS, Row, StoredRow

R = TypeVar("R")
TABLE_NOT_FOUND: Final = "TableNotFound"


class AzureRows:
    """One storage account's tables."""

    def __init__(self, service: TableServiceClient) -> None:
        self._service = service
        self._clients: dict[str, TableClient] = {}
        self._creating = asyncio.Lock()

    async def get(self, table: str, partition: str, key: str) -> StoredRow | None:
        async def read(client: TableClient) -> StoredRow | None:
            try:
                return _stored(await client.get_entity(partition, key))
            except ResourceNotFoundError as error:
                _raise_if_table_is_missing(error)
                return None

        return await self._call(table, read)

    async def insert(self, table: str, row: Row) -> str:
        async def write(client: TableClient) -> str:
            return str((await client.create_entity(_entity(row)))["etag"])

        return await self._call(table, write)

    async def replace(self, table: str, row: Row, etag: str) -> str:
        async def write(client: TableClient) -> str:
            answer = await client.update_entity(
                _entity(row), mode=UpdateMode.REPLACE, etag=etag, match_condition=MatchConditions.IfNotModified
            )
            return str(answer["etag"])

        return await self._call(table, write)

    async def upsert(self, table: str, rows: Sequence[Row]) -> None:
        async def write(client: TableClient) -> None:
            if len(rows) == 1:
                await client.upsert_entity(_entity(rows[0]), mode=UpdateMode.REPLACE)
                return
            for start in range(0, len(rows), MAX_BATCH_ROWS):
                batch = rows[start : start + MAX_BATCH_ROWS]
                await client.submit_transaction(
                    [("upsert", _entity(row), {"mode": UpdateMode.REPLACE}) for row in batch]
                )

        if rows:
            await self._call(table, write)

    async def delete(self, table: str, partition: str, keys: Sequence[str]) -> None:
        async def write(client: TableClient) -> None:
            for start in range(0, len(keys), MAX_BATCH_ROWS):
                batch = keys[start : start + MAX_BATCH_ROWS]
                try:
                    await client.submit_transaction(
                        [("delete", {"PartitionKey": partition, "RowKey": key}) for key in batch]
                    )
                except HttpResponseError as error:
                    if error.status_code != HTTPStatus.NOT_FOUND:
                        raise
                    # A batch fails as a whole when one row is already gone; single deletes of missing rows do not.
                    for key in batch:
                        await client.delete_entity(partition, key)

        await self._call(table, write)

    async def delete_if(self, table: str, partition: str, key: str, etag: str, leaving: Row | None = None) -> None:
        async def write(client: TableClient) -> None:
            condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
            batch: list[Any] = [("delete", {"PartitionKey": partition, "RowKey": key}, condition)]
            if leaving is not None:
                batch.append(("upsert", _entity(leaving), {"mode": UpdateMode.REPLACE}))
            await client.submit_transaction(batch)

        await self._call(table, write)

    async def scan(
        self, table: str, partition: str, limit: int, *, after: str = "", before: str | None = None
    ) -> list[StoredRow]:
        async def read(client: TableClient) -> list[StoredRow]:
            text = "PartitionKey eq @partition and RowKey gt @after"
            values = {"partition": partition, "after": after}
            if before is not None:
                text += " and RowKey lt @before"
                values["before"] = before
            return [_stored(entity) async for entity in _first(client, text, values, limit, None)]

        return await self._call(table, read)

    async def scan_keys(self, table: str, first: str, beyond: str, limit: int) -> list[tuple[str, str]]:
        async def read(client: TableClient) -> list[tuple[str, str]]:
            text = "PartitionKey ge @first and PartitionKey lt @beyond"
            columns = ["PartitionKey", "RowKey"]
            rows = _first(client, text, {"first": first, "beyond": beyond}, limit, columns)
            return [(str(entity["PartitionKey"]), str(entity["RowKey"])) async for entity in rows]

        return await self._call(table, read)

    async def scan_range(self, table: str, first: str, beyond: str, limit: int) -> list[StoredRow]:
        async def read(client: TableClient) -> list[StoredRow]:
            text = "PartitionKey ge @first and PartitionKey lt @beyond"
            rows = _first(client, text, {"first": first, "beyond": beyond}, limit, None)
            return [_stored(entity) async for entity in rows]

        return await self._call(table, read)

    async def close(self) -> None:
        await self._service.close()

    async def _call(self, table: str, action: Callable[[TableClient], Awaitable[R]]) -> R:
        with _translated(table):
            client = self._clients.get(table) or await self._create(table)
            try:
                return await action(client)
            except (ResourceNotFoundError, TableTransactionError) as error:
                if _code(error) != TABLE_NOT_FOUND:
                    raise
                self._clients.pop(table, None)
                return await action(await self._create(table))

    async def _create(self, table: str) -> TableClient:
        async with self._creating:
            client = self._clients.get(table)
            if client is None:
                client = await self._service.create_table_if_not_exists(table)
                self._clients[table] = client
            return client


class _translated:
    """Turns SDK errors into the store's own."""

    def __init__(self, table: str) -> None:
        self._table = table

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case ResourceExistsError():
                raise Exists(f"table {self._table}: the row exists") from error
            case ResourceModifiedError() | ResourceNotFoundError():
                raise Changed(f"table {self._table}: the row was changed or removed meanwhile") from error
            case HttpResponseError(status_code=409):
                raise Exists(f"table {self._table}: the row exists") from error
            case HttpResponseError(status_code=404 | 412):
                raise Changed(f"table {self._table}: the row was changed or removed meanwhile") from error
            case HttpResponseError():
                raise Unavailable(
                    f"table {self._table}: storage answered {error.status_code} {_code(error) or error.reason}"
                ) from error
            case AzureError():
                raise Unavailable(f"table {self._table}: {type(error).__name__}: {error.message}") from error


async def _first(
    client: TableClient, text: str, values: dict[str, Any], limit: int, columns: list[str] | None
) -> AsyncIterator[Any]:
    """At most `limit` entities, asking for no larger page than needed."""
    found = client.query_entities(
        text, parameters=values, results_per_page=min(limit, MAX_PAGE), select=columns or None
    )
    count = 0
    if limit <= 0:
        return
    async for entity in found:
        yield entity
        count += 1
        if count >= limit:
            return


def _entity(row: Row) -> dict[str, Any]:
    return {"PartitionKey": row.partition, "RowKey": row.key, **row.properties}


def _stored(entity: Any) -> StoredRow:
    properties = {
        name: value
        for name, value in entity.items()
        if name not in ("PartitionKey", "RowKey") and isinstance(value, str | int | bool)
    }
    return StoredRow(entity["PartitionKey"], entity["RowKey"], properties, str(entity.metadata["etag"]))


def _raise_if_table_is_missing(error: ResourceNotFoundError) -> None:
    if _code(error) == TABLE_NOT_FOUND:
        raise error


def _code(error: HttpResponseError) -> str | None:
    """The service's own word for the error; the SDK sets it without declaring it."""
    code = getattr(error, "error_code", None)
    return None if code is None else str(getattr(code, "value", code))
