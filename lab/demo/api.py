"""The demo's client of the control plane: plain HTTP as any team would use it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any, Final, Self

import aiohttp

API_VERSION: Final = "2026-11-01"
POLL_S: Final = 0.5
AWAY_S: Final = 60.0  # how long the control plane may be away before the demo gives up


class DemoFailed(RuntimeError):
    """The story did not go as it must; the message says where."""


class ControlPlane:
    def __init__(self, url: str, token: str, ca: str) -> None:
        self.url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._tls = ssl.create_default_context(cafile=ca)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=30)
        connector = aiohttp.TCPConnector(ssl=self._tls)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout, connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any], dict[str, str]]:
        """(status, document, headers); DemoFailed with the API's own error on 4xx and 5xx."""
        limit = time.monotonic() + AWAY_S
        while True:
            try:
                return await self._once(method, path, body)
            except (aiohttp.ClientConnectionError, TimeoutError) as error:
                # Every call of the demo may be repeated: PUT and DELETE by design, the swap only when it never arrived.
                if time.monotonic() > limit or method == "POST":
                    raise DemoFailed(f"{method} {path}: the control plane does not answer: {error}") from error
                await asyncio.sleep(POLL_S)

    async def _once(self, method: str, path: str, body: object) -> tuple[int, dict[str, Any], dict[str, str]]:
        url = f"{self.url}/api{path}{'&' if '?' in path else '?'}api-version={API_VERSION}"
        async with self._session.request(method, url, json=body) as answer:
            document = await answer.json() if answer.content_type == "application/json" else {}
            if answer.status >= 400:
                raise DemoFailed(f"{method} {path} answered {answer.status}: {document.get('error', document)}")
            return answer.status, document, dict(answer.headers)

    async def cluster(self, name: str) -> dict[str, Any]:
        _, document, _ = await self.call("GET", f"/clusters/{name}")
        return document

    async def wait_operation(
        self, headers: dict[str, str], *, deadline_s: float, show: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """Follow Operation-Location until the operation has succeeded."""
        operation = next(value for name, value in headers.items() if name.lower() == "operation-id")
        limit = time.monotonic() + deadline_s
        while True:
            _, document, _ = await self.call("GET", f"/operations/{operation}")
            show(document)
            match document["status"]:
                case "Succeeded":
                    return document
                case "Failed" | "Canceled":
                    raise DemoFailed(f"the operation ended {document['status']}: {document.get('error')}")
            if time.monotonic() > limit:
                raise DemoFailed(f"the operation is not done after {deadline_s:.0f} s: {document}")
            await asyncio.sleep(POLL_S)
