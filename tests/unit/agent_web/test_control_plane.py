"""The line to the control plane: order, buffering, back-off, commands at most once, results until confirmed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from mirror_agent.contract import (
    Command,
    CommandAction,
    CommandResult,
    Configuration,
    HeartbeatPost,
    HeartbeatResponse,
    Timing,
)
from mirror_agent.net.backoff import LONGEST_DELAY_S, BackOff
from mirror_agent.net.command_journal import LOST_MESSAGE, CommandJournal
from mirror_agent.net.control_plane import ORDERS_HELD_S, ControlPlaneClient, HeartbeatBuffer
from mirror_agent.paths import Paths

from tests.agent_samples import Authority, FakeClock, Recorded, configuration, eventually, heartbeat
from tests.portable import assert_private

CREDENTIAL = "mp_node_VERYSECRETCREDENTIAL"
SWAP = Command(id="c1", action=CommandAction.SWAP, requested_by="ann")


@dataclass
class Plane:
    """Remembers every post; answers the queued statuses, then the queued responses, then an empty one."""

    posts: list[HeartbeatPost] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    responses: list[HeartbeatResponse] = field(default_factory=list)
    asked: int = 0
    invalid: str = ""
    """An action of which it refuses every note."""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        if request.headers.get("Authorization") != f"Bearer {CREDENTIAL}":
            return web.Response(status=401)
        if self.statuses:
            return web.Response(status=self.statuses.pop(0), text="sig=VERYSECRETSIG")
        post = HeartbeatPost.model_validate_json(await request.read())
        if any(note.action == self.invalid for note in post.orders):
            return web.Response(status=400, text="orders.0: no")
        self.posts.append(post)
        response = self.responses.pop(0) if self.responses else HeartbeatResponse()
        return web.Response(text=response.model_dump_json(by_alias=True), content_type="application/json")

    def sequences(self) -> list[int]:
        return [beat.sequence for post in self.posts for beat in post.heartbeats]


@dataclass
class Line:
    plane: Plane
    client: ControlPlaneClient
    clock: FakeClock
    log: Recorded
    commands: list[Command]
    configurations: list[Configuration]
    paths: Paths

    async def turn(self, posts: int) -> None:
        """One interval passes; wait until the plane has this many posts and the client has digested the last."""
        await self.clock.advance(5.0)
        await self.arrived(posts)

    async def arrived(self, posts: int) -> None:
        await eventually(lambda: len(self.plane.posts) >= posts and self.client.link.buffered == 0, f"{posts} posts")


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    authority = Authority(tmp_path / "web")
    plane = Plane()
    application = web.Application()
    application.router.add_post("/api/nodes/heartbeat", plane.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server()).start()
    clock, log, numbers = FakeClock(), Recorded(), itertools.count()
    commands: list[Command] = []
    configurations: list[Configuration] = []
    paths = Paths(tmp_path / "root")
    client = ControlPlaneClient(
        url=f"https://127.0.0.1:{runner.addresses[0][1]}",
        credential=CREDENTIAL,
        configuration_version=1,
        interval_s=5.0,
        sample=lambda: heartbeat(next(numbers)),
        on_command=commands.append,
        on_configuration=configurations.append,
        log=log,
        paths=paths,
        clock=clock,
        jitter=lambda: 0.0,
        tls=authority.client(),
    )
    running = asyncio.create_task(client.run())
    yield Line(plane, client, clock, log, commands, configurations, paths)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await runner.cleanup()


async def asked_again(plane: Plane, asked: int) -> None:
    await eventually(lambda: plane.asked > asked, "asked again")


async def test_a_sample_every_interval_and_at_once_when_poked(line: Line) -> None:
    await line.arrived(1)
    await line.turn(2)
    line.client.poke()
    await line.arrived(3)
    assert line.plane.sequences() == [0, 1, 2]
    assert line.client.link.connected


async def test_an_outage_is_buffered_and_delivered_in_order(line: Line) -> None:
    await line.arrived(1)
    line.plane.statuses = [503] * 4
    for _ in range(1000):
        await line.clock.advance(1.0)
        await asyncio.sleep(0.002)  # lets the sockets work while only the clock of the client is ours
        if len(line.plane.posts) > 1 and line.client.link.connected and line.client.link.buffered == 0:
            break
    assert line.plane.sequences() == list(range(len(line.plane.sequences())))
    assert max(len(post.heartbeats) for post in line.plane.posts) > 1
    kinds = line.log.kinds()
    assert kinds == ["control-plane.connected", "control-plane.unreachable", "control-plane.connected"]
    assert "VERYSECRET" not in str(line.log.events)


async def test_a_command_is_handed_on_once_and_its_result_is_repeated_until_confirmed(line: Line) -> None:
    await line.arrived(1)
    line.plane.responses = [HeartbeatResponse(commands=(SWAP,)), HeartbeatResponse(commands=(SWAP,))]
    await line.turn(2)
    await eventually(lambda: line.commands == [SWAP], "handed on")
    await line.turn(3)
    assert line.commands == [SWAP]
    assert line.plane.posts[-1].command_results == (CommandResult(id="c1", status="accepted"),)
    done = CommandResult(id="c1", status="succeeded", message="swapped")
    line.client.report(done)
    await line.arrived(4)
    await line.turn(5)
    assert [post.command_results for post in line.plane.posts[3:]] == [(done,), (done,)]
    line.plane.responses = [HeartbeatResponse(confirmed_results=("c1",))]
    await line.turn(6)
    await line.turn(7)
    assert not line.plane.posts[-1].command_results


async def test_a_newer_configuration_is_handed_over_once(line: Line) -> None:
    await line.arrived(1)
    newer = configuration(version=2, timing=Timing(control_plane_heartbeat_s=50.0))
    line.plane.responses = [HeartbeatResponse(configuration=newer), HeartbeatResponse(configuration=newer)]
    await line.turn(2)
    assert [entry.version for entry in line.configurations] == [2]
    assert line.plane.posts[-1].configuration_version == 1
    await line.turn(3)
    assert line.plane.posts[-1].configuration_version == 2
    assert len(line.configurations) == 1
    assert (line.clock.next_wake_s or 0) > 5.0


async def test_a_body_that_is_refused_does_not_block_the_line_for_ever(line: Line) -> None:
    await line.arrived(1)
    line.plane.statuses = [400]
    asked = line.plane.asked
    await line.clock.advance(5.0)
    await asked_again(line.plane, asked)
    await eventually(lambda: not line.client.link.connected, "refused")
    await line.turn(2)
    assert line.client.link.connected


async def test_a_command_that_cannot_be_taken_is_reported_as_failed(line: Line) -> None:
    def refuse(_command: Command) -> None:
        raise RuntimeError("not now")

    await line.arrived(1)
    line.client._on_command = refuse
    line.plane.responses = [HeartbeatResponse(commands=(SWAP,))]
    await line.turn(2)
    await line.arrived(3)
    (result,) = line.plane.posts[-1].command_results
    assert (result.status, "not now" in result.message) == ("failed", True)


def test_plain_http_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="https"):
        ControlPlaneClient(
            url="http://plane.example",
            credential=CREDENTIAL,
            configuration_version=1,
            interval_s=5.0,
            sample=lambda: heartbeat(0),
            on_command=lambda _: None,
            on_configuration=lambda _: None,
            log=Recorded(),
            paths=Paths(tmp_path),
        )


def test_a_full_buffer_drops_the_oldest_and_counts() -> None:
    buffer = HeartbeatBuffer(limit=3)
    for number in range(5):
        buffer.add(heartbeat(number))
    number, batch = buffer.first()
    assert [beat.sequence for beat in batch] == [2, 3, 4]
    assert buffer.dropped == 2
    buffer.add(heartbeat(5))  # while the batch is on its way, its first one is dropped
    buffer.forget(number)
    assert [beat.sequence for beat in buffer.first()[1]] == [5]
    assert buffer.dropped == 3


def test_the_back_off_grows_is_bounded_and_listens() -> None:
    back_off = BackOff(lambda: 0.0)
    assert [back_off.delay_s() for _ in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, LONGEST_DELAY_S / 2, LONGEST_DELAY_S / 2]
    back_off.reset()
    assert back_off.delay_s("7") == 7.0
    assert back_off.delay_s("Wed, 21 Oct 2026") == 1.0
    assert back_off.delay_s("99999") == 120.0


async def test_a_command_without_a_result_is_failed_after_a_restart_and_never_done_again(tmp_path: Path) -> None:
    path = tmp_path / "commands.json"
    first = CommandJournal(path, Recorded())
    assert first.begin("c1")
    assert first.begin("c2")
    first.report(CommandResult(id="c2", status="succeeded"))
    await first.save()
    second = CommandJournal(path, Recorded())
    assert not second.begin("c1")
    assert not second.begin("c2")
    assert [(result.id, result.status) for result in second.pending()] == [("c1", "failed"), ("c2", "succeeded")]
    assert second.pending()[0].message == LOST_MESSAGE
    assert_private(path)


def test_only_what_was_said_is_confirmed(tmp_path: Path) -> None:
    journal = CommandJournal(tmp_path / "commands.json", Recorded())
    journal.begin("c1")
    sent = journal.pending()
    journal.report(CommandResult(id="c1", status="succeeded"))  # while `accepted` was on its way
    journal.confirm(sent, ("c1",))
    assert [result.status for result in journal.pending()] == ["succeeded"]


def test_a_damaged_journal_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "commands.json"
    path.write_text("{torn")
    log = Recorded()
    journal = CommandJournal(path, log)
    assert journal.begin("c1")
    assert log.kinds() == ["commands.journal-damaged"]
    assert (tmp_path / "commands.json.damaged").exists()


async def test_the_journal_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "commands.json"
    journal = CommandJournal(path, Recorded())
    for number in range(1000):
        journal.begin(f"c{number}")
    await journal.save()
    assert len(journal.pending()) == 32
    assert not journal.begin("c999")
    assert path.stat().st_size < 64 * 1024


async def test_a_disk_that_refuses_is_recorded_and_does_not_stop_commands(tmp_path: Path) -> None:
    log = Recorded()
    path = tmp_path / "commands.json"
    journal = CommandJournal(path, log)
    path.mkdir()  # nothing can be put there
    assert journal.begin("c1")
    await journal.save()
    assert log.kinds() == ["commands.journal-not-written"]
    assert [result.id for result in journal.pending()] == ["c1"]


ORDERED: dict[str, object] = {
    "utc": "2026-11-22T12:00:00Z",
    "action": "swap",
    "who": "ann (Admin)",
    "why": "patch day",
    "order": "o1",
}
ENDED: dict[str, object] = {**ORDERED, "kind": "command.ended", "status": "succeeded", "message": "done"}


async def test_an_order_is_told_at_once_and_repeated_until_it_is_recorded(line: Line) -> None:
    await line.arrived(1)
    line.client.hear(ENDED)
    await line.arrived(2)
    line.plane.responses = [HeartbeatResponse(orders_recorded=1)]
    await line.turn(3)
    await line.turn(4)
    told = [[note.action for note in post.orders] for post in line.plane.posts]
    assert told == [[], ["swap"], ["swap"], []]
    assert line.plane.posts[1].order_series == line.plane.posts[2].order_series != ""


async def test_orders_of_an_outage_are_told_after_it_in_order(line: Line) -> None:
    await line.arrived(1)
    line.plane.statuses = [503] * 3
    for number in range(20):
        line.client.hear({**ENDED, "order": f"o{number}", "action": f"action-{number}"})
    line.plane.responses = [HeartbeatResponse(orders_recorded=16), HeartbeatResponse(orders_recorded=20)]
    for _ in range(1000):
        await line.clock.advance(1.0)
        await asyncio.sleep(0.002)  # lets the sockets work while only the clock of the client is ours
        if len(line.plane.posts) > 2:
            break
    told = [note.action for post in line.plane.posts for note in post.orders]
    assert told == [f"action-{number}" for number in range(20)]


async def test_a_control_plane_that_does_not_know_orders_gets_the_heartbeats_without_them(line: Line) -> None:
    await line.arrived(1)
    line.plane.statuses = [400]
    asked = line.plane.asked
    line.client.hear(ENDED)
    await asked_again(line.plane, asked)
    await eventually(lambda: not line.client.link.connected, "refused")
    await line.turn(2)
    assert not line.plane.posts[-1].orders
    await line.clock.advance(ORDERS_HELD_S)
    await line.arrived(3)
    assert [note.action for note in line.plane.posts[-1].orders] == ["swap"]
    assert "control-plane.orders-held-back" in line.log.kinds()


async def test_an_order_that_is_refused_for_ever_holds_up_no_later_one(line: Line) -> None:
    await line.arrived(1)
    line.plane.invalid = "bad"
    line.client.hear({**ENDED, "order": "o1", "action": "bad"})
    line.client.hear({**ENDED, "order": "o2", "action": "swap"})
    line.plane.responses = []
    for _ in range(1000):
        await line.clock.advance(ORDERS_HELD_S / 20)
        await asyncio.sleep(0.002)  # lets the sockets work while only the clock of the client is ours
        if any(post.orders for post in line.plane.posts):
            break
    told = [note.action for post in line.plane.posts for note in post.orders]
    assert told[:1] == ["swap"]
    (given_up,) = (fields for kind, fields in line.log.events if kind == "orders.given-up")
    assert (given_up["number"], given_up["action"]) == (1, "bad")
    assert sum(len(post.heartbeats) for post in line.plane.posts) > 3, "heartbeats go on meanwhile"
