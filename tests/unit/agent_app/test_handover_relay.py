"""The relay of a planned swap: real sockets on two loopback addresses, the clock of the window by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from mirror_agent.app import handover_relay
from mirror_agent.app.handover_relay import HandoverRelay

from tests.agent_samples import FakeClock, Recorded, eventually, settle
from tests.portable import needs_early_resets

HERE = "127.0.0.11"
PEER = "127.0.0.12"
WINDOW_S = 5.5


def free_port() -> int:
    """A port that is free on both addresses."""
    with socket.create_server((HERE, 0)) as here, socket.create_server((PEER, here.getsockname()[1])):
        return int(here.getsockname()[1])


@dataclass
class Bench:
    port: int = field(default_factory=free_port)
    clock: FakeClock = field(default_factory=FakeClock)
    log: Recorded = field(default_factory=Recorded)
    seen: list[bytes] = field(default_factory=list)
    server: asyncio.Server | None = None
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.relay = HandoverRelay(address=HERE, peer_address=PEER, ports=[self.port], log=self.log, clock=self.clock)

    async def open(self) -> None:
        self.relay.open(window_s=WINDOW_S)
        await eventually(lambda: "relay.open" in self.log.kinds(), "the relay listens")

    async def start_application(self) -> None:
        """Echoes after the client's end of file, so that an answer proves the half-closed connection."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.seen.append(said := await reader.read())
            await self.hold.wait()
            writer.write(b"said " + said)
            writer.close()

        self.server = await asyncio.start_server(serve, PEER, self.port)

    async def ask(self, text: bytes, source: str = "127.0.0.1") -> bytes:
        reader, writer = await asyncio.open_connection(HERE, self.port, local_addr=(source, 0))
        try:
            writer.write(text)
            writer.write_eof()
            return await reader.read()
        finally:
            writer.transport.abort()

    def ended(self) -> dict[str, object]:
        return next(fields for kind, fields in self.log.events if kind == "relay.ended")


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    made.hold.set()
    yield made
    await made.relay.close()
    assert not made.relay.active
    if made.server is not None:
        made.server.close()


async def test_a_connection_reaches_the_peer_and_half_closes(bench: Bench) -> None:
    await bench.start_application()
    await bench.open()
    assert await bench.ask(b"hello") == b"said hello"
    assert bench.seen == [b"hello"]


async def test_connections_are_held_while_the_peers_application_starts(bench: Bench) -> None:
    await bench.open()
    asking = [asyncio.create_task(bench.ask(b"%d" % number)) for number in range(20)]
    await bench.clock.advance(0.2)
    assert not any(task.done() for task in asking), "nobody was refused, nobody was answered"
    await bench.start_application()

    async def pass_time() -> None:
        while not all(task.done() for task in asking):
            await bench.clock.advance(handover_relay.RETRY_S)
            await asyncio.sleep(0.001)

    await asyncio.wait_for(pass_time(), 20)
    assert sorted(task.result() for task in asking) == sorted(b"said %d" % number for number in range(20))


async def test_nothing_is_accepted_when_the_window_is_over(bench: Bench) -> None:
    await bench.start_application()
    bench.hold.clear()
    await bench.open()
    asking = asyncio.create_task(bench.ask(b"late"))
    await eventually(lambda: bench.seen == [b"late"], "the peer has it")
    assert bench.relay.accepting
    await bench.clock.advance(WINDOW_S)
    assert bench.relay.active
    assert not bench.relay.accepting
    with pytest.raises(ConnectionRefusedError):
        await bench.ask(b"too late")
    bench.hold.set()
    assert await asking == b"said late", "what was in flight may finish"
    await eventually(lambda: not bench.relay.active, "the relay has ended by itself")
    assert bench.ended()["how"] == "finished"
    assert bench.ended()["cut"] == 0


async def test_flights_are_bounded_after_the_window(bench: Bench) -> None:
    await bench.start_application()
    bench.hold.clear()
    await bench.open()
    asking = asyncio.create_task(bench.ask(b"for ever"))
    await eventually(lambda: bench.seen == [b"for ever"], "the peer has it")
    await bench.clock.advance(WINDOW_S + handover_relay.FLIGHT_S)
    with pytest.raises(ConnectionResetError):
        await asking
    assert bench.ended()["cut"] == 1


async def test_a_connection_the_peer_never_takes_ends_with_the_window(bench: Bench) -> None:
    await bench.open()
    asking = asyncio.create_task(bench.ask(b"anybody"))
    await settle()
    await bench.clock.advance(WINDOW_S + 1)
    with pytest.raises(ConnectionResetError):
        await asking
    assert bench.ended()["failed"] == 1


async def test_after_close_the_ports_are_free(bench: Bench) -> None:
    await bench.start_application()
    bench.hold.clear()
    await bench.open()
    asking = asyncio.create_task(bench.ask(b"cut"))
    await eventually(lambda: bench.seen == [b"cut"], "the peer has it")
    await bench.relay.close()
    # Without SO_REUSEADDR: not even a connection on its way out is left.
    with socket.socket() as own:
        own.bind((HERE, bench.port))
    with pytest.raises(ConnectionResetError):
        await asking


async def test_close_before_the_first_step_leaves_nothing(bench: Bench) -> None:
    bench.relay.open(window_s=WINDOW_S)
    await bench.relay.close()
    assert not bench.relay.active
    assert bench.log.events == []


@needs_early_resets
async def test_the_peer_itself_is_refused(bench: Bench) -> None:
    """Two relays that forward to one another would send one connection round for ever."""
    await bench.start_application()
    await bench.open()
    with pytest.raises(ConnectionResetError):  # so soon that connecting may already fail
        await bench.ask(b"round", source=PEER)
    await bench.relay.close()
    assert bench.ended()["refused"] == 1
    assert bench.seen == []


@needs_early_resets
async def test_more_than_the_limit_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover_relay, "MAX_CONNECTIONS", 1)
    await bench.start_application()
    bench.hold.clear()
    await bench.open()
    first = asyncio.create_task(bench.ask(b"first"))
    await eventually(lambda: bench.seen == [b"first"], "the peer has it")
    with pytest.raises(ConnectionResetError):
        await bench.ask(b"second")
    bench.hold.set()
    assert await first == b"said first"


async def test_a_port_somebody_holds_is_left_alone(bench: Bench) -> None:
    with socket.create_server((HERE, bench.port)):
        await bench.open()
    assert "relay.port-not-taken" in bench.log.kinds()


async def test_without_service_ports_there_is_no_relay() -> None:
    relay = HandoverRelay(address=HERE, peer_address=PEER, ports=(), log=Recorded())
    relay.open(window_s=WINDOW_S)
    assert not relay.active
