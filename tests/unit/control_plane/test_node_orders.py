"""What people order on the nodes is in the control plane's journal and the cluster's story: each once, in order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.store.journal import JOURNAL
from shared.store.ports import Unavailable
from tests.control_plane_app import App
from tests.control_plane_samples import NOW
from tests.control_plane_samples import heartbeat as heartbeat_of

SERIES = "series-1"


def note(number: int, action: str = "swap", **changes: Any) -> dict[str, Any]:
    told = {
        "number": number,
        "atUtc": NOW.isoformat(),
        "action": action,
        "principal": "certificate:3F",
        "who": "ann (Admin)",
        "reason": "patch day",
        "outcome": "succeeded",
        "message": "done",
    }
    return {**told, **changes}


async def told(app: App, credential: str, *notes: dict[str, Any], series: str = SERIES) -> dict[str, Any]:
    reply = await app.beat(credential, orderSeries=series, orders=list(notes))
    assert reply.status == 200, reply.content
    return dict(reply.body)


async def entries(app: App) -> list[dict[str, Any]]:
    reply = await app.send("GET", "journal?cluster=pay")
    return [entry for entry in reply.body["value"] if entry["what"].startswith("node_order:")]


@pytest.fixture
async def credential(app: App) -> str:
    await app.provisioned()
    credential = await app.enrolled()
    app.clock.advance(60)
    return credential


async def test_an_order_is_one_entry_with_principal_reason_and_result(app: App, credential: str) -> None:
    assert (await told(app, credential, note(1)))["ordersRecorded"] == 1
    (entry,) = await entries(app)
    assert (entry["what"], entry["target"], entry["cluster"], entry["node"]) == (
        "node_order:swap",
        "pay/a",
        "pay",
        "a",
    )
    assert (entry["principal"], entry["principalName"]) == ("certificate:3F", "ann (Admin)")
    assert (entry["reason"], entry["result"], entry["status"], entry["message"]) == ("patch day", "done", 200, "done")


@pytest.mark.parametrize(
    ("outcome", "code", "result", "status"),
    [
        ("succeeded", "", "done", 200),
        ("accepted", "", "accepted", 202),
        ("refused", "", "refused", 409),
        ("refused", "Forbidden", "Forbidden", 403),
        ("failed", "", "failed", 500),
        ("unknown", "", "unknown", 504),
    ],
)
async def test_each_outcome_has_its_result(
    app: App, credential: str, outcome: str, code: str, result: str, status: int
) -> None:
    await told(app, credential, note(1, outcome=outcome, code=code))
    (entry,) = await entries(app)
    assert (entry["result"], entry["status"]) == (result, status)


async def test_it_is_a_line_of_the_story(app: App, credential: str) -> None:
    await told(app, credential, note(1), note(2, "force", outcome="refused", code="Forbidden", message="Control only"))
    lines = (await app.send("GET", "clusters/pay/history")).body["value"]
    titles = {line["title"]: line for line in lines if line["kind"] == "operator"}
    swap = titles["ann (Admin): swap on node a"]
    assert (swap["node"], swap["detail"], swap["who"]) == ("a", "patch day (done)", "certificate:3F")
    assert "ann (Admin): force on node a, refused (Forbidden)" in titles


async def test_a_repeated_post_leaves_one_entry(app: App, credential: str) -> None:
    for _ in range(3):
        assert (await told(app, credential, note(1), note(2, "stop")))["ordersRecorded"] == 2
        app.clock.advance(5)
    assert [entry["what"] for entry in await entries(app)] == ["node_order:stop", "node_order:swap"]


async def test_a_clock_that_is_wrong_gives_no_second_entry_either(app: App, credential: str) -> None:
    for wrong in ("2001-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"):
        for _ in range(2):
            await told(app, credential, note(1, atUtc=wrong), series=wrong)
            app.clock.advance(5)
    assert len(await entries(app)) == 2


async def test_an_entry_that_could_not_be_written_comes_again(app: App, credential: str) -> None:
    app.rows.fail("upsert", JOURNAL, Unavailable("storage is away"))
    assert "ordersRecorded" not in await told(app, credential, note(1))
    app.rows.forget_failures()
    app.clock.advance(5)
    assert (await told(app, credential, note(1), note(2, "stop")))["ordersRecorded"] == 2
    assert [entry["what"] for entry in await entries(app)] == ["node_order:stop", "node_order:swap"]


async def test_orders_of_one_moment_stand_in_their_order(app: App, credential: str) -> None:
    await told(app, credential, *(note(number, f"action-{number}") for number in range(1, 6)))
    earlier = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).isoformat()
    await told(app, credential, note(6, "after the clock went back", atUtc=earlier))
    assert [entry["what"] for entry in reversed(await entries(app))] == [
        *(f"node_order:action-{number}" for number in range(1, 6)),
        "node_order:after the clock went back",
    ]


async def test_orders_that_the_node_had_no_room_for_are_told_as_a_number(app: App, credential: str) -> None:
    await told(app, credential, note(1), note(5, "stop"))
    lost = next(entry for entry in await entries(app) if entry["result"] == "lost")
    assert lost["message"].startswith("3 earlier orders")
    assert lost["principalName"] == "node a"


async def test_a_late_post_of_an_older_series_is_known(app: App, credential: str) -> None:
    await told(app, credential, note(1), series="old")
    await told(app, credential, note(1, "stop"), series="new")
    await told(app, credential, note(1), series="old")
    assert [entry["what"] for entry in await entries(app)] == ["node_order:stop", "node_order:swap"]


async def test_nothing_is_said_of_orders_where_none_came(app: App, credential: str) -> None:
    assert "ordersRecorded" not in (await app.beat(credential)).body


async def test_both_nodes_have_their_own_numbers(app: App, credential: str) -> None:
    other = await app.enrolled("b")
    reply = await app.beat(other, heartbeat_of("b"), orderSeries=SERIES, orders=[note(1, "start")])
    assert reply.body["ordersRecorded"] == 1
    await told(app, credential, note(1))
    assert {(entry["node"], entry["what"]) for entry in await entries(app)} == {
        ("a", "node_order:swap"),
        ("b", "node_order:start"),
    }


async def test_a_deleted_cluster_leaves_no_numbers(app: App, credential: str) -> None:
    await told(app, credential, note(1))
    record = await app.record()
    assert await app.plane.store.journal.orders(record.id, "a") is not None
    while await app.plane.store.retention.purge_cluster(record.id, 100):
        pass
    assert await app.plane.store.journal.orders(record.id, "a") is None
