"""Run Azurite: Table, Queue and Blob storage on free ports of one address.

Guarantee: when `start` returns, all three services accept connections; when `stop` returns, the process is gone; if
this process dies, Azurite dies with it. Limits: rows live in memory and end with the process (Azurite's disk mode
writes about every 5 s and loses the rest, so it proves nothing about durability). How Azurite differs from Azure
Storage: docs/lab.md.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lab.azurite.install import ensure_azurite
from lab.children import start_child, stop_child
from lab.ports import free_port, wait_for_listener

ACCOUNT: Final = "devstoreaccount1"
# Azurite's published development key; it guards nothing and is the same everywhere.
KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
START_TIMEOUT_S: Final = 30.0
STOP_GRACE_S: Final = 3.0
START_ATTEMPTS: Final = 3
# Longer than a client keeps an idle connection (aiohttp: 15 s). With Azurite's own 5 s a request may meet a connection
# that is just being closed, and one that may not be sent twice fails.
KEEP_ALIVE_S: Final = 60


class AzuriteFailed(RuntimeError):
    """Azurite ended or did not listen; the message holds the end of its output."""


class Azurite:
    """One Azurite process. `async with Azurite() as storage: storage.connection_string`."""

    def __init__(
        self, host: str = "127.0.0.1", *, directory: Path | None = None, also: Callable[[], None] | None = None
    ) -> None:
        """`directory` receives azurite.log, by default the output is kept nowhere; `also` runs before Node starts."""
        self._also = also
        self.host = host
        self.blob_port = self.queue_port = self.table_port = 0
        self._log = None if directory is None else directory / "azurite.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def table_endpoint(self) -> str:
        return f"http://{self.host}:{self.table_port}/{ACCOUNT}"

    @property
    def queue_endpoint(self) -> str:
        return f"http://{self.host}:{self.queue_port}/{ACCOUNT}"

    @property
    def blob_endpoint(self) -> str:
        return f"http://{self.host}:{self.blob_port}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={self.blob_endpoint};QueueEndpoint={self.queue_endpoint};TableEndpoint={self.table_endpoint};"
        )

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Install if needed, start, wait until all services listen. Raises `AzuriteMissing` or `AzuriteFailed`."""
        if self._process is not None:
            raise AzuriteFailed(f"Azurite already runs as process {self._process.pid}")
        modules = await asyncio.to_thread(ensure_azurite)
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                await self._start_once(modules)
            except (ConnectionError, TimeoutError) as error:
                await self.stop()
                if attempt == START_ATTEMPTS:
                    raise AzuriteFailed(f"{error}; its output ends with: {self._tail()}") from error
            else:
                return

    async def _start_once(self, modules: Path) -> None:
        self.blob_port, self.queue_port, self.table_port = (free_port(self.host) for _ in range(3))
        argv = ["node", str(modules / "node_modules/azurite/dist/src/azurite.js")]
        for service, port in (("blob", self.blob_port), ("queue", self.queue_port), ("table", self.table_port)):
            argv += [f"--{service}Host", self.host, f"--{service}Port", str(port)]
            argv += [f"--{service}KeepAliveTimeout", str(KEEP_ALIVE_S)]
        argv += ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]
        environment = {**os.environ, "NO_UPDATE_NOTIFIER": "1"}
        process = await start_child(argv, log=self._log, env=environment, cwd=modules, also=self._also)
        self._process = process

        def broken() -> str | None:
            return None if process.returncode is None else f"Azurite ended with {process.returncode}"

        for port in (self.blob_port, self.queue_port, self.table_port):
            await wait_for_listener(self.host, port, deadline_s=START_TIMEOUT_S, broken=broken)

    def _tail(self) -> str:
        if self._log is None or not self._log.exists():
            return "(not kept)"
        return self._log.read_text(errors="replace")[-2000:]

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await stop_child(process, grace_s=STOP_GRACE_S)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
