"""swap, start, stop, restart: handed to the right node in its heartbeat answer, ended by its result or a time limit."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from mirror_agent.contract import NodeName, Role

from tests.control_plane_app import App
from tests.control_plane_samples import heartbeat


class Pair:
    """Both nodes of a provisioned cluster."""

    def __init__(self, app: App, credentials: dict[NodeName, str]) -> None:
        self.app = app
        self._credentials = credentials
        self._sequence = 0
        self.roles: dict[NodeName, Role] = {"a": Role.PRIM, "b": Role.SECOND}

    async def beat(self, node: NodeName, *results: tuple[str, str]) -> dict[str, Any]:
        self._sequence += 1
        reply = await self.app.beat(
            self._credentials[node],
            heartbeat(node, sequence=self._sequence, role=self.roles[node]),
            commandResults=[{"id": key, "status": status, "message": f"{node} {status}"} for key, status in results],
        )
        assert reply.status == 200, reply.content
        return reply.body  # type: ignore[no-any-return]

    async def commands(self, node: NodeName) -> list[str]:
        return [f"{command['action']}:{command['id'][-1]}" for command in (await self.beat(node))["commands"]]

    async def operation(self, operation_id: str) -> dict[str, Any]:
        return (await self.app.send("GET", f"operations/{operation_id}")).body  # type: ignore[no-any-return]


@pytest.fixture
async def pair(app: App) -> Pair:
    await app.provisioned()
    made = Pair(app, {"a": await app.enrolled("a"), "b": await app.enrolled("b")})
    await made.beat("a")
    await made.beat("b")
    return made


async def test_a_swap_goes_to_the_node_that_serves_and_ends_with_its_result(app: App, pair: Pair) -> None:
    reply = await app.send("POST", "clusters/pay:swap", {"reason": "maintenance"})
    assert reply.status == 202
    operation_id = reply.body["id"]
    assert reply.headers["operation-id"] == operation_id
    assert (reply.body["kind"], reply.body["action"], reply.body["reason"]) == ("action", "swap", "maintenance")
    assert (await pair.beat("b"))["commands"] == []
    [command] = (await pair.beat("a"))["commands"]
    assert command == {
        "id": f"{operation_id}-a",
        "action": "swap",
        "requestedBy": "bootstrap:bootstrap",
        "reason": "maintenance",
    }
    assert (await pair.beat("a"))["commands"] == [command], "repeated until the node says that it has it"

    answer = await pair.beat("a", (command["id"], "accepted"))
    assert (answer["commands"], answer["confirmedResults"]) == ([], [])
    seen = await pair.operation(operation_id)
    assert (seen["status"], seen["steps"][0]["status"]) == ("Running", "Running")

    answer = await pair.beat("a", (command["id"], "succeeded"))
    assert answer["confirmedResults"] == [command["id"]]
    seen = await pair.operation(operation_id)
    assert (seen["status"], seen["percentComplete"]) == ("Succeeded", 100)
    again = await pair.beat("a", (command["id"], "succeeded"))
    assert again["confirmedResults"] == [command["id"]], "a repetition is confirmed again"


async def test_a_failed_command_fails_the_operation_in_the_nodes_words(app: App, pair: Pair) -> None:
    operation_id = (await app.send("POST", "clusters/pay:swap")).body["id"]
    await pair.beat("a", (f"{operation_id}-a", "failed"))
    seen = await pair.operation(operation_id)
    assert seen["status"] == "Failed"
    assert seen["error"] == {"code": "CommandFailed", "message": "node a: a failed", "details": []}


async def test_stop_stops_the_replica_first(app: App, pair: Pair) -> None:
    operation_id = (await app.send("POST", "clusters/pay:stop")).body["id"]
    assert await pair.commands("a") == []
    assert await pair.commands("b") == ["stop:b"]
    await pair.beat("b", (f"{operation_id}-b", "succeeded"))
    assert await pair.commands("a") == ["stop:a"]
    await pair.beat("a", (f"{operation_id}-a", "succeeded"))
    assert (await pair.operation(operation_id))["status"] == "Succeeded"


async def test_start_goes_to_both_or_to_the_named_node(app: App, pair: Pair) -> None:
    operation_id = (await app.send("POST", "clusters/pay:start")).body["id"]
    assert (await pair.commands("a"), await pair.commands("b")) == (["start:a"], ["start:b"])
    for node in ("a", "b"):
        await pair.beat(node, (f"{operation_id}-{node}", "succeeded"))
    await app.send("POST", "clusters/pay:start", {"node": "b"})
    assert (await pair.commands("a"), await pair.commands("b")) == ([], ["start:b"])


async def test_restart_follows_the_application(app: App, pair: Pair) -> None:
    pair.roles = {"a": Role.WAIT, "b": Role.ALONE}
    await pair.beat("a")
    await pair.beat("b")
    await app.send("POST", "clusters/pay:restart")
    assert (await pair.commands("a"), await pair.commands("b")) == ([], ["restart:b"])


async def test_without_a_serving_node_there_is_nothing_to_swap(app: App, pair: Pair) -> None:
    pair.roles = {"a": Role.WAIT, "b": Role.WAIT}
    await pair.beat("a")
    await pair.beat("b")
    reply = await app.send("POST", "clusters/pay:swap")
    assert (reply.status, reply.code) == (409, "NoServingNode")
    pair.roles["a"] = Role.ALONE
    await pair.beat("a")
    reply = await app.send("POST", "clusters/pay:swap", {"node": "b"})
    assert (reply.status, reply.code, reply.target) == (409, "NoServingNode", "node")
    assert (await app.record()).action is None


async def test_one_action_at_a_time_and_the_same_one_is_the_same_operation(app: App, pair: Pair) -> None:
    first = await app.send("POST", "clusters/pay:swap")
    again = await app.send("POST", "clusters/pay:swap")
    assert again.body["id"] == first.body["id"]
    other = await app.send("POST", "clusters/pay:stop")
    assert (other.status, other.code) == (409, "ActionInProgress")
    await pair.beat("a", (f"{first.body['id']}-a", "succeeded"))
    assert (await app.send("POST", "clusters/pay:stop")).status == 202


async def test_an_operation_id_of_the_caller_is_replayed_even_after_the_end(app: App, pair: Pair) -> None:
    mine = {"Operation-Id": str(uuid.uuid4())}
    first = await app.send("POST", "clusters/pay:swap", headers=mine)
    await pair.beat("a", (f"{first.body['id']}-a", "succeeded"))
    again = await app.send("POST", "clusters/pay:swap", headers=mine)
    assert (again.status, again.body["id"], again.body["status"]) == (202, mine["Operation-Id"], "Succeeded")


async def test_an_action_nobody_answers_ends_at_its_time_limit(app: App, pair: Pair) -> None:
    operation_id = (await app.send("POST", "clusters/pay:swap")).body["id"]
    app.clock.advance(60)
    await app.fire("operation_repair", None)
    assert (await pair.operation(operation_id))["status"] in ("NotStarted", "Running")
    app.clock.advance(2 * (60 + 20) + 60)
    await app.fire("operation_repair", None)
    seen = await pair.operation(operation_id)
    assert (seen["status"], seen["error"]["code"]) == ("Failed", "CommandTimedOut")
    assert "node a (pending)" in seen["error"]["message"]
    assert await pair.commands("a") == [], "a command that timed out is not handed out any more"
    late = await pair.beat("a", (f"{operation_id}-a", "succeeded"))
    assert late["confirmedResults"] == [f"{operation_id}-a"], "a late result is confirmed, so that it stops coming"
    assert (await pair.operation(operation_id))["status"] == "Failed"


async def test_a_node_cannot_answer_for_its_peer(app: App, pair: Pair) -> None:
    operation_id = (await app.send("POST", "clusters/pay:swap")).body["id"]
    await pair.beat("b", (f"{operation_id}-a", "succeeded"))
    assert (await pair.operation(operation_id))["status"] != "Succeeded"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("clusters/pay:swop", 400, "UnknownAction"),
        ("clusters/pay", 400, "UnknownAction"),
        ("clusters/none:swap", 404, "ClusterNotFound"),
    ],
)
async def test_an_unknown_action_or_cluster_is_refused(app: App, pair: Pair, path: str, status: int, code: str) -> None:
    reply = await app.send("POST", path)
    assert (reply.status, reply.code) == (status, code)
    if path.endswith("swop"):
        assert "did you mean 'swap'" in reply.message


async def test_a_bad_action_body_is_refused(app: App, pair: Pair) -> None:
    assert (await app.send("POST", "clusters/pay:stop", {"node": "c"})).status == 400
    assert (await app.send("POST", "clusters/pay:stop", {"nod": "a"})).code == "UnknownField"


async def test_a_cluster_that_never_came_up_takes_no_actions(app: App) -> None:
    await app.put()
    reply = await app.send("POST", "clusters/pay:start")
    assert (reply.status, reply.code) == (409, "ClusterNotReady")
    await app.send("DELETE", "clusters/pay")
    assert (await app.send("POST", "clusters/pay:start")).code == "ClusterBeingDeleted"
