"""The Functions host as a child process: started with the app settings, watched, started again when it dies.

As on Azure, the app has one address for its life: the port is chosen once, so that a restart keeps the URL. A host that
dies is started again after a pause that grows to `MAX_PAUSE_S`; each restart is logged with the exit status.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import aiohttp

from lab.authority import ServerCertificate
from lab.children import start_child, stop_child
from lab.paths import REPOSITORY
from lab.ports import free_port

START_TIMEOUT_S: Final = 60.0
STOP_GRACE_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.5
MAX_PAUSE_S: Final = 10.0
STEADY_S: Final = 30.0  # a host that lived so long starts again without a longer pause
POLL_S: Final = 0.1
HEALTH_PATH: Final = "/api/health"
logger = logging.getLogger(__name__)


class FunctionsHostFailed(RuntimeError):
    """The Functions host did not come up; the message holds the end of its log."""


class FunctionsChild:
    def __init__(
        self,
        *,
        address: str,
        certificate: ServerCertificate,
        authority: Path,
        state: Path,
        log: Path,
        also: Callable[[], None] | None = None,
    ) -> None:
        self.address = address
        self.port = free_port(address)
        self.keys = state / "keys.json"
        self._certificate = certificate
        self._trust = ssl.create_default_context(cafile=str(authority))
        self._state = state
        self._log = log
        self._also = also
        self._settings: Mapping[str, str] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._wanted = False
        self._launched = asyncio.Event()

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.port}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def start(self, settings: Mapping[str, str]) -> None:
        """Returns when the app answers. Raises `FunctionsHostFailed`."""
        self._settings, self._wanted = settings, True
        self._state.mkdir(parents=True, exist_ok=True)
        process = await self._launch()
        try:
            await self._answering(process)
        except FunctionsHostFailed:
            await self.stop()
            raise
        self._watch = asyncio.create_task(self._keep_running(process), name="functions host")

    async def _launch(self) -> asyncio.subprocess.Process:
        argv = [sys.executable, "-m", "lab.functions_host", "--app", str(REPOSITORY)]
        argv += ["--host", self.address, "--port", str(self.port), "--state", str(self._state)]
        argv += ["--tls-cert", str(self._certificate.certificate), "--tls-key", str(self._certificate.key)]
        base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        path = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "agent")))
        environment = {**base, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **self._settings}
        self._process = await start_child(argv, log=self._log, env=environment, cwd=REPOSITORY, also=self._also)
        self._launched.set()
        return self._process

    async def _answering(self, process: asyncio.subprocess.Process) -> None:
        end = asyncio.get_running_loop().time() + START_TIMEOUT_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                if process.returncode is not None or asyncio.get_running_loop().time() >= end:
                    ended = f"ended with {process.returncode}" if process.returncode is not None else "does not answer"
                    raise FunctionsHostFailed(f"the Functions host {ended}; its log ends with: {self._tail()}")
                try:
                    async with session.get(f"{self.url}{HEALTH_PATH}", ssl=self._trust) as answer:
                        if answer.status == 200:
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass  # not listening yet
                await asyncio.sleep(POLL_S)

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else "(empty)"

    async def _keep_running(self, process: asyncio.subprocess.Process) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            started = asyncio.get_running_loop().time()
            code = await process.wait()
            if not self._wanted:
                return
            lived_s = asyncio.get_running_loop().time() - started
            pause_s = FIRST_PAUSE_S if lived_s >= STEADY_S else min(pause_s * 2, MAX_PAUSE_S)
            logger.warning("functions host ended with %s after %.1f s; again in %.1f s", code, lived_s, pause_s)
            await asyncio.sleep(pause_s)
            process = await self._launch()

    async def restart(self, *, kill: bool) -> None:
        """End it (SIGKILL with `kill`) and return when its successor answers."""
        old = self._process
        self._launched.clear()
        if old is not None and old.returncode is None:
            old.kill() if kill else old.terminate()
            await old.wait()
        await self._launched.wait()
        assert self._process is not None
        await self._answering(self._process)

    async def stop(self) -> None:
        self._wanted = False
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        if self._process is not None:
            await stop_child(self._process, grace_s=STOP_GRACE_S)
