"""One suite for every witness: the table behind its SAS, and the one in memory."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio
from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables import TableSasPermissions, TableServiceClient, generate_table_sas
from mirror_agent.contract import WitnessAccess
from mirror_agent.core.model import Epoch, Node, Record
from mirror_agent.net.witness import Found, Lost, MemoryWitness, Missing, TableWitness, Unknown, Witness, Won, entity_of

from lab.azurite.server import Azurite

FIRST = Record(Epoch(0), Node(""), frozenset({Node("a")}), "provisioned", "provisioned")
DEADLINE_S = 10.0


def record(epoch: int, primary: str, in_sync: str, nonce: str) -> Record:
    return Record(Epoch(epoch), Node(primary), frozenset(map(Node, in_sync)), nonce, "test")


@dataclass
class Stage:
    """A fresh witness and a way to open another connection to the same record."""

    witness: Witness
    again: Callable[[], Witness]


@pytest.fixture(params=["memory", pytest.param("table", marks=pytest.mark.azurite)])
def access(request: pytest.FixtureRequest) -> WitnessAccess | None:
    """Where the table's record is; None for the witness in memory."""
    if request.param == "memory":
        return None
    azurite: Azurite = request.getfixturevalue("azurite")
    return provision(azurite.connection_string)


@pytest_asyncio.fixture(loop_scope="session")
async def stage(access: WitnessAccess | None) -> AsyncIterator[Stage]:
    if access is None:
        memory = MemoryWitness(FIRST)
        yield Stage(memory, lambda: memory)
        return
    opened: list[Witness] = []

    def again() -> Witness:
        opened.append(TableWitness(access))
        return opened[-1]

    yield Stage(again(), again)
    for witness in opened:
        await witness.close()


def provision(connection_string: str) -> WitnessAccess:
    """A witness row and a SAS for it, as the control plane makes them."""
    parts = dict(part.split("=", 1) for part in connection_string.split(";") if part)
    cluster = uuid.uuid4().hex
    with TableServiceClient.from_connection_string(connection_string) as service:
        table = service.create_table_if_not_exists("witnesstest")
        table.create_entity({"PartitionKey": cluster, "RowKey": "record", **entity_of(FIRST)})
        sas = generate_table_sas(
            AzureNamedKeyCredential(parts["AccountName"], parts["AccountKey"]),
            "witnesstest",
            permission=TableSasPermissions(read=True, update=True),
            expiry="2099-01-01T00:00:00Z",
            start_pk=cluster,
            end_pk=cluster,
            start_rk="record",
            end_rk="record",
        )
        return WitnessAccess(
            endpoint=service.url, table="witnesstest", partition_key=cluster, row_key="record", sas=sas
        )


pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_record_is_read_with_its_etag(stage: Stage) -> None:
    found = await stage.witness.read(deadline_s=DEADLINE_S)
    assert isinstance(found, Found)
    assert found.record == FIRST
    assert found.etag


async def test_a_write_on_the_record_read_wins_and_is_seen_by_all(stage: Stage) -> None:
    found = await stage.witness.read(deadline_s=DEADLINE_S)
    assert isinstance(found, Found)
    wanted = record(1, "a", "a", "disk.1")
    outcome = await stage.witness.write(wanted, etag=found.etag, deadline_s=DEADLINE_S)
    assert isinstance(outcome, Won)
    seen = await stage.again().read(deadline_s=DEADLINE_S)
    assert seen == Found(wanted, outcome.etag)


async def test_of_two_writes_on_the_same_record_one_wins_and_the_other_learns_what_won(stage: Stage) -> None:
    found = await stage.witness.read(deadline_s=DEADLINE_S)
    assert isinstance(found, Found)
    winner, loser = record(1, "a", "a", "disk-a.1"), record(1, "b", "ab", "disk-b.1")
    first = await stage.witness.write(winner, etag=found.etag, deadline_s=DEADLINE_S)
    assert isinstance(first, Won)
    second = await stage.again().write(loser, etag=found.etag, deadline_s=DEADLINE_S)
    assert second == Lost(Found(winner, first.etag))


async def test_writing_the_same_again_after_it_landed_shows_the_own_nonce(stage: Stage) -> None:
    """What a node sees that gave up waiting for the first answer: a lost write whose record carries its nonce."""
    found = await stage.witness.read(deadline_s=DEADLINE_S)
    assert isinstance(found, Found)
    wanted = record(1, "a", "ab", "disk-a.9")
    assert isinstance(await stage.witness.write(wanted, etag=found.etag, deadline_s=DEADLINE_S), Won)
    again = await stage.witness.write(wanted, etag=found.etag, deadline_s=DEADLINE_S)
    assert isinstance(again, Lost)
    assert again.now is not None
    assert again.now.record.nonce == "disk-a.9"


@pytest.mark.azurite
async def test_a_missing_row_is_missing_and_a_foreign_partition_is_unknown(azurite: Azurite) -> None:
    access = provision(azurite.connection_string)
    with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        service.get_table_client("witnesstest").delete_entity(access.partition_key, "record")
    gone = TableWitness(access)
    assert await gone.read(deadline_s=DEADLINE_S) == Missing()
    await gone.close()
    unauthorised = TableWitness(access.model_copy(update={"sas": access.sas.replace("sig=", "sig=x")}))
    outcome = await unauthorised.read(deadline_s=DEADLINE_S)
    assert isinstance(outcome, Unknown)
    assert "sig=" not in outcome.reason
    await unauthorised.close()


async def test_a_store_that_cannot_be_reached_is_unknown_within_the_deadline() -> None:
    access = WitnessAccess(endpoint="http://127.0.0.1:9", table="t", partition_key="p", row_key="r", sas="sig=x")
    witness = TableWitness(access)
    assert isinstance(await witness.read(deadline_s=1.0), Unknown)
    assert isinstance(await witness.write(record(1, "a", "a", "n"), etag="e", deadline_s=1.0), Unknown)
    await witness.close()
