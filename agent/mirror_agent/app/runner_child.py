"""The supervisor's end of the runner child: start it, run scripts in it, learn that it is gone.

The child itself is `reaper`: every process of the application lives below it. One child serves one life of the
application; after a kill a new one is made, so nothing that was under way in the old one can come later.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mirror_agent.app.process_tree import ScriptExit, ScriptLost, ScriptOutcome
from mirror_agent.app.processes import KillWalk, living_descendants, read_stat, signal_all, tagged_processes
from mirror_agent.clock import Clock
from mirror_agent.platform import HOST

_PACKAGE_ROOT: Final = Path(__file__).resolve().parents[2]
_MAIN: Final = "import sys; sys.path.insert(0, sys.argv[1]); from mirror_agent.app.reaper import main; main()"
_FRAME_BYTES: Final = 64 * 1024
_HOLD_STEP_S: Final = 0.002


class RunnerChild:
    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._next = 1
        self._waiting: dict[int, asyncio.Future[ScriptOutcome]] = {}
        self._sending = asyncio.Lock()
        self.gone = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def launch(cls) -> RunnerChild:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-c",
                _MAIN,
                str(_PACKAGE_ROOT),
                str(theirs.fileno()),
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        child = cls(process, ours)
        child._reading = asyncio.create_task(child._read(), name="runner-child")
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(
        self, script: Path, *, cwd: Path, environment: Mapping[str, str], log: Path
    ) -> asyncio.Future[ScriptOutcome]:
        """Start `/bin/sh -eu script`; the future tells how it ended. What it leaves running stays below the child."""
        outcome: asyncio.Future[ScriptOutcome] = asyncio.get_running_loop().create_future()
        if self.gone.is_set():
            outcome.set_result(ScriptLost("the runner child has ended"))
            return outcome
        number, self._next = self._next, self._next + 1
        frame = {
            "op": "run",
            "id": number,
            "argv": list(HOST.script(script)),
            "cwd": str(cwd),
            "env": dict(environment),
            "log": str(log),
        }
        self._waiting[number] = outcome
        sending = asyncio.create_task(self._send(number, json.dumps(frame).encode() + b"\n"))
        outcome.add_done_callback(lambda _: sending.cancel() if not sending.done() else None)
        return outcome

    def living(self) -> list[int]:
        """Below the child; reads /proc, some milliseconds."""
        return [stat.pid for stat in living_descendants(self.pid)]

    def ask_to_end(self) -> None:
        signal_all(living_descendants(self.pid), signal.SIGTERM)

    async def hold(self, clock: Clock) -> None:
        """SIGSTOP, and see it stopped; an undying child (already dead, or in the kernel) is walked all the same."""
        stat = read_stat(self.pid)
        if stat is None or not signal_all([stat], signal.SIGSTOP):
            return
        for _ in range(5):
            now = read_stat(self.pid)
            if now is None or now.state in ("T", "t", "Z", "X"):
                return
            await clock.sleep(_HOLD_STEP_S)

    def walk(self) -> KillWalk:
        return KillWalk(self.pid)

    async def end(self) -> None:
        """Close the line: the child kills what is left below it and ends. Wait for that."""
        with contextlib.suppress(OSError):  # the child has already ended and the line with it
            self._control.shutdown(socket.SHUT_WR)
        await self._process.wait()
        await self._finish()

    async def destroy(self) -> None:
        """SIGKILL to the child itself; only when nothing is left below it."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        await self._finish()

    async def _send(self, number: int, data: bytes) -> None:
        try:
            async with self._sending:
                await asyncio.get_running_loop().sock_sendall(self._control, data)
        except OSError as error:
            self._settle(number, ScriptLost(f"the runner child does not listen: {error.strerror}"))

    async def _read(self) -> None:
        received = b""
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self._control, _FRAME_BYTES):
                *lines, received = (received + data).split(b"\n")
                for line in lines:
                    self._event(json.loads(line))
        except OSError:
            return  # the line is closed: by us, or by the end of the child
        finally:
            self._lose_all()

    def _event(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "exited":
                self._settle(event["id"], ScriptExit(event["code"], event["tail"]))
            case "failed":
                self._settle(event["id"], ScriptLost(event["error"]))
            case "spawned":
                return

    def _settle(self, number: int, outcome: ScriptOutcome) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)

    def _lose_all(self) -> None:
        self.gone.set()
        for number in tuple(self._waiting):
            self._settle(number, ScriptLost("the runner child has ended"))

    async def _finish(self) -> None:
        if self._reading is not None:
            await self._reading  # ends by itself: the child's end of the line is closed
        self._control.close()


class RunnerChildren:
    """`ProcessTrees` on Linux."""

    async def launch(self) -> RunnerChild:
        return await RunnerChild.launch()

    def leftovers(self, variable: str, value: str) -> list[int]:
        return [stat.pid for stat in tagged_processes(variable, value)]

    def kill(self, pids: list[int]) -> None:
        signal_all([stat for stat in map(read_stat, pids) if stat is not None], signal.SIGKILL)
