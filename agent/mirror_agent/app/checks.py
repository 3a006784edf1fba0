"""The tests behind the checkers, one for each kind: healthy or not, with one sentence (`check_*` hold the longer ones).

They look only at this node: the loopback, /proc, and a command in the module directory. A test that cannot be made in
its time has failed; nothing here raises for a sick application.
Limits: a `custom` command that hangs in the kernel is left behind after SIGKILL, and while it is there the checker
fails without starting another one.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Collection
from typing import Final

import aiohttp

from mirror_agent.app.check_disk import DiskCheck
from mirror_agent.app.check_ping import PingCheck
from mirror_agent.app.finding import Check, Finding, Surroundings
from mirror_agent.app.side_thread import SideThread
from mirror_agent.contract import MAX_SENTENCE_CHARS, Checker, CheckerKind
from mirror_agent.platform import HOST, PROCESSES
from mirror_agent.platform.application import UnitCheck
from mirror_agent.redaction import redact_text

LOOPBACKS: Final = ("127.0.0.1", "::1")
_SAID_CHARS: Final = 200
_KILL_GRACE_S: Final = 1.0
_MAX_OUTPUT_BYTES: Final = 64 * 1024


def make_check(checker: Checker, surroundings: Surroundings) -> Check:
    """The test of a checker; the contract has already refused one that lacks its fields."""
    match checker.kind:
        case CheckerKind.PROCESS if checker.unit is not None:
            return UnitCheck(checker)
        case CheckerKind.PROCESS:
            return ProcessCheck(checker, surroundings)
        case CheckerKind.TCP:
            return TcpCheck(checker)
        case CheckerKind.HTTP:
            return HttpCheck(checker)
        case CheckerKind.CUSTOM:
            return CustomCheck(checker, surroundings)
        case CheckerKind.DISK:
            return DiskCheck(checker)
        case CheckerKind.PING:
            return PingCheck(checker)


class ProcessCheck:
    """Counts processes by command line, system-wide as SafeKit does, but never the agent's own."""

    def __init__(self, checker: Checker, surroundings: Surroundings) -> None:
        assert checker.match is not None
        self._checker = checker
        self._pattern = re.compile(checker.match)
        self._surroundings = surroundings
        self._thread = SideThread(f"checker-{checker.name}")

    async def __call__(self) -> Finding:
        checker = self._checker
        try:
            found = await self._thread.call(self._scan, deadline_s=checker.timeout_s)
        except TimeoutError as error:
            return Finding(False, f"/proc did not answer in {checker.timeout_s:g} s {error}".rstrip())
        count = len(found)
        if count < checker.at_least:
            return Finding(
                False, f"{count} processes match {checker.match!r}, at least {checker.at_least} needed", found
            )
        if checker.at_most is not None and count > checker.at_most:
            return Finding(
                False, f"{count} processes match {checker.match!r}, at most {checker.at_most} allowed", found
            )
        return Finding(True, f"{count} processes match", found)

    def _scan(self) -> tuple[int, ...]:
        own = agent_processes(os.getpid(), self._surroundings.application_processes())
        found = []
        for pid in PROCESSES.living():
            if pid not in own and self._pattern.search(PROCESSES.command_line(pid)):
                found.append(pid)
        return tuple(found)


def agent_processes(agent: int, application: Collection[int]) -> set[int]:
    """The agent with everything below it (engine, runner child, custom checkers), without the application."""
    return {agent, *PROCESSES.below(agent)} - set(application)


class TcpCheck:
    """A connection to the port on the loopback, IPv4 first."""

    def __init__(self, checker: Checker) -> None:
        self._port = checker.port
        self._timeout_s = checker.timeout_s

    async def __call__(self) -> Finding:
        said = ""
        try:
            async with asyncio.timeout(self._timeout_s):
                for address in LOOPBACKS:
                    try:
                        _, writer = await asyncio.open_connection(address, self._port)
                    except OSError as error:
                        said = said or (error.strerror or str(error))
                        continue
                    writer.transport.abort()
                    return Finding(True, f"port {self._port} accepts connections")
        except TimeoutError:
            said = f"no answer in {self._timeout_s:g} s"
        return Finding(False, f"port {self._port}: {said}")


class HttpCheck:
    """GET on the loopback; only 2xx is healthy, a redirect is not followed."""

    def __init__(self, checker: Checker) -> None:
        path = checker.path or "/"
        self._url = f"http://127.0.0.1:{checker.port}{path if path.startswith('/') else '/' + path}"
        self._timeout = aiohttp.ClientTimeout(total=checker.timeout_s)

    async def __call__(self) -> Finding:
        try:
            async with aiohttp.ClientSession(timeout=self._timeout) as session:
                async with session.get(self._url, allow_redirects=False) as answer:
                    healthy = 200 <= answer.status < 300
                    return Finding(healthy, f"GET {self._url} answered {answer.status}")
        except TimeoutError:
            return Finding(False, f"GET {self._url}: no answer in {self._timeout.total:g} s")
        except (aiohttp.ClientError, ValueError) as error:
            return Finding(False, f"GET {self._url}: {error}")


class CustomCheck:
    """A command of the configuration, run by the shell in the module directory; exit 0 is healthy."""

    def __init__(self, checker: Checker, surroundings: Surroundings) -> None:
        assert checker.command is not None
        self._command = checker.command
        self._timeout_s = checker.timeout_s
        self._surroundings = surroundings
        self._hanging: asyncio.subprocess.Process | None = None

    async def __call__(self) -> Finding:
        if self._hanging is not None:
            if self._hanging.returncode is None:
                return Finding(False, f"an earlier run hangs in the kernel (pid {self._hanging.pid})")
            self._hanging = None
        try:
            process = await asyncio.create_subprocess_exec(
                *HOST.shell(self._command),
                cwd=self._surroundings.module_dir,
                env=dict(self._surroundings.environment()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                limit=_MAX_OUTPUT_BYTES,
            )
        except OSError as error:
            return Finding(False, f"the command cannot run: {error.strerror}: {error.filename}")
        try:
            async with asyncio.timeout(self._timeout_s):
                said = await _read_some(process)
                code = await process.wait()
        except TimeoutError:
            return Finding(False, f"the command took longer than {self._timeout_s:g} s")
        finally:
            await self._end(process)
        end = redact_text(said.decode(errors="replace").strip())[-_SAID_CHARS:]
        message = f"exit {code}" + (f": {end}" if end else "")
        return Finding(code == 0, message[:MAX_SENTENCE_CHARS])

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Nothing of the command stays, not what it put into the background either."""
        if process.returncode is None:
            PROCESSES.kill_below(process.pid)
        PROCESSES.kill_session(process.pid)
        try:
            async with asyncio.timeout(_KILL_GRACE_S):
                await process.wait()
        except TimeoutError:
            self._hanging = process


async def _read_some(process: asyncio.subprocess.Process) -> bytes:
    """The end of the output; the rest is read and dropped so that the command never waits for us."""
    assert process.stdout is not None
    said = b""
    while data := await process.stdout.read(_MAX_OUTPUT_BYTES):
        said = (said + data)[-4 * _SAID_CHARS :]
    return said
