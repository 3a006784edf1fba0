"""Platform events: once, in any order, both schemas; malformed ones are kept with the reason and accepted."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from shared.api.events import read_event
from shared.store.ports import Unavailable
from tests.control_plane_app import App
from tests.control_plane_samples import NOW

VM = "/subscriptions/S/resourceGroups/MIRRORPLANE-Pay/providers/Microsoft.Compute/virtualMachines/pay-a"
CLOUD = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/subscriptions/S",
    "type": "Microsoft.ResourceNotifications.HealthResources.AvailabilityStatusChanged",
    "subject": VM,
    "time": "2026-11-22T11:59:00Z",
    "data": {"resourceInfo": {"properties": {"availabilityState": "Unavailable"}}},
}
GRID = {
    "id": "e2",
    "topic": "/subscriptions/S",
    "subject": "/x",
    "eventType": "Microsoft.Resources.ResourceDeleteSuccess",
    "eventTime": "2026-11-22T11:58:00.1234567Z",
    "data": {"resourceUri": VM},
    "dataVersion": "",
}


async def _listed(app: App) -> list[dict[str, Any]]:
    return (await app.send("GET", "events")).body["value"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("order", list(itertools.permutations([CLOUD, GRID, CLOUD])))
async def test_any_order_and_any_repetition_end_alike(app: App, order: tuple[dict[str, Any], ...]) -> None:
    for event in order:
        await app.fire("platform_event", json.dumps(event))
    listed = await _listed(app)
    assert {(event["id"], event["type"], event["cluster"], event["malformed"]) for event in listed} == {
        ("e1", CLOUD["type"], "pay", False),
        ("e2", GRID["eventType"], "pay", False),
    }
    assert len(listed) == 2


async def test_a_repetition_on_another_day_is_no_new_event(app: App) -> None:
    await app.fire("platform_event", json.dumps(CLOUD))
    app.clock.advance(2 * 86400)
    await app.fire("platform_event", json.dumps(CLOUD))
    assert len(await _listed(app)) == 1


async def test_events_of_one_id_from_two_sources_are_two(app: App) -> None:
    for source in ("/a", "/b"):
        await app.fire("platform_event", json.dumps({**CLOUD, "source": source}))
    assert len(await _listed(app)) == 2


async def test_a_crash_between_the_two_rows_is_healed_by_the_redelivery(app: App) -> None:
    app.rows.fail("upsert", "events", Unavailable("storage is away"))
    with pytest.raises(Unavailable):
        await app.fire("platform_event", json.dumps(CLOUD))
    assert await _listed(app) == []
    app.clock.advance(10)
    await app.fire("platform_event", json.dumps(CLOUD))
    assert [event["id"] for event in await _listed(app)] == ["e1"]


MALFORMED = [
    ("{", "no JSON"),
    ("[]", "no JSON object"),
    ("{}", "id, topic, eventType is missing"),
    (json.dumps({**CLOUD, "id": 7}), "id is missing"),
    (json.dumps({**CLOUD, "source": ""}), "source is missing"),
    (json.dumps({**CLOUD, "id": "x" * 2000}), "1024 is the limit"),
]


@pytest.mark.parametrize(("text", "reason"), MALFORMED, ids=[reason for _, reason in MALFORMED])
async def test_a_malformed_event_is_kept_with_the_reason_and_not_asked_for_again(
    app: App, text: str, reason: str
) -> None:
    for _ in range(2):
        await app.fire("platform_event", text)
    [event] = await _listed(app)
    assert event["malformed"] is True
    assert reason in event["reason"]
    assert event["data"]["text"] == text[:2000]


async def test_an_event_too_large_to_keep_is_kept_without_its_data(app: App) -> None:
    await app.fire("platform_event", json.dumps({**CLOUD, "data": {"text": "x" * 600_000}}))
    [event] = await _listed(app)
    assert (event["id"], event["data"], event["malformed"]) == ("e1", {}, True)


def test_the_cluster_is_found_wherever_the_schema_keeps_the_resource() -> None:
    shapes: list[dict[str, Any]] = [
        {"resourceUri": VM},
        {"resourceInfo": {"id": VM}},
        {"resourceInfo": {"properties": {"targetResourceId": VM}}},
        {"essentials": {"alertTargetIDs": [VM.lower()]}},
    ]
    for data in shapes:
        assert read_event(json.dumps({**CLOUD, "subject": "", "data": data}), NOW).cluster == "pay"
    other = VM.replace("MIRRORPLANE-Pay", "somebody-elses")
    assert read_event(json.dumps({**CLOUD, "subject": other}), NOW).cluster is None
    assert read_event(json.dumps({**CLOUD, "data": [1], "subject": None}), NOW).data == {"value": [1]}
