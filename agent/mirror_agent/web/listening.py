"""What every HTTP server of the agent has in common: a client holds up neither the end of the agent nor a handler.

aiohttp gives requests under way 60 s at the end; a client that announces a body and sends none is such a request. The
agent has 120 s in all to leave (TimeoutStopSec), of which the application and the copies need theirs.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

SHUTDOWN_S: Final = 1.0
# A body is a few kilobytes: this is for a phone on a bad line.
BODY_S: Final = 10.0


def runner_of(application: web.Application, *, keepalive_s: float) -> web.AppRunner:
    """Not set up yet. `cleanup` cuts off what is under way after SHUTDOWN_S."""
    return web.AppRunner(application, access_log=None, keepalive_timeout=keepalive_s, shutdown_timeout=SHUTDOWN_S)


async def read_body(request: web.Request, *, within_s: float = BODY_S) -> bytes:
    """The whole body. Raises HTTPRequestTimeout, HTTPRequestEntityTooLarge."""
    try:
        async with asyncio.timeout(within_s):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body did not come within {within_s:g} s") from None
