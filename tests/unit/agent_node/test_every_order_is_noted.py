"""Every changing route of the node's console, walked from its own routes: one line of the history for each order, with
who, why and what came of it, whether it was carried out, refused by the node's state, or refused by the console; and
the Unix socket of `mirrorctl` beside it. The node, its core and its commands are the production's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from mirror_agent.core.model import Durable, Epoch, Record
from mirror_agent.net.order_outbox import OrderOutbox
from mirror_agent.web.actions import ACTIONS
from mirror_agent.web.console_orders import ORDERS
from mirror_agent.web.local_api import LocalApi
from mirror_agent.web.local_client import ask
from mirror_agent.web.mirror_control import MIRROR_ACTIONS

from tests.agent_samples import eventually
from tests.portable import CALLER
from tests.unit.agent_node.small_node import B, SmallNode
from tests.unit.agent_node.test_mirror_operations import Bench, bench_on
from tests.unit.agent_web.consoles import Consoles, NodeParts, consoles

# The lines that count as the record of an order; `command.begun` only says that one began.
RECORDS = ("command.ended", "console.refused", "console.passed-on")
# These wait for a peer or for a state that this lonely node does not reach.
LONG = {"start", "stopstart", "force", "failover-on", "failover-off"}


@pytest_asyncio.fixture
async def lonely(tmp_path: Path) -> AsyncIterator[Bench]:
    """A node that waits for a peer that is not there."""
    record = Record(Epoch(8), B, frozenset({B}), "id-b.1")
    small = SmallNode(tmp_path / "node", record=record, durable=Durable(identity="id-a"))
    small.start()
    await eventually(lambda: small.node.decision is not None and small.node.decision.rule == "not-in-sync", "WAIT")
    yield bench_on(small, tmp_path / "node")
    await small.close()


@pytest.fixture
def outbox(lonely: Bench, tmp_path: Path) -> OrderOutbox:
    """What this node would tell the control plane; with both consoles on one node, of both sides."""
    made = OrderOutbox(tmp_path / "orders.json", lonely.small.log.record, changed=lambda: None)
    lonely.small.log.listen(made.hear)
    return made


@pytest_asyncio.fixture
async def running(lonely: Bench, tmp_path: Path) -> AsyncIterator[Consoles]:
    """Both consoles lead to the same node: what is passed on is written down by both."""
    log = lonely.small.log.record
    parts = {node: NodeParts(lonely.commands, lonely.operations, log=log) for node in "ab"}
    async with consoles(tmp_path, parts) as both:
        yield both


def records(bench: Bench) -> list[dict[str, object]]:
    return [event for event in bench.small.log.tail(1000) if event["kind"] in RECORDS]


def routes(both: Consoles) -> list[str]:
    """Every route of the console that is no question."""
    found = both.running["a"].application().router.routes()
    return sorted(
        str(route.resource.canonical) for route in found if route.resource and route.method not in ("GET", "HEAD")
    )


def test_the_walk_covers_every_order() -> None:
    assert set(ORDERS) == set(ACTIONS) | set(MIRROR_ACTIONS) - {"mirror-restore"}
    assert set(ORDERS) > LONG


async def test_the_console_has_these_changing_routes_and_no_others(running: Consoles) -> None:
    assert routes(running) == ["/api/v1/actions/{action}", "/api/v1/peer/actions/{action}"]


@pytest.mark.parametrize("word", [word for word in ORDERS if word not in LONG])
async def test_an_order_leaves_one_line_on_each_node_it_passes(
    lonely: Bench, running: Consoles, outbox: OrderOutbox, word: str
) -> None:
    """And one note for the control plane, however many nodes it passes."""
    body = {"reason": "because of this test"}
    for number, route in enumerate(routes(running), start=1):
        passed_on = "/peer/" in route
        before = len(records(lonely))
        status, _ = await running.call("a", running.person("Admin"), route.replace("{action}", word), "POST", json=body)
        new = records(lonely)[before:]
        kinds = ["command.ended", "console.passed-on"] if passed_on else ["command.ended"]
        assert [event["kind"] for event in new] == kinds
        for event in new:
            through = " through demo-a" if passed_on and event["kind"] == "command.ended" else ""
            assert (event["who"], event["why"], event["action"]) == (f"ann (Admin){through}", body["reason"], word)
            assert event["status"] in ("succeeded", "refused", "failed", "accepted", status)
        assert len(outbox.pending()) == number
        note = outbox.pending()[-1]
        assert (note.action, note.reason, note.outcome) == (word, body["reason"], new[0]["status"])
        assert note.principal.startswith("certificate:")
        assert note.principal != "certificate:"


@pytest.mark.parametrize("word", ORDERS)
async def test_a_refused_order_leaves_one_line(
    lonely: Bench, running: Consoles, outbox: OrderOutbox, word: str
) -> None:
    for number, route in enumerate(routes(running), start=1):
        path = route.replace("{action}", word)
        status, _ = await running.call("a", running.person("Monitor"), path, "POST", json={"reason": "may I"})
        assert status == 403
        assert len(records(lonely)) == number
        event = records(lonely)[-1]
        assert (event["kind"], event["who"], event["why"]) == ("console.refused", "ann (Monitor)", "may I")
        assert (event["status"], event["code"], event["path"]) == (403, "Forbidden", path)
        assert len(outbox.pending()) == number
        note = outbox.pending()[-1]
        assert (note.action, note.reason, note.outcome, note.code) == (word, "may I", "refused", "Forbidden")


async def test_mirrorctl_leaves_one_line(lonely: Bench, outbox: OrderOutbox, tmp_path: Path) -> None:
    socket = tmp_path / "run" / "agent.sock"
    api = LocalApi(lonely.commands, lonely.operations, socket_path=socket, log=lonely.small.log.record)
    await api.start()
    try:
        for word in (*(word for word in ACTIONS if word not in LONG), *MIRROR_ACTIONS):
            before = len(records(lonely))
            await asyncio.to_thread(ask, socket, word, requestedBy="root", reason="by hand")
            [event] = records(lonely)[before:]
            assert (event["kind"], event["action"], event["why"]) == ("command.ended", word, "by hand")
            assert str(event["who"]).startswith(f"root ({CALLER}")
            [note] = outbox.pending()
            assert (note.action, note.reason, note.outcome) == (word, "by hand", event["status"])
            assert note.principal.startswith(f"local:{CALLER}")
            outbox.recorded(note.number)
    finally:
        await api.stop()
