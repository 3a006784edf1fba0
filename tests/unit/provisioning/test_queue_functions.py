"""The queue functions as the worker calls them: what they do with messages that nobody can work on."""

from __future__ import annotations

from collections.abc import Iterator

import azure.functions as func
import pytest

from shared.model.cluster import ProvisioningState
from shared.store.messages import encode
from shared.store.ports import ReconcileMessage
from tests.control_plane_app import App, running_app


@pytest.fixture
def app() -> Iterator[App]:
    with running_app() as running:
        yield running


def message(text: str) -> func.QueueMessage:
    return func.QueueMessage(id="m-1", body=text.encode())


async def test_a_message_that_was_given_up_is_seen_by_the_caller(app: App) -> None:
    accepted = await app.put()
    operation_id = accepted.headers["operation-id"]
    await app.fire("reconcile_poison", message(encode(ReconcileMessage(operation_id, "pay"))))
    operation = await app.send("GET", f"operations/{operation_id}")
    assert operation.body["status"] == "Failed"
    assert operation.body["error"]["code"] == "ReconcileAbandoned"
    assert (await app.record()).state is ProvisioningState.FAILED


async def test_a_given_up_message_that_cannot_be_read_is_logged_and_dropped(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    await app.fire("reconcile_poison", message("not ours"))
    assert "poison_malformed" in caplog.text


async def test_an_unreadable_message_goes_the_way_to_the_poison_queue(app: App) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        await app.fire("reconcile", message("not ours"))


async def test_a_message_of_an_unknown_operation_ends_there(app: App) -> None:
    await app.fire("reconcile", message(encode(ReconcileMessage("00000000-0000-0000-0000-000000000009", "pay"))))
    assert len(app.queue) == 0
