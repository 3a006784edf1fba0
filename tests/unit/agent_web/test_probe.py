"""The probe: 200 only while the application serves, asked anew for every request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from mirror_agent.contract import Phase, Role
from mirror_agent.web.probe import HealthState, ProbeAnswer, ProbeServer, health_state

from tests.agent_samples import Recorded


@dataclass
class Node:
    answer: ProbeAnswer | None
    log: Recorded = field(default_factory=Recorded)
    url: str = ""

    def ask(self) -> ProbeAnswer:
        if self.answer is None:
            raise RuntimeError("no decision yet; sig=VERYSECRET")
        return self.answer


def answer(ok: bool, role: Role = Role.PRIM, phase: Phase = Phase.READY, **health: object) -> ProbeAnswer:
    return ProbeAnswer(ok, role, phase, epoch=4, reason="the promise has expired", health=health)


@pytest_asyncio.fixture
async def node() -> AsyncIterator[Node]:
    made = Node(answer(True))
    server = ProbeServer(made.ask, application_name="ledger", log=made.log, host="127.0.0.1", port=0)
    made.url = f"http://127.0.0.1:{await server.start()}"
    yield made
    await server.stop()


async def get(url: str) -> tuple[int, str, Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text(), response.headers


@pytest.mark.parametrize("module", ["mirror", "ledger"])
async def test_the_answer_follows_the_node_at_once(node: Node, module: str) -> None:
    url = f"{node.url}/var/modules/{module}/ready.txt"
    status, text, headers = await get(url)
    assert (status, text) == (200, "OK")
    assert headers["X-Mirrorplane-Epoch"] == "4"
    assert "aiohttp" not in headers["Server"]
    node.answer = answer(False)
    status, text, _ = await get(url)
    assert (status, text) == (503, "the promise has expired\n")


async def test_an_answer_that_fails_reads_as_not_serving_and_is_recorded(node: Node) -> None:
    node.answer = None
    status, text, _ = await get(f"{node.url}/var/modules/mirror/ready.txt")
    assert status == 503
    assert "SECRET" not in text
    assert node.log.kinds() == ["probe.answer-failed"]
    status, text, _ = await get(f"{node.url}/health")
    assert (status, "Unknown" in text) == (200, True)


async def test_other_paths_and_methods_are_refused(node: Node) -> None:
    assert (await get(f"{node.url}/var/modules/other/ready.txt"))[0] == 404
    assert (await get(f"{node.url}/etc/passwd"))[0] == 404
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{node.url}/health") as response:
            assert response.status == 405
        async with session.head(f"{node.url}/var/modules/mirror/ready.txt") as response:
            assert response.status == 200


async def test_health_is_always_2xx_and_carries_the_state_without_secrets(node: Node) -> None:
    node.answer = answer(False, witness={"sas": "VERYSECRET"}, exposed_for_s=12.5)
    async with aiohttp.ClientSession() as session, session.get(f"{node.url}/health") as response:
        assert response.status == 200
        body = await response.json()
    assert body["ApplicationHealthState"] == "Unhealthy"
    assert (body["role"], body["epoch"], body["serving"], body["exposed_for_s"]) == ("PRIM", 4, False, 12.5)
    assert "VERYSECRET" not in str(body)


@pytest.mark.parametrize(
    ("ok", "role", "phase", "expected"),
    [
        (True, Role.PRIM, Phase.READY, HealthState.HEALTHY),
        (True, Role.ALONE, Phase.READY, HealthState.HEALTHY),
        (False, Role.ALONE, Phase.TRANSIENT, HealthState.INITIALIZING),
        (False, Role.PRIM, Phase.READY, HealthState.UNHEALTHY),
        (False, Role.SECOND, Phase.READY, HealthState.HEALTHY),
        (False, Role.SECOND, Phase.TRANSIENT, HealthState.INITIALIZING),
        (False, Role.WAIT, Phase.TRANSIENT, HealthState.INITIALIZING),
        (False, Role.WAIT, Phase.NOT_READY, HealthState.UNHEALTHY),
        (False, Role.STOP, Phase.NOT_READY, HealthState.UNKNOWN),
    ],
)
def test_the_state_is_about_the_machines_part(ok: bool, role: Role, phase: Phase, expected: HealthState) -> None:
    assert health_state(answer(ok, role, phase)) is expected


async def test_a_taken_port_says_how_to_find_the_culprit(node: Node) -> None:
    port = int(node.url.rsplit(":", 1)[1])
    second = ProbeServer(node.ask, application_name="ledger", log=node.log, host="127.0.0.1", port=port)
    with pytest.raises(OSError, match="ss -ltnp"):
        await second.start()
