"""Serve the instance metadata inside each virtual network's router.

The socket is made in the router's namespace and served from here; the caller is known by its source address, which the
router does not change.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from lab.fabric.namespaces import listen_in
from lab.fabric.provider import Stop
from lab.fabric.ruleset import METADATA
from lab.imds import MetadataService, Resolve, ScheduledEvents

PORT = 80


async def serve_metadata(namespace: str, resolve: Resolve, events: ScheduledEvents) -> Stop:
    """Answers 169.254.169.254 in the namespace until the returned function is awaited."""
    listener = await asyncio.to_thread(listen_in, namespace, METADATA, PORT)
    runner = web.AppRunner(MetadataService(resolve, events).app(), access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner.cleanup
