"""The one insert of a safety record by a node: the first one of a pair without a control plane, at its founding.

An existing record is never changed, whatever it says. Beside `witness`, which replaces records and never makes one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from mirror_agent.contract import WitnessAccess
from mirror_agent.core.model import Record
from mirror_agent.net.witness import Found, Missing, TableWitness, Unknown, entity_of

DEADLINE_S: Final = 20.0


@dataclass(frozen=True)
class Founding:
    """Neither: the record was made now. `existing` was there before; `unknown` says why nobody knows."""

    existing: Record | None = None
    unknown: str | None = None


async def found_record(access: WitnessAccess, record: Record) -> Founding:
    """Insert `record` if there is none."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            inserted = await asyncio.to_thread(_insert, access, record)
    except TimeoutError:
        return Founding(unknown=f"{access.endpoint} did not answer within {DEADLINE_S:g} s")
    match inserted:
        case True:
            return Founding()
        case False:
            return await _existing(access)
        case str(reason):
            return Founding(unknown=reason)


async def _existing(access: WitnessAccess) -> Founding:
    witness = TableWitness(access)
    try:
        outcome = await witness.read(deadline_s=DEADLINE_S)
    finally:
        await witness.close()
    match outcome:
        case Found(record):
            return Founding(existing=record)
        case Missing():
            return Founding(unknown="the record was removed while it was being made")
        case Unknown(reason):
            return Founding(unknown=reason)


def _insert(access: WitnessAccess, record: Record) -> bool | str:
    """True: made. False: there is one. A text: why it is not known; without the message, which may quote the SAS."""
    from azure.core.credentials import AzureSasCredential
    from azure.core.exceptions import AzureError, ResourceExistsError
    from azure.data.tables import TableClient

    client = TableClient(
        endpoint=access.endpoint,
        table_name=access.table,
        credential=AzureSasCredential(access.sas),
        retry_total=0,
        connection_timeout=DEADLINE_S,
        read_timeout=DEADLINE_S,
    )
    keys = {"PartitionKey": access.partition_key, "RowKey": access.row_key}
    try:
        with client:
            client.create_entity({**keys, **entity_of(record)})
        return True
    except ResourceExistsError:
        return False
    except AzureError as error:
        status = getattr(error, "status_code", None)
        return f"{access.endpoint}: {type(error).__name__}" + (f" {status}" if status else "")
