"""Listening: an aiohttp application on a (free) port."""

from __future__ import annotations

import ssl as tls

from aiohttp import web


async def serve_app(
    application: web.Application, host: str, port: int, ssl: tls.SSLContext | None = None
) -> tuple[web.AppRunner, str]:
    """Listen and return (runner, base URL). Port 0 takes a free one. Stop with `await runner.cleanup()`."""
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=ssl)
    await site.start()
    bound: int = runner.addresses[0][1]
    return runner, f"{'https' if ssl else 'http'}://{host}:{bound}"
