"""A client that announces a body and sends none holds up neither a handler nor the end of a server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path

from aiohttp import web
from mirror_agent.node.live_tls import NodeTls
from mirror_agent.web.listening import SHUTDOWN_S, Listening, listen, read_body

from lab.ports import held_ports
from tests.unit.agent_web.consoles import NodeParts, consoles
from tests.unit.agent_web.control import SampleControl, SampleMirror
from tests.unit.pair.two_nodes import Machine, Table, founded, listening

# Far above what is promised, far below aiohttp's own 60 s.
PROMPT_S = 30.0
assert SHUTDOWN_S < PROMPT_S


@contextlib.asynccontextmanager
async def half_a_request(
    port: int, path: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[asyncio.StreamReader]:
    """The head of a POST, which the server has read; its body never comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Expect: 100-continue\r\nContent-Length: 100\r\n\r\n".encode())
        assert b"100" in await asyncio.wait_for(reader.readline(), PROMPT_S), "the handler is in progress"
        yield reader
    finally:
        writer.transport.abort()


async def ends(stop: Coroutine[object, object, None]) -> None:
    """Not by a cancellation, which aiohttp would swallow."""
    stopping = asyncio.create_task(stop)
    done, _ = await asyncio.wait({stopping}, timeout=PROMPT_S)
    assert done, f"still at it after {PROMPT_S:g} s"


def anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_nobody_holds_up_the_end_of_the_pairs_own_service(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    await founded(machine, Table())
    async with listening(machine) as host, half_a_request(host.port, "/pair/v1/hello", anybody()):
        await ends(host.server.stop())


async def test_nor_that_of_a_console(tmp_path: Path) -> None:
    parts = {"a": NodeParts(SampleControl(), SampleMirror()), "b": NodeParts(SampleControl(), SampleMirror())}
    async with consoles(tmp_path, parts) as both:
        port = int(both.urls["a"].rpartition(":")[2])
        async with half_a_request(port, "/api/v1/actions/swap", both.person()):
            await ends(both.running["a"].stop())


async def test_a_handler_that_never_ends_is_cut_off() -> None:
    begun = asyncio.Event()

    async def handler(_request: web.Request) -> web.Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("nothing sets it")

    application = web.Application()
    application.router.add_post("/", handler)
    server = await listen(application, "127.0.0.1", 0, keepalive_s=1.0)
    async with half_a_request(server.port, "/"):
        await begun.wait()
        await ends(server.stop())


async def cancelled(work: Coroutine[object, object, object], after_turns: int) -> bool:
    """Cancelled after so many turns of the loop; False if it was done before."""
    task = asyncio.create_task(work)
    for _ in range(after_turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=PROMPT_S)
    assert task.done()
    return task.cancelled()


async def test_a_port_is_closed_also_by_a_stop_that_is_cancelled() -> None:
    """A node whose agent ends in the moment in which it closes a port."""
    with held_ports("127.0.0.1", 1) as (port,):
        for turns in range(1, 100):  # from 1 on: cancelled before its first turn it would not begin
            server = await listen(web.Application(), "127.0.0.1", port, keepalive_s=1.0)
            ended = await cancelled(server.stop(), turns)
            socket.create_server(("127.0.0.1", port)).close()
            if not ended:
                assert turns > 2, "it was cancelled in the middle of it"
                return
    raise AssertionError("it never ends")


async def test_a_start_that_is_cancelled_opens_no_port() -> None:
    with held_ports("127.0.0.1", 1) as (port,):
        for turns in range(100):
            begun: list[Listening] = []

            async def begin(begun: list[Listening] = begun) -> None:
                begun.append(await listen(web.Application(), "127.0.0.1", port, keepalive_s=1.0))

            await cancelled(begin(), turns)
            for server in begun:
                await server.stop()
            gc.collect()  # what was left open would be told of now
            socket.create_server(("127.0.0.1", port)).close()
            if begun:
                assert turns > 1, "it was cancelled in the middle of it"
                return
    raise AssertionError("it never begins")


async def test_a_body_that_does_not_come_is_waited_for_so_long() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=await read_body(request, within_s=0.05))

    application = web.Application()
    application.router.add_post("/", handler)
    server = await listen(application, "127.0.0.1", 0, keepalive_s=1.0)
    try:
        async with half_a_request(server.port, "/") as reader, asyncio.timeout(PROMPT_S):
            await reader.readline()
            assert b" 408 " in await reader.readline()
    finally:
        await server.stop()


async def test_a_handshake_that_has_begun_ends_with_the_server(tmp_path: Path) -> None:
    server = await listen(web.Application(), "127.0.0.1", 0, keepalive_s=1.0, tls=await presented(tmp_path))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        # The first bytes of a ClientHello; more never come.
        writer.write(b"\x16\x03\x01\x02\x00")
        await asyncio.sleep(0)
        await ends(server.stop())
        assert await ended(reader)
    finally:
        writer.transport.abort()


async def test_whoever_connects_while_the_port_closes_is_not_forgotten(tmp_path: Path) -> None:
    """In every turn of the loop around the end somebody comes; a connection that nobody closes is a warning, and a
    warning is an error here."""
    tls = await presented(tmp_path)
    for turns in range(20):
        server = await listen(web.Application(), "127.0.0.1", 0, keepalive_s=1.0, tls=tls)
        clients = [socket.socket() for _ in range(3)]
        with contextlib.ExitStack() as stack:
            for client in clients:
                stack.enter_context(client).setblocking(False)
                assert client.connect_ex(("127.0.0.1", server.port)) in (0, errno.EINPROGRESS, errno.EWOULDBLOCK)
            for _ in range(turns % 5):
                await asyncio.sleep(0)
            await ends(server.stop())
        gc.collect()


async def presented(root: Path) -> ssl.SSLContext:
    """What a server presents."""
    machine = Machine(root)
    await founded(machine, Table())
    return NodeTls(machine.paths).console


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), PROMPT_S) == b""
    except ConnectionResetError:
        return True
