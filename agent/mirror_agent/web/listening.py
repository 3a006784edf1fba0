"""What every HTTP server of the agent has in common: a client holds up neither the end of the agent nor a handler.

aiohttp gives requests under way 60 s at the end; a client that announces a body and sends none is such a request. The
agent has 120 s in all to leave, or what it asks for (`keepalive`), of which the application and the copies need theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from dataclasses import dataclass
from typing import Final

from aiohttp import web

SHUTDOWN_S: Final = 1.0
# A body is a few kilobytes: this is for a phone on a bad line.
BODY_S: Final = 10.0
HANDSHAKE_S: Final = 10.0
BACKLOG: Final = 128


@dataclass(frozen=True, slots=True)
class Listening:
    """An open port, `port` in case 0 was asked for."""

    port: int
    _server: asyncio.Server
    _runner: web.AppRunner

    async def stop(self) -> None:
        """Close the port. What is under way is cut off after SHUTDOWN_S, whoever has not finished the TLS handshake at
        once: aiohttp does not know of such a connection, and would serve it after the end. The port is closed also when
        this is cancelled, which it then is a little later."""
        closing = asyncio.create_task(self._close())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await closing
            raise

    async def _close(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._server.sockets:
            with contextlib.suppress(NotImplementedError):  # Windows' loop has no readers
                loop.remove_reader(listener.fileno())
        # asyncio loses a connection that is accepted in the very turn of the loop in which a server closes.
        await asyncio.sleep(0)
        await _close(self._server)
        await self._runner.cleanup()
        if sys.version_info >= (3, 13):
            # Before, who is in a handshake is cut off by HANDSHAKE_S only, or served until his keep-alive is over.
            self._server.abort_clients()
            await self._server.wait_closed()


async def listen(
    application: web.Application, host: str, port: int, *, keepalive_s: float, tls: ssl.SSLContext | None = None
) -> Listening:
    """Serve until `Listening.stop`. Raises OSError when the port cannot be had."""
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=keepalive_s, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        assert runner.server is not None, "it has been set up"
        server = await asyncio.get_running_loop().create_server(
            runner.server,
            host,
            port,
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=HANDSHAKE_S if tls else None,
            start_serving=False,
        )
        try:
            await server.start_serving()
        except BaseException:
            server.close()
            raise
    except BaseException:
        await runner.cleanup()
        raise
    return Listening(server.sockets[0].getsockname()[1], server, runner)


async def _close(server: asyncio.Server) -> None:
    """In a timer, which runs after all that the same turn of the loop has accepted: Windows' loop has no readers to
    take away before, and makes no transport for a server that is closed."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()

    def close() -> None:
        server.close()
        closed.set()

    loop.call_later(0, close)
    await closed.wait()


async def read_body(request: web.Request, *, within_s: float = BODY_S) -> bytes:
    """The whole body. Raises HTTPRequestTimeout, HTTPRequestEntityTooLarge."""
    try:
        async with asyncio.timeout(within_s):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body did not come within {within_s:g} s") from None
