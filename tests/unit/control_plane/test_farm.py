"""Farms in the API: asked for, shown, commanded node by node, judged and repaired with a minimum of healthy nodes."""

from __future__ import annotations

from typing import Any

import pytest
from mirror_agent.contract import NodeName, Phase, Role

from shared.api.probe import Probed
from shared.model.audit import AuditRecord
from shared.model.node_state import ProbeOutcome
from tests.control_plane_app import App, csr, enrol_body
from tests.control_plane_samples import cluster_body, farm_heartbeat

SERVES = Probed(ProbeOutcome.SERVING, status_code=200, latency_ms=1.0)
SILENT = Probed(ProbeOutcome.TIMEOUT, reason="no answer within 3 s")


class Farm:
    """Three nodes of a provisioned farm that serve, but those in `lost`."""

    def __init__(self, app: App, credentials: dict[NodeName, str]) -> None:
        self.app = app
        self.credentials = credentials
        self.lost: set[NodeName] = set()
        self._sequence = 0

    async def beat(self, node: NodeName, *results: tuple[str, str], **changes: Any) -> dict[str, Any]:
        self._sequence += 1
        reply = await self.app.beat(
            self.credentials[node],
            farm_heartbeat(node, sequence=self._sequence, **changes),
            commandResults=[{"id": key, "status": status, "message": f"{node} {status}"} for key, status in results],
        )
        assert reply.status == 200, reply.content
        return reply.body  # type: ignore[no-any-return]

    async def commands(self, node: NodeName) -> list[str]:
        return [command["action"] for command in (await self.beat(node))["commands"]]

    async def audit(self, times: int) -> AuditRecord:
        """Audits with all that live reporting in between; what the last one concluded."""
        for _ in range(times):
            self.app.clock.advance(30)
            for host, node in enumerate(self.credentials, 4):
                self.app.prober.answers[f"198.51.100.{host}"] = SILENT if node in self.lost else SERVES
                if node not in self.lost:
                    await self.beat(node)
            await self.app.fire("health_audit", None)
        stored = await self.app.plane.store.audits.get((await self.app.record("web")).id)
        assert stored is not None
        return stored.value

    async def overview(self) -> dict[str, Any]:
        return (await self.app.send("GET", "clusters/web/overview")).body  # type: ignore[no-any-return]


def _said(record: AuditRecord) -> tuple[str, str, tuple[NodeName, ...]]:
    assert record.verdict is not None
    return record.verdict.state, record.verdict.rule, record.up


@pytest.fixture
async def farm(app: App) -> Farm:
    await app.provisioned("web", kind="farm", compute__nodes=3, minimumHealthy=2)
    nodes: tuple[NodeName, ...] = ("a", "b", "c")
    made = Farm(app, {node: await app.enrolled(node, "web") for node in nodes})
    for node in nodes:
        await made.beat(node)
    return made


async def test_all_nodes_are_shown_and_each_reports_for_itself(app: App, farm: Farm) -> None:
    body = (await app.send("GET", "clusters/web")).body
    assert (body["kind"], body["minimumHealthy"]) == ("farm", 2)
    assert [(node["name"], node["vmName"], node["role"]) for node in body["nodes"]] == [
        ("a", "web-a", "UP"),
        ("b", "web-b", "UP"),
        ("c", "web-c", "UP"),
    ]
    assert len((await app.send("GET", "clusters/web/heartbeats?node=c")).body["value"]) == 1
    reply = await app.send("GET", "clusters/web/heartbeats?node=d")
    assert (reply.status, "one of a, b, c" in reply.message) == (400, True)
    assert set((await app.send("GET", "clusters/web/strips")).body["nodes"]) == {"a", "b", "c"}


async def test_what_it_answers_may_be_sent_back(app: App, farm: Farm) -> None:
    body = (await app.send("GET", "clusters/web")).body
    again = {name: body[name] for name in cluster_body(kind="farm") | {"minimumHealthy": 2, "timing": {}}}
    assert (await app.send("PUT", "clusters/web", again)).status == 200


async def test_a_node_that_enrols_is_told_of_a_farm(app: App, farm: Farm) -> None:
    token = await app.enrolment_token("b", "web")
    told = (await app.send("POST", "nodes/enrol", enrol_body(csr()), token=token)).body["configuration"]
    assert (told["kind"], [peer["name"] for peer in told["peers"]]) == ("farm", ["a", "c"])
    assert "witness" not in told


async def test_a_restart_goes_from_node_to_node(app: App, farm: Farm) -> None:
    reply = await app.send("POST", "clusters/web:restart", {"reason": "new certificate"})
    assert reply.status == 202
    operation = reply.body["id"]
    for node in ("a", "b", "c"):
        waiting = [other for other in farm.credentials if other > node]
        assert [await farm.commands(other) for other in waiting] == [[]] * len(waiting)
        assert await farm.commands(node) == ["restart"]
        await farm.beat(node, (f"{operation}-{node}", "succeeded"))
    assert (await app.send("GET", f"operations/{operation}")).body["status"] == "Succeeded"


async def test_a_restart_that_fails_does_not_risk_the_next_node(app: App, farm: Farm) -> None:
    operation = (await app.send("POST", "clusters/web:restart", {})).body["id"]
    await farm.beat("a", (f"{operation}-a", "failed"))
    assert [await farm.commands("b"), await farm.commands("c")] == [[], []]
    ended = (await app.send("GET", f"operations/{operation}")).body
    assert (ended["status"], ended["error"]["message"]) == ("Failed", "node a: a failed")


async def test_a_restart_leaves_stopped_nodes_alone_and_a_silent_one_to_the_end(app: App, farm: Farm) -> None:
    app.clock.advance(90)
    await farm.beat("c")
    await farm.beat("b", role=Role.STOP, phase=Phase.NOT_READY, probe_ok=False)
    operation = (await app.send("POST", "clusters/web:restart", {})).body["id"]
    assert await farm.commands("c") == ["restart"]
    await farm.beat("c", (f"{operation}-c", "succeeded"))
    assert [await farm.commands("b"), await farm.commands("a")] == [[], ["restart"]]


async def test_stop_goes_to_all_or_to_the_named_one_and_swap_to_nobody(app: App, farm: Farm) -> None:
    assert (await app.send("POST", "clusters/web:swap", {})).code == "ActionNotSupported"
    reply = await app.send("POST", "clusters/web:stop", {"node": "d"})
    assert (reply.status, reply.target, "a, b, c" in reply.message) == (400, "node", True)
    operation = (await app.send("POST", "clusters/web:stop", {"node": "c"})).body["id"]
    assert [await farm.commands(node) for node in farm.credentials] == [[], [], ["stop"]]
    await farm.beat("c", (f"{operation}-c", "succeeded"))
    await app.send("POST", "clusters/web:stop", {})
    assert [await farm.commands(node) for node in farm.credentials] == [["stop"]] * 3


async def test_the_verdict_counts_and_the_pages_show_who_serves(app: App, farm: Farm) -> None:
    assert _said(await farm.audit(4)) == ("healthy", "farm-all-serve", ("a", "b", "c"))
    [row] = (await app.send("GET", "fleet")).body["value"]
    assert (row["state"], row["up"], row["serving"], sorted(row["nodes"])) == ("healthy", [*"abc"], None, [*"abc"])
    seen = await farm.overview()
    assert (seen["safety"]["state"], seen["safety"]["up"], seen["witness"]) == ("all-serve", ["a", "b", "c"], None)
    farm.lost = {"c"}
    audited = await farm.audit(3)
    assert _said(audited) == ("degraded", "farm-node-down", ("a", "b"))
    assert audited.nodes["c"].state == "down"
    seen = await farm.overview()
    assert (seen["safety"]["state"], seen["safety"]["sentence"]) == ("reduced", "2 of 3 nodes serve: a, b.")
    lines = (await app.send("GET", "clusters/web/history")).body["value"]
    turns = [line["detail"] for line in lines if "→ UP" in line["title"]]
    assert len(turns) == 3
    assert not [turn for turn in turns if "epoch" in turn]  # a farm has none


async def test_a_lost_node_is_repaired_while_two_others_are_healthy(app: App, farm: Farm) -> None:
    await farm.audit(25)  # past the grace after the cluster's making
    farm.lost = {"c"}
    await farm.audit(9)
    stored = await app.plane.store.remediations.get((await app.record("web")).id)
    assert stored is not None
    assert stored.value.open_action is not None
    assert stored.value.open_action.node == "c"


async def test_nothing_is_repaired_below_the_minimum_and_people_are_told(app: App, farm: Farm) -> None:
    await farm.audit(25)
    farm.lost = {"b", "c"}
    assert _said(await farm.audit(9)) == ("degraded", "farm-below-minimum", ("a",))
    stored = await app.plane.store.remediations.get((await app.record("web")).id)
    assert stored is not None
    assert (stored.value.open_action, stored.value.rule) == (None, "minimum-healthy")
    alerts = (await app.send("GET", "alerts?cluster=web")).body["value"]
    assert {alert["rule"] for alert in alerts if alert["state"] == "firing"} >= {"farm-below-minimum", "node-down"}


async def test_a_node_that_cannot_come_up_says_so_itself(farm: Farm) -> None:
    await farm.audit(3)
    await farm.beat("b", phase=Phase.NOT_READY, probe_ok=False, sentence="startPrim ended with 1")
    view = (await farm.overview())["safety"]
    assert (view["state"], view["up"]) == ("reduced", ["a", "c"])


async def test_an_estimate_counts_every_node(app: App) -> None:
    reply = await app.send(
        "POST", "clusters:estimate", {"name": "web", "cluster": cluster_body(kind="farm", compute__nodes=4)}
    )
    kinds = [entry["type"] for entry in reply.body["resources"]]
    assert kinds.count("Microsoft.Compute/virtualMachines") == 4
    assert {"provider": "Microsoft.Compute", "name": "virtualMachines", "needed": 4} in reply.body["quotas"]


async def test_what_a_farm_cannot_have_is_named_with_its_place(app: App) -> None:
    reply = await app.put("web", kind="farm", application__replicatedPaths=[{"path": "/data/x"}])
    assert (reply.status, reply.code, reply.target) == (400, "InvalidField", "application.replicatedPaths")
    assert (await app.put("web", kind="farm", defaultPrimary="a")).target == "defaultPrimary"
    assert (await app.put("web", compute__nodes=3)).target == "compute.nodes"
