"""Heartbeats: latest state, history without repetitions, configuration when newer."""

from __future__ import annotations

from typing import Any

import pytest
from mirror_agent.contract import Role

from tests.control_plane_app import App
from tests.control_plane_samples import heartbeat


async def _history(app: App, query: str = "node=a") -> list[int]:
    path = f"clusters/pay/heartbeats?{query}"
    seen: list[int] = []
    while path:
        body: dict[str, Any] = (await app.send("GET", path)).body
        seen += [entry["sequence"] for entry in body["value"]]
        path = body.get("nextLink", "").removeprefix("https://control.example.org/api/")
    return seen


@pytest.fixture
async def credential(app: App) -> str:
    await app.provisioned()
    return await app.enrolled()


async def test_a_post_is_kept_whole_and_its_last_heartbeat_is_the_state(app: App, credential: str) -> None:
    beats = [heartbeat(sequence=number, role=role) for number, role in ((1, Role.WAIT), (2, Role.ALONE))]
    assert (await app.beat(credential, *beats)).status == 200
    body = (await app.send("GET", "clusters/pay")).body
    assert body["nodes"][0]["role"] == "ALONE"
    listed = (await app.send("GET", "clusters/pay/heartbeats?node=a")).body["value"]
    assert [(entry["sequence"], entry["role"]) for entry in listed] == [(2, "ALONE"), (1, "WAIT")]
    assert listed[0]["receivedAt"] == "2026-11-22T12:00:00Z"
    assert await _history(app, "node=b") == []


async def test_a_repeated_post_leaves_one_row_per_heartbeat(app: App, credential: str) -> None:
    beats = [heartbeat(sequence=number) for number in (1, 2, 3)]
    for _ in range(2):
        await app.beat(credential, *beats)
        app.clock.advance(2)
    assert await _history(app) == [3, 2, 1]


async def test_a_late_post_does_not_turn_the_state_back(app: App, credential: str) -> None:
    await app.beat(credential, heartbeat(sequence=5, role=Role.PRIM))
    await app.beat(credential, heartbeat(sequence=4, role=Role.WAIT))
    assert (await app.send("GET", "clusters/pay")).body["nodes"][0]["role"] == "PRIM"
    assert await _history(app) == [5, 4]


async def test_a_restarted_agent_begins_again_and_may_bring_what_was_buffered(app: App, credential: str) -> None:
    await app.beat(credential, heartbeat(sequence=7))
    app.clock.advance(5)
    await app.beat(credential, heartbeat(sequence=8), heartbeat(sequence=1, agent_start_id="start-2"))
    assert await _history(app) == [1, 8, 7]


async def test_history_walks_the_days_in_pages(app: App, credential: str) -> None:
    for number in range(1, 8):
        await app.beat(credential, heartbeat(sequence=number))
        app.clock.advance(6 * 3600)
    assert await _history(app, "node=a&top=3") == [7, 6, 5, 4, 3, 2, 1]


async def test_the_configuration_is_sent_when_it_is_newer_than_the_nodes(app: App, credential: str) -> None:
    first = (await app.beat(credential)).body["configuration"]
    assert first["node"] == "a"
    same = await app.beat(credential, heartbeat(sequence=2), configurationVersion=first["version"])
    assert same.body["configuration"] is None
    await app.put(failover=False)
    newer = await app.beat(credential, heartbeat(sequence=3), configurationVersion=first["version"])
    assert newer.body["configuration"]["version"] > first["version"]
    assert newer.body["configuration"]["failover"] is False


async def test_a_node_cannot_report_for_its_peer(app: App, credential: str) -> None:
    reply = await app.beat(credential, heartbeat("b"))
    assert (reply.status, reply.code, reply.target) == (400, "NodeMismatch", "heartbeats[0].node")


async def test_a_post_without_heartbeats_or_of_another_contract_is_refused(app: App, credential: str) -> None:
    assert (await app.beat(credential, heartbeats=[])).status == 400
    assert (await app.beat(credential, contractVersion="2020-01-01")).target == "contractVersion"
    assert (await app.beat(credential, heartbeats=[{"node": "a"}])).code == "MissingField"


@pytest.mark.parametrize("query", ["", "node=c", "node=a&top=0", "node=a&continue=x"])
async def test_bad_queries_are_refused(app: App, credential: str, query: str) -> None:
    reply = await app.send("GET", f"clusters/pay/heartbeats?{query}")
    assert (reply.status, reply.code) == (400, "InvalidParameter")
