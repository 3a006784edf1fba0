"""A crash between any two writes of a request is repaired: by the caller's repetition, and by the timer."""

from __future__ import annotations

import pytest

from shared.model.cluster import ProvisioningState, settled
from shared.model.operation import OperationStatus, finished
from shared.store.journal import JOURNAL
from shared.store.ports import ReconcileMessage, Unavailable
from tests.control_plane_app import App
from tests.control_plane_samples import heartbeat


def _away() -> Unavailable:
    return Unavailable("storage is away")


def _break(app: App, step: str) -> None:
    match step:
        case "record":
            app.rows.fail("insert", "clusters", _away())
        case "operation":
            app.rows.fail("insert", "operations", _away())
        case "message":
            app.queue.fail(_away())


@pytest.mark.parametrize("step", ["record", "operation", "message"])
async def test_a_put_that_broke_is_finished_by_its_repetition(app: App, step: str) -> None:
    _break(app, step)
    broken = await app.put()
    assert (broken.status, broken.code) == (503, "StorageUnavailable")
    assert broken.headers["retry-after"]
    again = await app.put()
    assert again.status == (201 if step == "record" else 200)
    operation_id = again.headers["operation-id"]
    assert app.queue.take() == [ReconcileMessage(operation_id, "pay")]
    assert (await app.send("GET", f"operations/{operation_id}")).status == 200


@pytest.mark.parametrize("step", ["operation", "message"])
async def test_a_put_that_broke_is_finished_by_the_timer(app: App, step: str) -> None:
    _break(app, step)
    await app.put()
    await app.fire("operation_repair", None)
    assert len(app.queue) == 0, "the request may still be at work"
    app.clock.advance(31)
    await app.fire("operation_repair", None)
    await app.fire("operation_repair", None)
    record = await app.record()
    assert app.queue.take() == [ReconcileMessage(record.operation.id, "pay")], "once in each period"
    app.clock.advance(31)
    await app.fire("operation_repair", None)
    assert len(app.queue.take()) == 1


async def test_an_operation_that_is_being_worked_on_is_left_alone(app: App) -> None:
    await app.put()
    app.queue.take()
    for _ in range(3):
        app.clock.advance(20)
        record = await app.record()
        found = await app.plane.store.operations.get(record.operation.id)
        assert found is not None
        touched = found.value.model_copy(update={"updated_at": app.clock()})
        await app.plane.store.operations.replace(touched, found.etag)
        await app.fire("operation_repair", None)
    assert len(app.queue) == 0


async def test_a_record_whose_operation_ended_but_which_was_not_settled_is_looked_at_again(app: App) -> None:
    await app.put()
    app.queue.take()
    record = await app.record()
    found = await app.plane.store.operations.get(record.operation.id)
    assert found is not None
    await app.plane.store.operations.replace(finished(found.value, OperationStatus.SUCCEEDED, app.clock()), found.etag)
    app.clock.advance(31)
    await app.fire("operation_repair", None)
    assert app.queue.take() == [ReconcileMessage(record.operation.id, "pay")]


async def test_an_operation_that_did_not_end_with_its_record_is_looked_at_again(app: App) -> None:
    await app.put()
    app.queue.take()
    found = await app.plane.store.clusters.get("pay")
    assert found is not None
    done = settled(found.value, ProvisioningState.SUCCEEDED, app.clock())
    await app.plane.store.clusters.replace(done, found.etag)
    app.clock.advance(31)
    await app.fire("operation_repair", None)
    assert app.queue.take() == [ReconcileMessage(found.value.operation.id, "pay")]


async def test_a_settled_cluster_is_left_alone(app: App) -> None:
    await app.provisioned()
    app.clock.advance(60)
    before = app.rows.everything(without=JOURNAL)
    await app.fire("operation_repair", None)
    assert app.rows.everything(without=JOURNAL) == before
    assert len(app.queue) == 0


@pytest.mark.parametrize("step", ["operation", "message"])
async def test_a_delete_that_broke_is_finished(app: App, step: str) -> None:
    await app.provisioned()
    _break(app, step)
    assert (await app.send("DELETE", "clusters/pay")).status == 503
    assert (await app.record()).state is ProvisioningState.DELETING
    app.clock.advance(31)
    await app.fire("operation_repair", None)
    record = await app.record()
    assert app.queue.take() == [ReconcileMessage(record.operation.id, "pay")]
    reply = await app.send("DELETE", "clusters/pay")
    assert (reply.status, reply.body["id"]) == (202, record.operation.id)


@pytest.mark.parametrize("table", ["operations", "commands"])
async def test_an_action_that_broke_is_started_by_the_timer(app: App, table: str) -> None:
    await app.provisioned()
    credential = await app.enrolled()
    await app.beat(credential)
    app.rows.fail("insert", table, _away())
    assert (await app.send("POST", "clusters/pay:swap")).status == 503
    app.clock.advance(31)
    await app.fire("operation_repair", None)
    record = await app.record()
    assert record.action is not None
    reply = await app.beat(credential, heartbeat(sequence=2))
    assert [command["id"] for command in reply.body["commands"]] == [f"{record.action.id}-a"]
    assert (await app.send("GET", f"operations/{record.action.id}")).body["status"] in ("NotStarted", "Running")
