"""The watch over announced maintenance, against the lab's own document of scheduled events over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest_asyncio
from aiohttp import web
from mirror_agent.core.model import Role
from mirror_agent.net.scheduled_events import EVENTS_VERSION, NodeFacts, ScheduledEventWatch

from lab.imds import ScheduledEvent, ScheduledEvents
from tests.agent_samples import FakeClock, Recorded, eventually

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
VM = "/vm/demo-a"
PRIMARY = NodeFacts(Role.PRIM, peer_ready=True, peer_serves=False, bridged_s=1.5)
EXPOSED = NodeFacts(Role.ALONE, peer_ready=False, peer_serves=False, bridged_s=1.5)
REPLICA = NodeFacts(Role.SECOND, peer_ready=False, peer_serves=True, bridged_s=1.5)


@dataclass
class Bench:
    events: ScheduledEvents = field(default_factory=ScheduledEvents)
    facts: NodeFacts = PRIMARY
    log: Recorded = field(default_factory=Recorded)
    clock: FakeClock = field(default_factory=FakeClock)
    now: datetime = NOW
    status: int = 200
    asked: list[float | None] = field(default_factory=list)
    approved: list[str] = field(default_factory=list)
    outcome: asyncio.Future[tuple[bool, str]] | None = None
    url: str = ""
    document: object = None
    broken: bool = False

    # -- the metadata service -------------------------------------------------------------------------------------

    async def name(self, request: web.Request) -> web.Response:
        assert request.headers["Metadata"] == "true"
        return web.Response(text="demo-a\n")

    async def show(self, request: web.Request) -> web.Response:
        assert request.query["api-version"] == EVENTS_VERSION
        assert request.headers["Metadata"] == "true"
        return web.json_response(self.document or self.events.document(VM), status=self.status)

    async def approve(self, request: web.Request) -> web.Response:
        assert request.headers["Metadata"] == "true"
        body: dict[str, Any] = await request.json()
        self.events.approve(VM, [start["EventId"] for start in body["StartRequests"]])
        return web.Response()

    # -- the node -------------------------------------------------------------------------------------------------

    def node_facts(self) -> NodeFacts:
        assert not self.broken
        return self.facts

    async def hand_over(self, *, who: str, why: str, within_s: float | None) -> tuple[bool, str]:
        assert who == "scheduled event"
        assert "demo-a is announced" in why
        self.asked.append(within_s)
        self.outcome = asyncio.get_running_loop().create_future()
        return await self.outcome

    def announce(self, kind: str = "Reboot", left_s: float = 900.0, **more: Any) -> ScheduledEvent:
        not_before = format_datetime(self.now + timedelta(seconds=left_s), usegmt=True)
        event = ScheduledEvent(kind, "demo-a", not_before, **more)
        self.events.schedule(VM, event, lambda begun: self.approved.append(begun.id))
        return event

    async def poll(self) -> None:
        """Let the watch look once more: it sleeps, so the round before has ended."""
        await eventually(lambda: self.clock.next_wake_s is not None, "the watch sleeps")
        await self.clock.advance(self.clock.next_wake_s or 0.0)
        await eventually(lambda: self.clock.next_wake_s is not None, "the watch sleeps again")


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    application = web.Application()
    application.router.add_get("/metadata/instance/compute/name", made.name)
    application.router.add_get("/metadata/scheduledevents", made.show)
    application.router.add_post("/metadata/scheduledevents", made.approve)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    watch = ScheduledEventWatch(
        facts=made.node_facts,
        hand_over=made.hand_over,
        log=made.log,
        url=made.url,
        clock=made.clock,
        utc_now=lambda: made.now,
    )
    running = asyncio.create_task(watch.run())
    await eventually(lambda: made.clock.next_wake_s is not None, "the first look")
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await runner.cleanup()


async def test_a_primary_hands_over_then_approves(bench: Bench) -> None:
    event = bench.announce()
    await bench.poll()
    assert bench.asked == [900.0]
    await bench.poll()
    assert bench.asked == [900.0], "one hand-over at a time"
    assert bench.approved == []
    assert bench.outcome is not None
    bench.facts = REPLICA
    bench.outcome.set_result((True, "the peer is primary now"))
    await bench.poll()
    assert bench.approved == [event.id]
    rules = [fields["rule"] for kind, fields in bench.log.events if kind == "scheduled-event.concluded"]
    assert rules[:3] == ["serves", "handing-over", "does-not-serve"]
    assert "scheduled-event.approved" in bench.log.kinds()
    await bench.poll()
    assert bench.log.kinds().count("scheduled-event.approved") == 1, "it has begun"


async def test_a_replica_approves_at_once(bench: Bench) -> None:
    bench.facts = REPLICA
    event = bench.announce("Redeploy")
    await bench.poll()
    assert bench.approved == [event.id]
    assert bench.asked == []


async def test_an_exposed_node_waits_for_its_peer_but_never_too_long(bench: Bench) -> None:
    bench.facts = EXPOSED
    event = bench.announce(left_s=60.0)
    await bench.poll()
    assert bench.approved == []
    bench.now += timedelta(seconds=59)
    await bench.poll()
    assert bench.approved == [event.id]
    assert bench.asked == []


async def test_a_hand_over_that_failed_is_tried_again_later(bench: Bench) -> None:
    bench.announce()
    await bench.poll()
    assert bench.outcome is not None
    bench.outcome.set_result((False, "the peer was lost"))
    await bench.poll()
    assert len(bench.asked) == 1
    assert bench.approved == []
    bench.now += timedelta(seconds=6)
    await bench.poll()
    assert len(bench.asked) == 2


async def test_a_lost_answer_is_no_approval(bench: Bench) -> None:
    bench.facts = REPLICA
    event = bench.announce()
    bench.events.approve = lambda *_: bench.approved.append("lost")  # type: ignore[method-assign]
    await bench.poll()
    del bench.events.approve
    await bench.poll()
    assert bench.approved == ["lost", event.id], "asked again, because it had not begun"
    assert bench.log.kinds().count("scheduled-event.approved") == 1, "and told once"


async def test_a_sick_service_is_logged_once_and_asked_again(bench: Bench) -> None:
    bench.status = 500
    for _ in range(12):
        await bench.poll()
    assert bench.log.kinds().count("scheduled-events.unreachable") == 2
    assert bench.clock.next_wake_s == 1.0, "it has answered before: a warning may be half a minute short"
    bench.status = 200
    bench.facts = REPLICA
    event = bench.announce()
    await bench.poll()
    assert bench.approved == [event.id]
    assert "scheduled-events.reached" in bench.log.kinds()


async def test_whatever_breaks_ends_neither_the_watch_nor_the_agent(bench: Bench) -> None:
    bench.document = {"Events": [{"EventId": 1}]}
    await bench.poll()
    assert "scheduled-events.unreachable" in bench.log.kinds()
    bench.document = None
    event = bench.announce()
    bench.broken = True
    await bench.poll()
    assert "scheduled-events.failed" in bench.log.kinds()
    bench.broken, bench.facts = False, REPLICA
    await bench.poll()
    assert bench.approved == [event.id]


async def test_a_machine_without_the_service_is_asked_rarely() -> None:
    clock, log = FakeClock(), Recorded()

    async def never(**_: object) -> tuple[bool, str]:
        raise AssertionError("nothing was announced")

    watch = ScheduledEventWatch(facts=lambda: PRIMARY, hand_over=never, log=log, url="http://127.0.0.1:1", clock=clock)
    running = asyncio.create_task(watch.run())
    for _ in range(10):
        await eventually(lambda: clock.next_wake_s is not None, "the watch sleeps")
        pause = clock.next_wake_s
        await clock.advance(pause or 0.0)
    assert pause == 60.0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert log.kinds() == ["scheduled-events.unreachable"] * 2
