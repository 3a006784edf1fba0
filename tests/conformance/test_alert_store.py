"""What alerting relies on, in memory and on Azurite: one winner per row, pointers that heal, letters listed once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from azure.core.credentials_async import AsyncTokenCredential

from lab.azurite.server import Azurite
from shared.alerts.conditions import condition
from shared.alerts.lifecycle import acknowledged, opened
from shared.alerts.tick import advance_alerts
from shared.model.alert import Alert, AlertState, DeadLetter, DeadLetterKind, Delivery, Group
from shared.model.event_fact import EventFact, EventFactKind
from shared.store.connect import connect, memory_store
from shared.store.memory_rows import MemoryRows
from shared.store.ports import Changed, Exists, Store
from shared.store.queue import MemoryReconcileQueue
from tests.control_plane_app import running_app
from tests.control_plane_samples import NOW, Clock
from tests.golden.alerts.scenario import verdict_of
from tests.unit.alerts.test_channels import notice

AT_ONCE = 8


def _no_credential(client_id: str | None) -> AsyncTokenCredential:
    raise AssertionError(f"a connection string needs no credential ({client_id})")


@pytest.fixture(params=["memory", pytest.param("azurite", marks=pytest.mark.azurite)])
def storage(request: pytest.FixtureRequest) -> Azurite | None:
    return None if request.param == "memory" else request.getfixturevalue("azurite")


@pytest.fixture
async def store(storage: Azurite | None) -> AsyncIterator[Store]:
    if storage is None:
        yield memory_store(MemoryRows(), MemoryReconcileQueue(Clock()))
        return
    text = storage.connection_string
    connection = connect({"AzureWebJobsStorage": text, "MIRRORPLANE_WITNESS_STORAGE": text}, _no_credential)
    try:
        yield connection.store
    finally:
        await connection.close()


def _cluster() -> str:
    return f"c{uuid.uuid4().hex[:12]}"


def _alert(cluster: str) -> Alert:
    return opened(condition(cluster, "cluster-down", "cluster"), NOW)


def _fact(cluster: str, second: int, *, is_open: bool) -> EventFact:
    return EventFact(
        cluster=cluster,
        kind=EventFactKind.RESOURCE,
        subject="virtualmachines/x",
        value="delete" if is_open else "write",
        open=is_open,
        at=NOW + timedelta(seconds=second),
        received_at=NOW,
        event_id=str(second),
    )


async def test_of_many_who_open_or_change_an_alert_one_wins(store: Store) -> None:
    alert = _alert(_cluster())
    made = await asyncio.gather(*(store.alerting.alerts.create(alert) for _ in range(AT_ONCE)), return_exceptions=True)
    assert sum(isinstance(result, Exists) for result in made) == AT_ONCE - 1
    found = await store.alerting.alerts.get(alert.key)
    assert found is not None
    taken = acknowledged(alert, "me", "", NOW)
    changes = [store.alerting.alerts.replace(taken, found.etag) for _ in range(AT_ONCE)]
    results = await asyncio.gather(*changes, return_exceptions=True)
    assert sum(isinstance(result, Changed) for result in results) == AT_ONCE - 1
    with pytest.raises(Changed):
        await store.alerting.alerts.remove(taken, found.etag)


async def test_a_resolved_alert_moves_from_the_open_ones_to_the_history(store: Store) -> None:
    alert = _alert(_cluster())
    made = await store.alerting.alerts.create(alert)
    ended = alert.model_copy(update={"state": AlertState.RESOLVED, "resolved_at": NOW})
    changed = await store.alerting.alerts.replace(ended, made.etag)
    assert ended in [entry.value for entry in await store.alerting.alerts.open()]
    another = await store.alerting.alerts.create(_alert(f"{alert.cluster}x"))
    assert [entry.value for entry in await store.alerting.alerts.open_of(alert.cluster)] == [ended]
    assert await store.alerting.alerts.get(another.value.key) == another
    await store.alerting.alerts.remove(ended, changed.etag)
    assert alert.key not in [entry.value.key for entry in await store.alerting.alerts.open()]
    page = await store.alerting.alerts.history(NOW.date(), None, 1000)
    assert page.items.count(ended) == 1


async def test_a_group_is_created_and_replaced_by_one(store: Store) -> None:
    key = f"cluster-{_cluster()}"
    made = await store.alerting.groups.put(Group(key=key), None)
    with pytest.raises(Exists):
        await store.alerting.groups.put(Group(key=key), None)
    await store.alerting.groups.put(Group(key=key, outbox=notice()), made.etag)
    with pytest.raises(Changed):
        await store.alerting.groups.put(Group(key=key), made.etag)
    found = await store.alerting.groups.get(key)
    assert found is not None
    assert found.value.outbox == notice()


async def test_facts_written_at_once_in_any_order_leave_the_newest(store: Store) -> None:
    cluster = _cluster()
    facts = [_fact(cluster, second, is_open=second % 2 == 1) for second in (4, 1, 7, 3, 6, 2, 5)]
    await asyncio.gather(*(store.alerting.event_facts.merge(fact) for fact in facts))
    [kept] = await store.alerting.event_facts.of_cluster(cluster)
    assert (kept.event_id, kept.open) == ("7", True)
    assert kept in await store.alerting.event_facts.open()
    await store.alerting.event_facts.merge(_fact(cluster, 8, is_open=False))
    for _ in range(2):
        assert cluster not in {fact.cluster for fact in await store.alerting.event_facts.open()}
    await store.alerting.event_facts.merge(_fact(cluster, 9, is_open=True))
    assert cluster in {fact.cluster for fact in await store.alerting.event_facts.open()}
    assert await store.alerting.event_facts.purge(cluster) == 1


async def test_a_delivery_is_claimed_by_one_and_never_added_again_once_done(store: Store) -> None:
    message = notice().model_copy(update={"id": uuid.uuid4().hex})
    delivery = Delivery(id=message.id, channel="ear", notice=message, created_at=NOW, next_attempt_at=NOW)
    added = await asyncio.gather(*(store.alerting.deliveries.add(delivery) for _ in range(AT_ONCE)))
    assert sum(added) == 1
    [mine] = [entry for entry in await store.alerting.deliveries.waiting(1000) if entry.value.id == message.id]
    claims = [store.alerting.deliveries.replace(delivery, mine.etag) for _ in range(AT_ONCE)]
    results = await asyncio.gather(*claims, return_exceptions=True)
    [won] = [result for result in results if not isinstance(result, BaseException)]
    await store.alerting.deliveries.finish(delivery, won.etag)
    assert not await store.alerting.deliveries.add(delivery)


async def test_a_letter_is_listed_once_newest_first(store: Store) -> None:
    name = uuid.uuid4().hex
    for second in (0, 5, 9):
        letter = DeadLetter(id=f"{name}-{min(second, 5)}", kind=DeadLetterKind.EVENT, at=NOW, reason="r")
        await store.alerting.dead_letters.record(letter.model_copy(update={"at": NOW + timedelta(seconds=second)}))
    page = await store.alerting.dead_letters.page(DeadLetterKind.EVENT, None, 1000)
    mine = [letter.id for letter in page.items if letter.id.startswith(name)]
    assert mine == [f"{name}-5", f"{name}-0"]


async def test_racing_auditors_leave_one_timeline_entry_and_one_notice(store: Store) -> None:
    with running_app() as app:
        plane = replace(app.plane, store=store)
        cluster = _cluster()
        for second in (0, 30, 60):
            now = NOW + timedelta(seconds=second)
            verdicts = [verdict_of(cluster, {"state": "down"}, now)]
            await asyncio.gather(*(advance_alerts(plane, verdicts, now) for _ in range(4)))
    group = await store.alerting.groups.get(f"cluster-{cluster}")
    assert group is not None
    assert (group.value.number, group.value.outbox) == (1, None)
    page = await store.events.page(app.clock().date(), None, 1000)
    fired = [event for event in page.items if event.cluster == cluster]
    assert [event.type for event in fired] == ["Mirrorplane.Alert.Fired"]
