"""Listening: an aiohttp application on a (free) port, and stopping it without leftovers."""

from __future__ import annotations

import asyncio
import ssl as tls

from aiohttp import web

SHUTDOWN_S = 1.0  # for requests under way


class Runner(web.AppRunner):
    """Stops at once: a client that keeps its connection open is cut off.

    A closing TLS transport waits for the other side's goodbye (up to 30 s), which a kept-alive client that is going too
    never sends; what is still open after the orderly shutdown is therefore aborted.
    """

    async def cleanup(self) -> None:
        handlers = self.server.connections if self.server is not None else []
        transports = [handler.transport for handler in handlers if handler.transport is not None]
        await super().cleanup()
        for transport in transports:
            transport.abort()
        for _ in range(3):  # abort → connection_lost of TLS → of the socket: each is one turn of the loop
            await asyncio.sleep(0)


async def serve_app(
    application: web.Application, host: str, port: int, ssl: tls.SSLContext | None = None
) -> tuple[web.AppRunner, str]:
    """Listen and return (runner, base URL). Port 0 takes a free one. Stop with `await runner.cleanup()`."""
    runner = Runner(application, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=ssl)
    await site.start()
    bound: int = runner.addresses[0][1]
    return runner, f"{'https' if ssl else 'http'}://{host}:{bound}"
