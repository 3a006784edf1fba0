"""`POST clusters/{name}:upgrade`: who may, when it is refused and how, and what a node hears of its turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from mirror_agent.contract import NodeName, Role, RolloutReport

from shared.model.cluster import ProvisioningState
from shared.model.principal import AccessRole
from shared.model.rollout import TurnKind
from shared.rollout.advance import see
from shared.rollout.limits import RolloutLimits
from shared.rollout.plan import next_step
from tests.control_plane_app import BOOTSTRAP, App, Reply
from tests.control_plane_samples import heartbeat

OLDER = "0.0.9"
ROLES: dict[NodeName, Role] = {"a": Role.PRIM, "b": Role.SECOND}


@dataclass
class Pair:
    app: App
    credentials: dict[NodeName, str]
    roles: dict[NodeName, Role] = field(default_factory=lambda: dict(ROLES))
    number: int = 0

    async def beat(self, node: NodeName, version: str = OLDER, report: RolloutReport | None = None) -> Reply:
        self.number += 1
        known = report or RolloutReport(configuration_in_use=10_000)
        beat = heartbeat(node, sequence=self.number, role=self.roles[node], rollout=known)
        return await self.app.beat(self.credentials[node], beat, agentVersion=version)

    async def beats(self, version: str = OLDER) -> None:
        for node in ROLES:
            assert (await self.beat(node, version)).status == 200

    async def upgrade(self, token: str = BOOTSTRAP, **more: Any) -> Reply:
        return await self.app.send("POST", "clusters/pay:upgrade", more.pop("body", {}), token=token, **more)


@pytest_asyncio.fixture
async def pair(app: App) -> Pair:
    await app.provisioned()
    made = Pair(app, {node: await app.enrolled(node) for node in ROLES})
    await made.beats()
    return made


async def test_is_an_operation_like_the_others(pair: Pair) -> None:
    reply = await pair.upgrade(body={"reason": "patch day"})
    assert (reply.status, reply.body["kind"], reply.body["status"]) == (202, "upgrade", "NotStarted")
    record = await pair.app.record()
    assert record.state is ProvisioningState.UPDATING
    assert record.rollout is not None
    assert record.rollout.agent is not None
    assert (record.rollout.agent.version, record.operation.reason) == ("0.1.0", "patch day")
    again = await pair.upgrade()
    assert (again.status, again.body["id"]) == (202, reply.body["id"])
    assert len(pair.app.queue.take()) >= 1
    other = await pair.app.put(tags={"a": "b"})
    assert other.code == "OperationInProgress"


async def test_the_same_request_again_is_the_same_operation(pair: Pair) -> None:
    named = {"Operation-Id": "00000000-0000-4000-8000-00000000abcd"}
    first = await pair.upgrade(headers=named)
    await pair.app.settle()
    again = await pair.upgrade(headers=named)
    assert (first.status, again.status, again.body["id"]) == (202, 202, first.body["id"])


@pytest.mark.parametrize("role", [AccessRole.MONITOR, AccessRole.CONTROL])
async def test_is_for_administrators(pair: Pair, role: AccessRole) -> None:
    assert (await pair.upgrade(await pair.app.token(role))).status == 403


async def test_an_unknown_version_is_refused_with_those_there_are(pair: Pair) -> None:
    reply = await pair.upgrade(body={"version": "7.0.0"})
    assert (reply.status, reply.code) == (404, "WheelNotFound")
    assert "there are: 0.1.0" in reply.message


async def test_never_begins_when_the_pair_is_not_in_sync(pair: Pair) -> None:
    pair.roles = {"a": Role.ALONE, "b": Role.WAIT}
    await pair.beats()
    reply = await pair.upgrade()
    assert (reply.status, reply.code) == (409, "UpgradeNotPossible")
    assert "not in sync" in reply.message


async def test_never_begins_while_a_node_is_silent_or_an_action_is_at_work(pair: Pair) -> None:
    swap = await pair.app.send("POST", "clusters/pay:swap", {})
    assert swap.status == 202
    reply = await pair.upgrade()
    assert (reply.code, "swap is at work" in reply.message) == ("UpgradeNotPossible", True)
    pair.app.clock.advance(60)
    reply = await pair.upgrade()
    assert (reply.code, "said nothing" in reply.message) == ("UpgradeNotPossible", True)


async def test_an_agent_that_takes_no_orders_is_named(pair: Pair) -> None:
    beat = heartbeat("b", sequence=99, role=Role.SECOND)
    await pair.app.beat(pair.credentials["b"], beat, agentVersion=OLDER)
    reply = await pair.upgrade()
    assert (reply.code, "node b runs agent 0.0.9" in reply.message) == ("UpgradeNotPossible", True)


async def test_only_the_node_whose_turn_it_is_hears_of_it_and_only_while_it_stands(pair: Pair) -> None:
    assert "rollout" not in (await pair.beat("b")).body  # an agent that does not know the field refuses the answer
    await pair.upgrade()
    store, now = pair.app.plane.store, pair.app.clock()
    found = await store.clusters.get("pay")
    assert found is not None
    record = found.value
    assert record.rollout is not None
    step = next_step(record.rollout, await see(store, record, now, 30.0), RolloutLimits(), "0.1.0", now)
    assert step.rollout.turn is not None
    assert (step.rollout.turn.kind, step.rollout.turn.node) == (TurnKind.NODE, "b")
    await store.clusters.replace(record.model_copy(update={"rollout": step.rollout}), found.etag)
    order = (await pair.beat("b")).body["rollout"]
    assert (order["id"], order["agent"]["version"]) == (step.rollout.turn.id, "0.1.0")
    assert "rollout" not in (await pair.beat("a")).body
    wheel = await pair.app.send(
        "GET", f"nodes/agent-wheel?sha256={order['agent']['sha256']}", token=pair.credentials["b"], version=None
    )
    assert (wheel.status, wheel.content) == (200, b"PK wheel")
    other = f"nodes/agent-wheel?sha256={'0' * 64}"
    assert (await pair.app.send("GET", other, token=pair.credentials["b"], version=None)).code == "WheelNotFound"
    await pair.app.settle()
    assert "rollout" not in (await pair.beat("b")).body


async def test_an_agent_too_new_for_this_control_plane_is_refused_with_both_versions(pair: Pair) -> None:
    reply = await pair.beat("b", "0.3.0")
    assert (reply.status, reply.code) == (409, "AgentVersionRefused")
    assert "0.3.0" in reply.message
    assert "0.1.0" in reply.message
    assert (await pair.beat("b", "0.2.5")).status == 200
    assert (await pair.beat("b", "0.0.1")).status == 200


async def test_replicated_directories_cannot_change_but_their_mode_can(pair: Pair) -> None:
    record = await pair.app.record()
    application = record.spec.application.model_dump(mode="json", by_alias=True)
    path = application["replicatedPaths"][0]
    more = {"replicatedPaths": [path, {"path": "/data/more"}]}
    refused = await pair.app.put(application=application | more)
    assert (refused.code, refused.target) == ("PropertyChangeNotAllowed", "application.replicatedPaths")
    mode = "ordered" if path["mode"] == "strict" else "strict"
    assert (await pair.app.put(application=application | {"replicatedPaths": [path | {"mode": mode}]})).status == 200
