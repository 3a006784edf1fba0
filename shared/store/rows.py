"""Rows of a table, as small an interface as the store needs; the only thing the in-memory adapter imitates.

A row holds one JSON document in `doc0`, `doc1`, … (a text property holds at most 32,768 UTF-16 characters), written
as ASCII so that a cut never splits a character and the length in characters is the length in UTF-16 units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from pydantic import BaseModel

from shared.model.document import STORED
from shared.store.keys import checked_key
from shared.store.ports import MAX_DOCUMENT_CHARS, StoreError, TooLarge
from shared.structured_log import Log

MAX_TEXT_CHARS: Final = 32_768
MAX_BATCH_ROWS: Final = 100
CHUNK: Final = "doc"
MAX_PROPERTIES: Final = 252
assert MAX_DOCUMENT_CHARS // MAX_TEXT_CHARS + 1 < MAX_PROPERTIES

Value = str | int | bool
log = Log("mirrorplane.store")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Row:
    """A row to write. Raises ValueError for a key or a property that Table Storage would refuse."""

    partition: str
    key: str
    properties: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_key(self.partition)
        checked_key(self.key)
        if len(self.properties) > MAX_PROPERTIES:
            raise TooLarge(f"row {self.key!r} has {len(self.properties)} properties; {MAX_PROPERTIES} is the limit")
        for name, value in self.properties.items():
            if isinstance(value, str) and len(value.encode("utf-16-le")) > 2 * MAX_TEXT_CHARS:
                raise TooLarge(f"property {name!r} of row {self.key!r} is longer than {MAX_TEXT_CHARS} characters")
            if isinstance(value, int) and not -(2**31) <= value < 2**31:
                raise ValueError(
                    f"property {name!r} of row {self.key!r}: {value} is no 32-bit number; store it as text"
                )


@dataclass(frozen=True)
class StoredRow:
    partition: str
    key: str
    properties: Mapping[str, Value]
    etag: str


class Rows(Protocol):
    """Tables are created on first use. `Exists`, `Changed`, `Unavailable` as in `shared.store.ports`."""

    async def get(self, table: str, partition: str, key: str) -> StoredRow | None: ...

    async def insert(self, table: str, row: Row) -> str: ...

    async def replace(self, table: str, row: Row, etag: str) -> str: ...

    async def upsert(self, table: str, rows: Sequence[Row]) -> None:
        """Rows of one partition; batches of 100, each batch as a whole."""

    async def delete(self, table: str, partition: str, keys: Sequence[str]) -> None:
        """Missing rows are fine."""

    async def delete_if(self, table: str, partition: str, key: str, etag: str, leaving: Row | None = None) -> None:
        """Conditional delete; `leaving` (same partition) is written in the same transaction."""

    async def scan(
        self, table: str, partition: str, limit: int, *, after: str = "", before: str | None = None
    ) -> list[StoredRow]:
        """Rows of a partition in key order with after < key < before."""

    async def scan_keys(self, table: str, first: str, beyond: str, limit: int) -> list[tuple[str, str]]:
        """(partition, key) of rows with first <= partition < beyond."""

    async def scan_range(self, table: str, first: str, beyond: str, limit: int) -> list[StoredRow]:
        """Whole rows with first <= partition < beyond, in key order: one query per 1000 rows, over many partitions."""

    async def close(self) -> None: ...


def document(value: BaseModel) -> dict[str, Value]:
    """The properties that hold `value` as JSON. Raises TooLarge."""
    text = value.model_dump_json(by_alias=True, ensure_ascii=True)
    if len(text) > MAX_DOCUMENT_CHARS:
        raise TooLarge(f"{type(value).__name__} is {len(text)} characters of JSON; {MAX_DOCUMENT_CHARS} is the limit")
    return {
        f"{CHUNK}{index}": text[start : start + MAX_TEXT_CHARS]
        for index, start in enumerate(range(0, len(text), MAX_TEXT_CHARS))
    }


def parse(model: type[M], row: StoredRow) -> M:
    """The document of a row. Raises StoreError that names the row when it is damaged."""
    chunks: list[str] = []
    while isinstance(chunk := row.properties.get(f"{CHUNK}{len(chunks)}"), str):
        chunks.append(chunk)
    try:
        return model.model_validate_json("".join(chunks), context=STORED)
    except ValueError as error:
        raise StoreError(f"row {row.partition!r}/{row.key!r} is no {model.__name__}: {error}") from error


def parse_all(model: type[M], rows: Sequence[StoredRow]) -> list[tuple[M, StoredRow]]:
    """The documents of a list. A damaged row is logged and left out: one of them must not hide all others."""
    found: list[tuple[M, StoredRow]] = []
    for row in rows:
        try:
            found.append((parse(model, row), row))
        except StoreError as error:
            log.failure("row_unreadable", error, partition=row.partition, key=row.key)
    return found
