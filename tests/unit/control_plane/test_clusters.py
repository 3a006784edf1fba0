"""Clusters over HTTP: creation, change, deletion, ETags, idempotency, lists."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from shared.model.cluster import ProvisioningState
from shared.model.operation import OperationStatus
from shared.store.journal import JOURNAL
from shared.store.ports import ReconcileMessage
from shared.store.rows import Row
from tests.control_plane_app import App
from tests.control_plane_samples import cluster_body, node_state


async def test_a_put_becomes_a_record_an_operation_and_one_message(app: App) -> None:
    reply = await app.put()
    assert reply.status == 201
    body = reply.body
    assert {**cluster_body(), "name": "pay"}.items() <= {
        **body,
        "compute": cluster_body()["compute"],
        "network": cluster_body()["network"],
        "application": cluster_body()["application"],
    }.items()
    assert body["compute"]["zones"] == ["1", "2"]
    assert body["provisioningState"] == "Creating"
    assert body["virtualIp"] == {"address": None, "fqdn": None}
    assert [(node["name"], node["vmName"], node["privateAddress"], node["health"]) for node in body["nodes"]] == [
        ("a", "pay-a", "10.0.0.4", "unknown"),
        ("b", "pay-b", "10.0.0.5", "unknown"),
    ]
    assert reply.headers["etag"] == body["etag"]
    operation_id = reply.headers["operation-id"]
    location = f"https://control.example.org/api/operations/{operation_id}?api-version=2026-11-01"
    assert reply.headers["operation-location"] == location == body["links"]["operation"]
    assert app.queue.take() == [ReconcileMessage(operation_id, "pay")]

    monitor = await app.send("GET", f"operations/{operation_id}")
    assert monitor.status == 200
    assert monitor.headers["retry-after"] == "2"
    assert monitor.body["status"] == "NotStarted"
    assert monitor.body["kind"] == "create"
    assert monitor.body["percentComplete"] == 0
    assert monitor.body["requestedBy"] == "bootstrap:bootstrap"

    read = await app.send("GET", "clusters/pay")
    assert read.body == body
    assert read.headers["etag"] == reply.headers["etag"]


async def test_the_same_put_again_is_the_same_operation(app: App) -> None:
    first = await app.put()
    app.queue.take()
    second = await app.put()
    assert (first.status, second.status) == (201, 200)
    assert second.headers["operation-id"] == first.headers["operation-id"]
    assert second.headers["etag"] == first.headers["etag"]
    assert [message.operation_id for message in app.queue.take()] == [first.headers["operation-id"]]

    await app.settle()
    third = await app.put()
    assert third.status == 200
    assert "operation-location" not in third.headers
    assert len(app.queue) == 0


async def test_racing_puts_make_one_operation(app: App) -> None:
    replies = await asyncio.gather(*(app.put() for _ in range(5)))
    assert sorted(reply.status for reply in replies) == [200, 200, 200, 200, 201]
    assert len({reply.headers["operation-id"] for reply in replies}) == 1


async def test_a_change_is_an_update_with_a_new_etag(app: App) -> None:
    created = await app.provisioned()
    reply = await app.put(failover=False)
    assert reply.status == 200
    assert reply.body["provisioningState"] == "Updating"
    assert reply.body["failover"] is False
    assert reply.headers["etag"] != created.etag
    assert reply.headers["operation-id"] != created.operation.id
    assert (await app.send("GET", f"operations/{reply.headers['operation-id']}")).body["kind"] == "update"
    assert len(app.queue.take()) == 1


async def test_what_azure_fixes_at_creation_cannot_change(app: App) -> None:
    await app.provisioned()
    reply = await app.put(location="northeurope", network__subnet="10.0.1.0/24", compute__dataDiskGb=16)
    assert (reply.status, reply.code) == (409, "PropertyChangeNotAllowed")
    assert {detail["target"] for detail in reply.body["error"]["details"]} == {
        "location",
        "network.subnet",
        "compute.dataDiskGb",
    }
    assert (await app.record()).generation == 1
    assert (await app.put(compute__dataDiskGb=64)).status == 409


async def test_a_change_while_an_operation_is_at_work_is_refused(app: App) -> None:
    first = await app.put()
    reply = await app.put(failover=False)
    assert (reply.status, reply.code) == (409, "OperationInProgress")
    assert first.headers["operation-id"] in reply.message


async def test_a_failed_creation_is_tried_again_by_the_same_put(app: App) -> None:
    first = await app.put()
    await app.settle(state=ProvisioningState.FAILED)
    again = await app.put()
    assert again.body["provisioningState"] == "Creating"
    assert again.headers["operation-id"] != first.headers["operation-id"]
    assert again.headers["etag"] == first.headers["etag"]
    assert len(app.queue.take()) == 1


CONDITIONS: list[tuple[dict[str, str], bool, int, str | None]] = [
    ({"If-None-Match": "*"}, False, 201, None),
    ({"If-None-Match": "*"}, True, 412, "ResourceExists"),
    ({"If-None-Match": '"other"'}, True, 200, None),
    ({"If-Match": "*"}, False, 412, "ConditionNotMet"),
    ({"If-Match": "*"}, True, 200, None),
    ({"If-Match": "CURRENT"}, True, 200, None),
    ({"If-Match": '"x", CURRENT'}, True, 200, None),
    ({"If-Match": "W/CURRENT"}, True, 412, "ConditionNotMet"),
    ({"If-Match": '"stale"'}, True, 412, "ConditionNotMet"),
    ({"If-Match": '"stale"'}, False, 412, "ConditionNotMet"),
]


@pytest.mark.parametrize(("headers", "exists", "status", "code"), CONDITIONS)
async def test_conditions_of_a_put(
    app: App, headers: dict[str, str], exists: bool, status: int, code: str | None
) -> None:
    etag = (await app.provisioned()).etag if exists else ""
    before = app.rows.everything(without=JOURNAL)
    sent = {name: value.replace("CURRENT", etag) for name, value in headers.items()}
    reply = await app.send("PUT", "clusters/pay", cluster_body(failover=False), headers=sent)
    assert reply.status == status
    if code is not None:
        assert reply.code == code
        assert app.rows.everything(without=JOURNAL) == before


async def test_observations_do_not_spoil_a_callers_etag(app: App) -> None:
    etag = (await app.put()).headers["etag"]
    record = await app.settle()
    await app.plane.store.node_states.put(node_state(record.id), None)
    assert (await app.send("GET", "clusters/pay")).headers["etag"] == etag
    reply = await app.send("PUT", "clusters/pay", cluster_body(failover=False), headers={"If-Match": etag})
    assert reply.status == 200


async def test_an_operation_id_of_the_caller_is_replayed_for_the_same_and_refused_for_another_request(app: App) -> None:
    mine = str(uuid.uuid4())
    headers = {"Operation-Id": mine, "If-None-Match": "*"}
    first = await app.send("PUT", "clusters/pay", cluster_body(), headers=headers)
    again = await app.send("PUT", "clusters/pay", cluster_body(), headers=headers)
    assert (first.status, again.status) == (201, 200)
    assert first.headers["operation-id"] == again.headers["operation-id"] == mine
    other = await app.send("PUT", "clusters/pay", cluster_body(failover=False), headers={"Operation-Id": mine})
    assert (other.status, other.code) == (400, "OperationIdReused")
    other = await app.send("PUT", "clusters/shop", cluster_body(), headers={"Operation-Id": mine})
    assert (other.status, other.code) == (400, "OperationIdReused")
    assert (await app.send("GET", "clusters/shop")).status == 404
    bad = await app.send("PUT", "clusters/shop", cluster_body(), headers={"Operation-Id": "1"})
    assert (bad.status, bad.target) == (400, "Operation-Id")


async def test_delete_is_an_operation_and_replaces_the_one_at_work(app: App) -> None:
    created = await app.put()
    app.queue.take()
    reply = await app.send("DELETE", "clusters/pay")
    assert reply.status == 202
    assert reply.body["kind"] == "delete"
    assert reply.headers["retry-after"]
    assert [message.operation_id for message in app.queue.take()] == [reply.body["id"]]
    old = (await app.send("GET", f"operations/{created.headers['operation-id']}")).body
    assert old["status"] == "Canceled"
    assert reply.body["id"] in old["error"]["message"]
    assert (await app.send("GET", "clusters/pay")).body["provisioningState"] == "Deleting"

    again = await app.send("DELETE", "clusters/pay")
    assert (again.status, again.body["id"]) == (202, reply.body["id"])
    refused = await app.put()
    assert (refused.status, refused.code) == (409, "ClusterBeingDeleted")


async def test_delete_of_nothing_is_done(app: App) -> None:
    assert (await app.send("DELETE", "clusters/pay")).status == 204


async def test_delete_with_a_stale_etag_is_refused(app: App) -> None:
    await app.provisioned()
    reply = await app.send("DELETE", "clusters/pay", headers={"If-Match": '"stale"'})
    assert (reply.status, reply.code) == (412, "ConditionNotMet")
    assert (await app.record()).state is ProvisioningState.SUCCEEDED


async def test_a_cluster_made_anew_has_another_identity_and_etag(app: App) -> None:
    first = await app.provisioned()
    found = await app.plane.store.clusters.get("pay")
    assert found is not None
    await app.plane.store.clusters.delete(found.value, found.etag)
    second = await app.put()
    assert second.body["id"] != first.id
    stale = await app.send("DELETE", "clusters/pay", headers={"If-Match": first.etag})
    assert stale.status == 412


async def test_lists_come_in_pages_linked_absolutely(app: App) -> None:
    names = [f"c{number}" for number in range(5)]
    for name in names:
        await app.put(name)
    seen: list[str] = []
    pages = 0
    path = "clusters?top=2"
    while path:
        body: dict[str, Any] = (await app.send("GET", path)).body
        seen += [entry["name"] for entry in body["value"]]
        pages += 1
        link = body.get("nextLink", "")
        assert "nextLink" not in body or link.startswith("https://control.example.org/api/clusters?api-version=")
        path = link.removeprefix("https://control.example.org/api/")
    assert (seen, pages) == (names, 3)


@pytest.mark.parametrize("query", ["top=0", "top=x", "top=1000", "top=-1", "continue=%25", "continue=ZXZlbnRzOng="])
async def test_bad_paging_is_refused(app: App, query: str) -> None:
    reply = await app.send("GET", f"clusters?{query}")
    assert (reply.status, reply.code) == (400, "InvalidParameter")


@pytest.mark.parametrize(
    "path", ["clusters/none", "clusters/NO%20NE", "operations/none", "clusters/none/probes?node=a"]
)
async def test_what_is_not_there_is_404(app: App, path: str) -> None:
    assert (await app.send("GET", path)).status == 404


async def test_the_states_of_the_nodes_are_shown(app: App) -> None:
    record = await app.provisioned()
    await app.plane.store.node_states.put(node_state(record.id), None)
    body = (await app.send("GET", "clusters/pay")).body
    assert body["virtualIp"]["address"] == "198.51.100.9"
    node = body["nodes"][0]
    assert (node["role"], node["phase"], node["health"], node["publicAddress"]) == (
        "PRIM",
        "ready",
        "healthy",
        "198.51.100.4",
    )
    assert node["lastHeartbeatAt"] == "2026-11-22T12:00:00Z"
    app.clock.advance(31)
    node = (await app.send("GET", "clusters/pay")).body["nodes"][0]
    assert (node["health"], node["healthRule"]) == ("unhealthy", "silent")


async def test_a_finished_operation_has_no_retry_after(app: App) -> None:
    record = await app.provisioned()
    reply = await app.send("GET", f"operations/{record.operation.id}")
    assert reply.body["status"] == OperationStatus.SUCCEEDED.value
    assert reply.body["percentComplete"] == 100
    assert "retry-after" not in reply.headers


async def test_a_deletion_named_by_the_caller_can_be_repeated_to_the_end(app: App) -> None:
    created = await app.put()
    mine = {"Operation-Id": str(uuid.uuid4())}
    stolen = {"Operation-Id": created.headers["operation-id"]}
    assert (await app.send("DELETE", "clusters/pay", headers=stolen)).code == "OperationIdReused"
    for _ in range(2):
        reply = await app.send("DELETE", "clusters/pay", headers=mine)
        assert (reply.status, reply.body["id"]) == (202, mine["Operation-Id"])
    found = await app.plane.store.clusters.get("pay")
    assert found is not None
    await app.plane.store.clusters.delete(found.value, found.etag)
    assert (await app.send("DELETE", "clusters/pay", headers=mine)).status == 204


async def test_a_damaged_record_hides_no_other_and_is_logged(app: App, caplog: pytest.LogCaptureFixture) -> None:
    await app.provisioned("good")
    await app.rows.insert("clusters", Row("cluster", "bad", {"doc0": "{}"}))
    listed = (await app.send("GET", "clusters")).body["value"]
    assert [entry["name"] for entry in listed] == ["good"]
    assert "row_unreadable" in caplog.text
    assert (await app.send("GET", "clusters/bad")).status == 500


async def test_an_image_that_is_no_longer_offered_leaves_its_clusters_readable(app: App) -> None:
    record = await app.provisioned()
    text = record.model_dump_json(by_alias=True).replace("debian-12", "debian-11")
    await app.rows.upsert("clusters", [Row("cluster", "pay", {"doc0": text})])
    assert (await app.send("GET", "clusters/pay")).body["compute"]["image"] == "debian-11"
