"""The witness port: one row, read and changed only by conditional write, with typed outcomes.

Problem: "the store said no" and "the store did not say" are different worlds (a lost compare-and-swap must demote, an
unreachable store must not), and client libraries mix both into exceptions.
Guarantee: `Won`, `Lost` and `Unknown` are told apart by exception type and status code, never by text. Every call ends
within its total deadline, whatever the library's own time-outs do; a call that is given up may still land, so it is
`Unknown` and its nonce tells later.
Limits: epochs below 2^31 (Edm.Int32).
Sources: azure-data-tables 12.7 (`ResourceModifiedError` = 412, `ResourceNotFoundError` = 404); DESIGN §3.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from mirror_agent.contract import WitnessAccess
from mirror_agent.core.model import Epoch, Node, Record

if TYPE_CHECKING:
    from azure.data.tables import TableClient

MAX_EPOCH: Final = 2**31 - 1
# A call that was given up may still hold its thread until the socket times out; more than this many means the store
# hangs, and waiting for a free thread is then as good as waiting for the store.
MAX_THREADS: Final = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    record: Record
    etag: str


@dataclass(frozen=True, slots=True)
class Missing:
    """The store answered: there is no record."""


@dataclass(frozen=True, slots=True)
class Won:
    etag: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Somebody else changed the record first; this is what it says now (None: that could not be read any more)."""

    now: Found | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The store did not answer, or not to the point. Never to be taken for won or lost."""

    reason: str


ReadOutcome = Found | Missing | Unknown
WriteOutcome = Won | Lost | Unknown


class Witness(Protocol):
    """What the node needs of the store. `deadline_s` is total, from call to return."""

    async def read(self, *, deadline_s: float) -> ReadOutcome: ...

    async def write(self, record: Record, *, etag: str, deadline_s: float) -> WriteOutcome:
        """Replace the record if it still has `etag`."""
        ...

    async def close(self) -> None: ...


class MemoryWitness:
    """A witness in this process, for the simulator and tests; passes the same conformance suite as the table."""

    def __init__(self, record: Record | None = None) -> None:
        self._record = record
        self._version = 0

    def _found(self) -> Found | None:
        return Found(self._record, str(self._version)) if self._record is not None else None

    async def read(self, *, deadline_s: float) -> ReadOutcome:
        return self._found() or Missing()

    async def write(self, record: Record, *, etag: str, deadline_s: float) -> WriteOutcome:
        if self._record is None or etag != str(self._version):
            return Lost(self._found())
        self._record, self._version = record, self._version + 1
        return Won(str(self._version))

    async def close(self) -> None:
        return None


class TableWitness:
    """The record in Azure Table Storage, reached with a SAS for the cluster's partition."""

    def __init__(self, access: WitnessAccess) -> None:
        self._access = access
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="witness")
        self._lock = threading.Lock()
        self._line: _Line | None = None

    def renew(self, access: WitnessAccess) -> None:
        """Another signature, or another place, from the next call on; a call under way ends with the old one."""
        if access != self._access:
            with self._lock:
                self._access, old, self._line = access, self._line, None
            _retire(old, self._lock)

    @contextlib.contextmanager
    def _table(self, deadline_s: float) -> Iterator[_Table]:
        """On a thread. Whoever uses a line last that was given up closes it."""
        from azure.core.credentials import AzureSasCredential
        from azure.data.tables import TableClient

        with self._lock:
            access = self._access
            if self._line is None:
                # No retries: a retry of a conditional write hides whose write won; the core decides about the next one.
                client = TableClient(
                    endpoint=access.endpoint,
                    table_name=access.table,
                    credential=AzureSasCredential(access.sas),
                    retry_total=0,
                    connection_timeout=deadline_s,
                    read_timeout=deadline_s,
                )
                self._line = _Line(client)
            line = self._line
            line.calls += 1
        try:
            yield _Table(line.client, access.partition_key, access.row_key)
        finally:
            with self._lock:
                line.calls -= 1
                left = line.retired and not line.calls
            if left:
                line.client.close()

    async def read(self, *, deadline_s: float) -> ReadOutcome:
        def read() -> ReadOutcome:
            with self._table(deadline_s) as table:
                return table.read()

        return await self._call(read, deadline_s)

    async def write(self, record: Record, *, etag: str, deadline_s: float) -> WriteOutcome:
        assert record.epoch <= MAX_EPOCH, "the epoch no longer fits the column"

        def write() -> WriteOutcome:
            with self._table(deadline_s) as table:
                return table.write(record, etag)

        return await self._call(write, deadline_s)

    async def _call(self, work: Callable[[], T], deadline_s: float) -> T | Unknown:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline_s):
                return await loop.run_in_executor(self._threads, work)
        except TimeoutError:
            return Unknown(f"no answer within {deadline_s:g} s")

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            old, self._line = self._line, None
        _retire(old, self._lock)


@dataclass
class _Line:
    """A client with its connections. `calls`: under way on it."""

    client: TableClient
    calls: int = 0
    retired: bool = False


def _retire(line: _Line | None, lock: threading.Lock) -> None:
    """Closed now, or by the last call that is under way on it."""
    if line is None:
        return
    with lock:
        line.retired = True
        unused = not line.calls
    if unused:
        line.client.close()


class _Table:
    """The blocking calls, on a thread."""

    def __init__(self, client: TableClient, partition_key: str, row_key: str) -> None:
        self._client = client
        self._keys = {"PartitionKey": partition_key, "RowKey": row_key}

    def read(self) -> ReadOutcome:
        from azure.core.exceptions import AzureError, ResourceNotFoundError

        try:
            entity = self._client.get_entity(self._keys["PartitionKey"], self._keys["RowKey"])
            return Found(record_of(dict(entity)), str(entity.metadata["etag"]))
        except ResourceNotFoundError:
            return Missing()
        except AzureError as error:
            return Unknown(_describe(error))
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            return Unknown(f"the witness record cannot be read: {type(error).__name__} {error}")

    def write(self, record: Record, etag: str) -> WriteOutcome:
        from azure.core import MatchConditions
        from azure.core.exceptions import AzureError, ResourceModifiedError, ResourceNotFoundError
        from azure.data.tables import UpdateMode

        try:
            answer = self._client.update_entity(
                {**self._keys, **entity_of(record)},
                mode=UpdateMode.REPLACE,
                etag=etag,
                match_condition=MatchConditions.IfNotModified,
            )
            return Won(str(answer["etag"]))
        except (ResourceModifiedError, ResourceNotFoundError):
            now = self.read()
            return Lost(now if isinstance(now, Found) else None)
        except AzureError as error:
            return Unknown(_describe(error))


def entity_of(record: Record) -> dict[str, str | int]:
    """The columns of the row. The in-sync set is written in the nodes' order, separated by commas."""
    return {
        "epoch": int(record.epoch),
        "primary": str(record.primary),
        "in_sync": ",".join(sorted(record.in_sync)),
        "nonce": record.nonce,
        "rule": record.rule,
    }


def record_of(entity: dict[str, object]) -> Record:
    """The record in a row; KeyError, TypeError or ValueError when it is not one."""
    epoch, primary, in_sync = entity["epoch"], entity["primary"], entity["in_sync"]
    if not isinstance(epoch, int) or not isinstance(primary, str) or not isinstance(in_sync, str):
        raise TypeError(f"columns of the wrong type: epoch={epoch!r} primary={primary!r} in_sync={in_sync!r}")
    members = frozenset(Node(name) for name in in_sync.split(",") if name)
    return Record(Epoch(epoch), Node(primary), members, str(entity["nonce"]), str(entity.get("rule", "")))


def _describe(error: Exception) -> str:
    """Type and status, never the message: it may quote the request, and the request carries the SAS."""
    status = getattr(error, "status_code", None)
    return f"{type(error).__name__}" + (f" {status}" if status else "")
