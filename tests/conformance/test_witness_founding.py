"""The founding of a record in a real table, through a signature of the shape that Azure Resource Manager makes.

The shape (order, version, seven digits of a second, escaped colons) is that of a published answer of listServiceSas;
string-to-sign as learn.microsoft.com, "Create a service SAS", has it for version 2015-04-05 and tables.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from typing import Final
from urllib.parse import quote

import pytest
from azure.data.tables import TableServiceClient
from mirror_agent.contract import WitnessAccess
from mirror_agent.core.model import Epoch, Node, Record
from mirror_agent.net.witness import Found, TableWitness, Won
from mirror_agent.net.witness_founding import Founding, found_record

from lab.azurite.server import Azurite

VERSION: Final = "2015-04-05"
EXPIRES: Final = "2099-01-01T00:00:00.0000000Z"
TABLE: Final = "foundingtest"
DEADLINE_S: Final = 10.0
FIRST: Final = Record(Epoch(0), Node(""), frozenset({Node("a")}), "founded-1", "founded")

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.azurite]


def signed(account: str, key: str, cluster: str) -> str:
    """As listServiceSas answers for one row; the emulator has no TLS, so http is allowed too."""
    rows = (cluster, "record", cluster, "record")
    parts = ("rau", "", EXPIRES, f"/table/{account}/{TABLE}", "", "", "https,http", VERSION, *rows)
    signature = hmac.new(base64.b64decode(key), "\n".join(parts).encode(), hashlib.sha256).digest()
    fields = {
        "sv": VERSION,
        "spr": "https,http",
        "se": EXPIRES,
        "sp": "rau",
        "tn": TABLE,
        **dict(zip(("spk", "srk", "epk", "erk"), rows, strict=True)),
        "sig": base64.b64encode(signature).decode(),
    }
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())


@pytest.fixture
def access(azurite: Azurite) -> WitnessAccess:
    parts = dict(part.split("=", 1) for part in azurite.connection_string.split(";") if part)
    cluster = str(uuid.uuid4())
    with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        service.create_table_if_not_exists(TABLE)
        return WitnessAccess(
            endpoint=service.url,
            table=TABLE,
            partition_key=cluster,
            row_key="record",
            sas=signed(parts["AccountName"], parts["AccountKey"], cluster),
        )


async def test_a_record_is_made_once_and_never_written_over(access: WitnessAccess) -> None:
    assert await found_record(access, FIRST) == Founding()
    later = Record(Epoch(0), Node(""), frozenset({Node("b")}), "founded-2", "founded")
    assert await found_record(access, later) == Founding(existing=FIRST)
    witness = TableWitness(access)
    try:
        found = await witness.read(deadline_s=DEADLINE_S)
        assert isinstance(found, Found)
        assert found.record == FIRST
        taken = Record(Epoch(1), Node("a"), frozenset({Node("a")}), "a.1", "start")
        assert isinstance(await witness.write(taken, etag=found.etag, deadline_s=DEADLINE_S), Won)
    finally:
        await witness.close()
    assert await found_record(access, FIRST) == Founding(existing=taken)


@pytest.mark.parametrize("changed", ["spk=", "epk=", "srk=", "erk=", "sp="])
async def test_no_part_of_the_signature_can_be_changed(access: WitnessAccess, changed: str) -> None:
    """Rows and permissions are signed. (That Azure keeps an insert inside the rows only Azure can show: the
    emulator does not.)"""
    others = [f"{part}x" if part.startswith(changed) else part for part in access.sas.split("&")]
    outcome = await found_record(access.model_copy(update={"sas": "&".join(others)}), FIRST)
    assert outcome.unknown is not None
    assert "403" in outcome.unknown
    assert "sig=" not in outcome.unknown


async def test_a_store_that_does_not_answer_leaves_it_unknown(access: WitnessAccess) -> None:
    away = access.model_copy(update={"endpoint": "http://127.0.0.1:1/account"})
    outcome = await found_record(away, FIRST)
    assert outcome.existing is None
    assert outcome.unknown is not None
