"""Between the nodes and the witness storage: a proxy that forwards, delays, refuses, or loses the answer.

The router redirects the nodes' table traffic to it; flows that were open before are reset, so that they come again
through the proxy. Storage, control plane and our own observer are not affected.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from lab.serve import serve_app

if TYPE_CHECKING:
    from lab.faults.scene import Scene

HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"})


@dataclass
class Behaviour:
    """What the proxy does to each request; the default only forwards."""

    delay_s: float = 0.0
    refuse_writes: int = 0  # status for conditional writes, which do not reach storage
    refuse_all: int = 0
    lose_write_answers: int = 0  # so many conditional writes are carried out and the connection closed


class StorageProxy:
    def __init__(self, target: str) -> None:
        self._target = target
        self._session: aiohttp.ClientSession
        self.behaviour = Behaviour()
        self.disturbed = 0  # requests that were delayed, refused, or whose answer was lost

    async def start(self, host: str) -> tuple[web.AppRunner, int]:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner, url = await serve_app(application, host, 0)
        port = urlsplit(url).port
        assert port is not None
        return runner, port

    async def stop(self, runner: web.AppRunner) -> None:
        await runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        behaviour = self.behaviour
        conditional = request.method in ("PUT", "MERGE", "PATCH") and "If-Match" in request.headers
        if behaviour.delay_s:
            self.disturbed += 1
            await asyncio.sleep(behaviour.delay_s)
        if behaviour.refuse_all:
            self.disturbed += 1
            return _error(behaviour.refuse_all, "ServerBusy")
        if conditional and behaviour.refuse_writes:
            self.disturbed += 1
            return _error(behaviour.refuse_writes, "UpdateConditionNotSatisfied")
        answer = await self._forward(request)
        if conditional and behaviour.lose_write_answers > 0:
            behaviour.lose_write_answers -= 1
            self.disturbed += 1
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _forward(self, request: web.Request) -> web.Response:
        url = URL(f"{self._target}{request.raw_path}", encoded=True)
        body = await request.read()
        async with self._session.request(request.method, url, headers=_passed(request.headers), data=body) as answer:
            return web.Response(status=answer.status, headers=_passed(answer.headers), body=await answer.read())


def _passed(headers: object) -> dict[str, str]:
    assert hasattr(headers, "items")
    return {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}


def _error(status: int, code: str) -> web.Response:
    body = {"odata.error": {"code": code, "message": {"lang": "en-US", "value": code}}}
    return web.json_response(body, status=status, headers={"x-ms-error-code": code})


@asynccontextmanager
async def storage_in_between(scene: Scene) -> AsyncIterator[StorageProxy]:
    """From now until the block ends, the nodes' calls to the witness pass the proxy."""
    table = urlsplit(scene.stage.info.table_url)
    assert table.hostname is not None
    assert table.port is not None
    proxy = StorageProxy(f"http://{table.netloc}")
    runner, port = await proxy.start(table.hostname)
    nodes = f"ip saddr {{ {scene.place('a').address}, {scene.place('b').address} }}"
    storage = f"ip daddr {table.hostname} tcp dport {table.port}"
    try:
        redirect = f"{nodes} {storage} dnat to {table.hostname}:{port}"
        await scene.rules("redirected", "type nat hook prerouting priority -110", redirect)
        await scene.rules("broken", "type filter hook forward priority -20", f"{nodes} {storage} reject with tcp reset")
        yield proxy
    finally:
        await scene.rules("redirected", "")
        await scene.rules("broken", "")
        await proxy.stop(runner)
