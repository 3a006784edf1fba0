"""One suite for both stores: in memory and on Azurite. What it asserts is what the control plane relies on."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime, timedelta

import pytest
from azure.core import MatchConditions
from azure.core.credentials import AzureSasCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import HttpResponseError
from azure.data.tables import TableServiceClient
from azure.storage.queue.aio import QueueClient
from mirror_agent.contract import MIRROR_NODES, CommandAction

from lab.azurite.server import Azurite
from shared.model.audit import AuditRecord, FleetRecord, TrackRecord, TurnKind, VerdictTurn
from shared.model.event import RecordedEvent
from shared.model.node_state import CommandStatus, HistoryEntry, NodeCommand, ProbeOutcome, ProbeResult
from shared.model.operation import OperationStatus, finished
from shared.model.principal import AccessRole, ApiToken, ClusterAuthority, Enrolment, NodeCredential
from shared.store.connect import Connection, SettingMissing, connect, memory_store
from shared.store.keys import checked_key, reverse_ticks
from shared.store.memory_rows import MemoryRows
from shared.store.ports import (
    MAX_DOCUMENT_CHARS,
    QUEUE_NAME,
    Changed,
    Exists,
    ReconcileMessage,
    Store,
    TooLarge,
    Unavailable,
)
from shared.store.queue import MemoryReconcileQueue
from shared.store.rows import Row
from tests.control_plane_samples import NOW, Clock, heartbeat, node_state, operation, record

TODAY = NOW.date()


def _no_credential(client_id: str | None) -> AsyncTokenCredential:
    raise AssertionError(f"a connection string needs no credential ({client_id})")


def _connect(storage: Azurite) -> Connection:
    settings: Mapping[str, str] = {
        "AzureWebJobsStorage": storage.connection_string,
        "MIRRORPLANE_WITNESS_STORAGE": storage.connection_string,
    }
    return connect(settings, _no_credential)


@pytest.fixture(params=["memory", pytest.param("azurite", marks=pytest.mark.azurite)])
def storage(request: pytest.FixtureRequest) -> Azurite | None:
    """None means in memory. Azurite is asked for here, outside any event loop, and only when it is wanted."""
    return None if request.param == "memory" else request.getfixturevalue("azurite")


@pytest.fixture
async def store(storage: Azurite | None) -> AsyncIterator[Store]:
    if storage is None:
        yield memory_store(MemoryRows(), MemoryReconcileQueue(Clock()))
        return
    connection = _connect(storage)
    try:
        yield connection.store
    finally:
        await connection.close()


def _name() -> str:
    return f"c{uuid.uuid4().hex[:12]}"


async def test_a_cluster_is_created_once_and_replaced_only_by_whoever_read_it_last(store: Store) -> None:
    cluster = record(_name())
    assert await store.clusters.get(cluster.name) is None
    first = await store.clusters.create(cluster)
    with pytest.raises(Exists):
        await store.clusters.create(cluster)
    read = await store.clusters.get(cluster.name)
    assert read is not None
    assert read == first

    second = await store.clusters.replace(cluster.model_copy(update={"generation": 2}), first.etag)
    assert second.etag != first.etag
    with pytest.raises(Changed):
        await store.clusters.replace(cluster, first.etag)
    with pytest.raises(Changed):
        await store.clusters.delete(cluster, first.etag)
    read = await store.clusters.get(cluster.name)
    assert read is not None
    assert read.value.generation == 2

    await store.clusters.delete(cluster, second.etag)
    assert await store.clusters.get(cluster.name) is None
    assert cluster.id in await store.clusters.deleted()
    with pytest.raises(Changed):
        await store.clusters.replace(cluster, second.etag)
    with pytest.raises(Changed):
        await store.clusters.delete(cluster, second.etag)
    await store.clusters.forget_deleted(cluster.id)
    assert cluster.id not in await store.clusters.deleted()


async def test_of_racing_writers_exactly_one_wins(store: Store) -> None:
    cluster = record(_name())
    made = await asyncio.gather(*(store.clusters.create(cluster) for _ in range(4)), return_exceptions=True)
    assert [type(outcome).__name__ for outcome in made if isinstance(outcome, BaseException)] == ["Exists"] * 3
    first = await store.clusters.get(cluster.name)
    assert first is not None
    outcomes = await asyncio.gather(
        *(
            store.clusters.replace(cluster.model_copy(update={"generation": 10 + number}), first.etag)
            for number in range(4)
        ),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Changed"] * 3 + ["Versioned"]


async def test_clusters_are_listed_by_name_in_pages_without_deleted_ones(store: Store) -> None:
    stem = _name()
    names = [f"{stem}-{letter}" for letter in "abcde"]
    for name in names:
        await store.clusters.create(record(name))
    gone = await store.clusters.get(names[1])
    assert gone is not None
    await store.clusters.delete(gone.value, gone.etag)
    seen: list[str] = []
    after: str | None = stem
    while after is not None and len(seen) < 4:
        page = await store.clusters.page(after, 2)
        seen += [entry.value.name for entry in page.items]
        after = page.next
    assert seen[:4] == [names[0], *names[2:]]
    assert [entry.value.name for entry in (await store.clusters.page("~", 5)).items] == []


async def test_a_large_document_is_split_over_properties_and_a_too_large_one_is_refused(store: Store) -> None:
    script = ("echo 'größer 🙂'\n" * 20_000)[:200_000]
    large = record(_name(), application__startPrim=script)
    await store.clusters.create(large)
    read = await store.clusters.get(large.name)
    assert read is not None
    assert read.value.spec.application.start_prim == script

    files = [{"path": f"f{number}", "content": "x" * 200_000} for number in range(3)]
    with pytest.raises(TooLarge, match=str(MAX_DOCUMENT_CHARS)):
        await store.clusters.create(record(_name(), application__files=files))


async def test_operations_are_conditional_and_purged_when_old(store: Store) -> None:
    cluster = record(_name())
    created = await store.operations.create(operation(cluster))
    with pytest.raises(Exists):
        await store.operations.create(operation(cluster))
    ended = await store.operations.replace(finished(created.value, OperationStatus.SUCCEEDED, NOW), created.etag)
    with pytest.raises(Changed):
        await store.operations.replace(created.value, created.etag)
    running = operation(cluster, str(uuid.uuid4()))
    await store.operations.create(running)

    assert await store.operations.purge_finished(NOW, 1000) == 0
    assert await store.operations.purge_finished(NOW + timedelta(seconds=1), 1000) >= 1
    assert await store.operations.get(ended.value.id) is None
    assert await store.operations.get(running.id) is not None


async def test_a_node_state_is_one_row_and_its_history_is_newest_first_without_repetitions(store: Store) -> None:
    cluster_id = str(uuid.uuid4())
    state = node_state(cluster_id)
    await store.node_states.put(state, None)
    with pytest.raises(Exists):
        await store.node_states.put(state, None)
    read = await store.node_states.get(cluster_id, "a")
    assert read is not None
    assert read.value == state
    await store.node_states.put(state, read.etag)
    with pytest.raises(Changed):
        await store.node_states.put(state, read.etag)
    assert dict(await store.node_states.of_cluster(cluster_id)) == {"a": state}

    entries = [
        HistoryEntry(
            cluster_id=cluster_id,
            node="a",
            heartbeat=heartbeat("a", sequence=number),
            received_at=NOW + timedelta(seconds=number),
            agent_start_seen_at=NOW,
        )
        for number in range(1, 8)
    ]
    await store.node_states.append_history(entries)
    await store.node_states.append_history(entries)  # a repeated post
    newer_start = entries[0].model_copy(update={"agent_start_seen_at": NOW + timedelta(hours=1)})
    await store.node_states.append_history([newer_start])
    first = await store.node_states.history(cluster_id, "a", TODAY, None, 5)
    rest = await store.node_states.history(cluster_id, "a", TODAY, first.next, 5)
    assert [entry.heartbeat.sequence for entry in (*first.items, *rest.items)] == [1, 7, 6, 5, 4, 3, 2, 1]
    assert first.next is not None
    assert rest.next is None
    assert (await store.node_states.history(cluster_id, "b", TODAY, None, 5)).items == ()


async def test_probes_are_kept_newest_first(store: Store) -> None:
    cluster_id = str(uuid.uuid4())
    results = [
        ProbeResult(cluster_id=cluster_id, node="a", at=NOW + timedelta(seconds=number), outcome=ProbeOutcome.SERVING)
        for number in range(3)
    ]
    await store.probes.append(results)
    await store.probes.append(results)
    page = await store.probes.page(cluster_id, "a", TODAY, None, 10)
    assert list(page.items) == results[::-1]


async def test_an_event_is_recorded_once_whatever_the_order_and_day_of_its_repetition(store: Store) -> None:
    identity = str(uuid.uuid4())
    event = RecordedEvent(id=identity, source="/sources/#1?x", type="T", received_at=NOW, data={"k": ["v"]})
    assert await store.events.record(event)
    assert not await store.events.record(event.model_copy(update={"received_at": NOW + timedelta(days=2)}))
    other = event.model_copy(update={"source": "/another"})
    assert await store.events.record(other)
    page = await store.events.page(TODAY, None, 1000)
    assert [entry for entry in page.items if entry.id == identity and entry.source == event.source] == [event]
    later = await store.events.page((NOW + timedelta(days=2)).date(), None, 1000)
    assert [entry for entry in later.items if entry.id == identity] == []


async def test_the_events_of_one_cluster_are_read_without_those_of_others(store: Store) -> None:
    names = [f"c{uuid.uuid4().hex[:12]}", "x" * 600]  # a name is whatever the event said
    made = [
        RecordedEvent(
            id=str(uuid.uuid4()), source="s", type="T", cluster=name, received_at=NOW + timedelta(seconds=number)
        )
        for number in range(3)
        for name in names
    ]
    for event in made:
        assert await store.events.record(event)
    for name in names:
        mine = [event for event in made if event.cluster == name][::-1]
        first = await store.events.page_of(name, TODAY, None, 2)
        assert list(first.items) == mine[:2]
        rest = await store.events.page_of(name, TODAY, first.next, 2)
        assert (list(rest.items), rest.next) == (mine[2:], None)


async def test_a_fleet_is_posted_whole_and_notes_outlive_the_audit_that_did_not_see_them(store: Store) -> None:
    seen, late = (f"c{uuid.uuid4().hex[:12]}" for _ in range(2))
    await store.clusters.create(record(seen))
    noted = await store.fleet.noted()
    await store.clusters.create(record(late))
    texts = [f"text {number} " + random.Random(number).randbytes(700_000).hex() for number in range(2)]
    for text in texts:  # longer than a row
        await store.fleet.post(uuid.uuid4().hex, text, noted)
        posted = await store.fleet.posted()
        assert posted is not None
        assert posted.text == text
        assert posted.changes[late]
        assert seen not in posted.changes


async def test_tokens(store: Store) -> None:
    token = ApiToken(
        id=uuid.uuid4().hex, name="ci", role=AccessRole.MONITOR, secret_sha256="00", created_at=NOW, created_by="x"
    )
    await store.tokens.create(token)
    with pytest.raises(Exists):
        await store.tokens.create(token)
    assert await store.tokens.get(token.id) == token
    assert token in (await store.tokens.page(None, 100)).items
    await store.tokens.delete(token.id)
    await store.tokens.delete(token.id)
    assert await store.tokens.get(token.id) is None


async def test_an_enrolment_is_consumed_by_exactly_one(store: Store) -> None:
    cluster_id = str(uuid.uuid4())
    await store.credentials.create_authority(
        ClusterAuthority(cluster_id=cluster_id, certificate_pem="C", wrapped_key="W", created_at=NOW)
    )
    authority = await store.credentials.authority(cluster_id)
    assert authority is not None
    with pytest.raises(Exists):
        await store.credentials.create_authority(authority)
    enrolment = Enrolment(
        id=uuid.uuid4().hex,
        cluster_id=cluster_id,
        cluster="pay",
        node="a",
        secret_sha256="00",
        created_at=NOW,
        expires_at=NOW,
    )
    await store.credentials.create_enrolment(enrolment)
    read = await store.credentials.enrolment(cluster_id, enrolment.id)
    assert read is not None
    outcomes = await asyncio.gather(
        *(
            store.credentials.replace_enrolment(enrolment.model_copy(update={"public_key_sha256": key}), read.etag)
            for key in ("one", "two", "three")
        ),
        return_exceptions=True,
    )
    assert sum(1 for outcome in outcomes if isinstance(outcome, Changed)) == 2

    credential = NodeCredential(
        cluster_id=cluster_id, cluster="pay", node="a", enrolment_id="e", secret_sha256="00", enrolled_at=NOW
    )
    await store.credentials.put_credential(credential, None)
    with pytest.raises(Exists):
        await store.credentials.put_credential(credential, None)
    stored = await store.credentials.credential(cluster_id, "a")
    assert stored is not None
    await store.credentials.put_credential(credential, stored.etag)
    with pytest.raises(Changed):
        await store.credentials.put_credential(credential, stored.etag)


async def test_a_command_is_created_once_and_moved_conditionally(store: Store) -> None:
    command = NodeCommand(
        id="op-a",
        operation_id="op",
        cluster_id=str(uuid.uuid4()),
        node="a",
        action=CommandAction.SWAP,
        requested_by="x",
        created_at=NOW,
        updated_at=NOW,
    )
    await store.commands.create(command)
    [read] = await store.commands.of_cluster(command.cluster_id)
    await store.commands.replace(command.model_copy(update={"status": CommandStatus.SUCCEEDED}), read.etag)
    await store.commands.create(command)
    [again] = await store.commands.of_cluster(command.cluster_id)
    assert again.value.status is CommandStatus.SUCCEEDED
    with pytest.raises(Changed):
        await store.commands.replace(command, read.etag)
    await store.commands.delete(command.cluster_id, command.id)
    assert await store.commands.of_cluster(command.cluster_id) == []


async def test_an_audit_row_is_conditional_and_the_last_run_never_moves_back(store: Store) -> None:
    verdict = TrackRecord(
        state="healthy", rule="two-sources-agree", sentence="", since=NOW, seen="healthy", seen_since=NOW
    )
    audit = AuditRecord(cluster_id=str(uuid.uuid4()), cluster="pay", audited_at=NOW, run_id="1", nodes={"a": verdict})
    assert await store.audits.get(audit.cluster_id) is None
    await store.audits.put(audit, None)
    with pytest.raises(Exists):
        await store.audits.put(audit, None)
    read = await store.audits.get(audit.cluster_id)
    assert read is not None
    assert read.value == audit
    await store.audits.put(audit, read.etag)
    with pytest.raises(Changed):
        await store.audits.put(audit, read.etag)
    fleet = await store.audits.fleet()
    mine = FleetRecord(run_id=str(uuid.uuid4()), ended_at=NOW)
    etag = await store.audits.put_fleet(mine, None if fleet is None else fleet.etag)
    with pytest.raises((Changed, Exists)):
        await store.audits.put_fleet(mine, None if fleet is None else fleet.etag)
    read_again = await store.audits.fleet()
    assert read_again is not None
    assert (read_again.value, read_again.etag) == (mine, etag)


async def test_a_range_of_clusters_is_read_at_once(store: Store) -> None:
    ids = [f"e{digit}{uuid.uuid4().hex[2:]}" for digit in "0123"]
    for cluster_id in ids:
        await store.node_states.put(node_state(cluster_id), None)
        await store.witness.ensure(cluster_id, "a")
    await store.audits.put(AuditRecord(cluster_id=ids[1], cluster="pay", audited_at=NOW, run_id="1"), None)
    found = await store.fleet.between("e1", "e3", 1000)
    assert {ids[1], ids[2]} <= found.keys()
    assert not {ids[0], ids[3]} & found.keys()
    one, two = found[ids[1]], found[ids[2]]
    assert one.states.keys() == {"a"}
    assert (one.audit is not None, one.audit_etag is not None) == (True, True)
    assert (two.audit, two.audit_etag) == (None, None)
    assert two.witness is not None
    assert two.witness.in_sync == "a"


async def test_turns_of_verdicts_are_kept_newest_first_and_once(store: Store) -> None:
    cluster_id = str(uuid.uuid4())
    turns = [
        VerdictTurn(
            cluster_id=cluster_id,
            cluster="pay",
            kind=kind,
            at=NOW + timedelta(seconds=number),
            before="healthy",
            after="exposed",
            rule="runs-alone",
            sentence="s",
        )
        for number, kind in enumerate((TurnKind.CLUSTER, TurnKind.NODE))
    ]
    await store.audits.append_turns(turns)
    await store.audits.append_turns(turns)
    page = await store.audits.turns(cluster_id, TODAY, None, 10)
    assert list(page.items) == turns[::-1]


async def test_probes_of_a_node_are_paged_beside_those_of_its_peer(store: Store) -> None:
    cluster_id = str(uuid.uuid4())
    looks = [
        ProbeResult(cluster_id=cluster_id, node=node, at=NOW + timedelta(seconds=number), outcome=ProbeOutcome.SERVING)
        for number in range(7)
        for node in (("a", "b") if number % 2 else ("b",))
    ]
    await store.probes.append(looks)
    for node in ("a", "b"):
        seen: list[ProbeResult] = []
        after: str | None = None
        while True:
            page = await store.probes.page(cluster_id, node, TODAY, after, 2)
            seen += page.items
            after = page.next
            if after is None:
                break
        assert seen == [look for look in reversed(looks) if look.node == node]


async def test_the_safety_record_is_created_once_and_never_overwritten(store: Store) -> None:
    cluster_id = str(uuid.uuid4())
    assert await store.witness.read(cluster_id) is None
    assert await store.witness.ensure(cluster_id, "b")
    assert not await store.witness.ensure(cluster_id, "a")
    found = await store.witness.read(cluster_id)
    assert found is not None
    assert (found.epoch, found.primary, found.in_sync, found.nonce, found.rule) == (
        0,
        "",
        "b",
        "provisioned",
        "provisioned",
    )
    await store.witness.delete(cluster_id)
    await store.witness.delete(cluster_id)
    assert await store.witness.read(cluster_id) is None


async def test_retention_removes_old_days_and_what_a_deleted_cluster_left(store: Store) -> None:
    cluster_id, neighbour = str(uuid.uuid4()), str(uuid.uuid4())
    old = NOW - timedelta(days=10)
    for owner in (cluster_id, neighbour):
        await store.node_states.put(node_state(owner), None)
        await store.probes.append(
            [
                ProbeResult(cluster_id=owner, node="b", at=at + timedelta(seconds=second), outcome=ProbeOutcome.REFUSED)
                for at in (old, NOW)
                for second in range(3)
            ]
        )
        beats = [
            HistoryEntry(
                cluster_id=owner,
                node="a",
                heartbeat=heartbeat(sequence=number),
                received_at=old,
                agent_start_seen_at=old,
            )
            for number in range(3)
        ]
        await store.node_states.append_history(beats)
    assert await store.retention.purge_days(cluster_id, MIRROR_NODES, TODAY, 2) == 2
    assert await store.retention.purge_days(cluster_id, MIRROR_NODES, TODAY, 100) == 1
    assert await store.retention.purge_days(cluster_id, MIRROR_NODES, TODAY, 100) == 0
    assert await store.retention.purge_cluster(cluster_id, 2) == 2
    assert await store.retention.purge_cluster(cluster_id, 100) == 5
    assert await store.retention.purge_cluster(cluster_id, 100) == 0
    assert len((await store.probes.page(neighbour, "b", old.date(), None, 10)).items) == 3
    assert await store.retention.purge_probes(TODAY, 2) == 2
    while await store.retention.purge_probes(TODAY, 1000):
        pass
    assert (await store.probes.page(neighbour, "b", old.date(), None, 10)).items == ()
    assert len((await store.probes.page(neighbour, "b", TODAY, None, 10)).items) == 3
    assert await store.node_states.get(neighbour, "a") is not None

    old = datetime(2020, 1, 1, tzinfo=UTC)
    event = RecordedEvent(id=str(uuid.uuid4()), source="s", type="T", cluster=cluster_id, received_at=old)
    assert await store.events.record(event)
    assert (await store.events.page_of(cluster_id, old.date(), None, 10)).items == (event,)
    assert await store.retention.purge_events(date(2020, 1, 2), 100) >= 2
    assert (await store.events.page_of(cluster_id, old.date(), None, 10)).items == ()
    assert await store.events.record(event), "forgotten with its day"


@pytest.mark.azurite
async def test_a_queue_message_is_base64_json_and_waits_its_delay(azurite: Azurite) -> None:
    connection = _connect(azurite)
    queue = QueueClient.from_connection_string(azurite.connection_string, QUEUE_NAME)
    try:
        await connection.store.queue.enqueue(ReconcileMessage("op-1", "pay"))
        await connection.store.queue.enqueue(ReconcileMessage("op-2", "pay"), delay_s=3600)
        texts = [message.content async for message in queue.receive_messages(visibility_timeout=1)]
        assert [json.loads(base64.b64decode(text)) for text in texts] == [{"operationId": "op-1", "cluster": "pay"}]
        await queue.delete_queue()
        await connection.store.queue.enqueue(ReconcileMessage("op-3", "pay"))  # created again
    finally:
        await queue.close()
        await connection.close()


@pytest.mark.azurite
@pytest.mark.filterwarnings("ignore:Testing an element's truth value:DeprecationWarning")  # in the SDK's error reader
async def test_a_witness_signature_opens_one_row_for_reading_and_updating_only(azurite: Azurite) -> None:
    connection = _connect(azurite)
    mine, other = str(uuid.uuid4()), str(uuid.uuid4())
    try:
        for cluster_id in (mine, other):
            await connection.store.witness.ensure(cluster_id, "a")
        access = connection.store.witness.access(mine, datetime.now(UTC))
        assert access.endpoint == azurite.table_endpoint
        table = TableServiceClient(access.endpoint, credential=AzureSasCredential(access.sas)).get_table_client(
            access.table
        )
        with table:
            row = table.get_entity(access.partition_key, access.row_key)
            assert row["in_sync"] == "a"
            table.update_entity(
                {**row, "epoch": 1}, etag=row.metadata["etag"], match_condition=MatchConditions.IfNotModified
            )
            for forbidden in (
                lambda: table.create_entity({"PartitionKey": mine, "RowKey": "another"}),
                lambda: table.delete_entity(mine, access.row_key),
            ):
                with pytest.raises(HttpResponseError):
                    forbidden()
        assert (await connection.store.witness.read(other)) is not None
    finally:
        await connection.close()


@pytest.mark.azurite
async def test_a_table_deleted_under_us_is_made_again(azurite: Azurite) -> None:
    connection = _connect(azurite)
    try:
        await connection.store.tokens.delete("x")
        with TableServiceClient.from_connection_string(azurite.connection_string) as service:
            service.delete_table("tokens")
        assert await connection.store.tokens.get("x") is None
    finally:
        await connection.close()


async def test_storage_that_is_away_is_reported_as_unavailable() -> None:
    nowhere = (
        "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=AAAA;"
        "TableEndpoint=http://127.0.0.1:1/devstoreaccount1;QueueEndpoint=http://127.0.0.1:1/devstoreaccount1;"
    )
    settings = {"AzureWebJobsStorage": nowhere, "MIRRORPLANE_WITNESS_STORAGE": nowhere}
    connection = connect(settings, _no_credential, retries=0)
    try:
        with pytest.raises(Unavailable, match="clusters"):
            await connection.store.clusters.get("pay")
        with pytest.raises(Unavailable, match="mirrorplane-reconcile"):
            await connection.store.queue.enqueue(ReconcileMessage("op", "pay"))
    finally:
        await connection.close()


def test_settings_that_are_missing_are_named() -> None:
    with pytest.raises(SettingMissing, match="AzureWebJobsStorage__tableServiceUri"):
        connect({}, _no_credential)


def test_keys_and_properties_beyond_the_limits_are_refused_before_they_are_sent() -> None:
    for key in ("a/b", "a\\b", "a#b", "a?b", "a\nb", "a\x80b"):
        with pytest.raises(ValueError, match="forbids"):
            checked_key(key)
    with pytest.raises(ValueError, match="limit"):
        checked_key("x" * 600)
    with pytest.raises(TooLarge):
        Row("p", "k", {"text": "x" * 32_769})
    with pytest.raises(ValueError, match="32-bit"):
        Row("p", "k", {"number": 2**31})
    assert reverse_ticks(NOW + timedelta(seconds=1)) < reverse_ticks(NOW)
