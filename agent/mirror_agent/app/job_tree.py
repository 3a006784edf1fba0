"""`ProcessTree` on Windows: the application's processes in a job object.

Guarantee: a script is made suspended, put into the job and only then let run, so nothing of it is ever outside; what it
starts is in the job too, and may not break away. The job's only handle is this process's: when the agent ends, however,
the system ends everything in it (JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE). A kill is TerminateJobObject, of all at once;
"none left" is the job's own list, seen empty twice.
Limits: Windows has no signal that asks a process to end; `stop_prim` has to do that, and what it leaves has until the
stop's deadline. What a script hands to a service, or to the task scheduler, is not in the job.
Sources: Microsoft Learn, "Job Objects", "Nested Jobs", CREATE_SUSPENDED.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

import psutil

from mirror_agent.app.process_tree import ScriptExit, ScriptLost, ScriptOutcome
from mirror_agent.app.script_log import BoundedLog
from mirror_agent.clock import Clock
from mirror_agent.platform import HOST
from mirror_agent.platform.windows_jobs import Job

assert sys.platform == "win32"

EMPTY_WALKS: Final = 2
KILLED: Final = 137  # as a shell on Linux calls the end by SIGKILL
_CREATE_SUSPENDED: Final = 0x4
_READ_BYTES: Final = 64 * 1024
# After the script's end its last words may still be in the pipe, which what it left running keeps open.
_LAST_WORDS_S: Final = 0.2
_NOT_OURS_TO_SEE: Final = (psutil.NoSuchProcess, psutil.AccessDenied, OSError)


class JobWalk:
    """`Walk`."""

    def __init__(self, tree: JobTree) -> None:
        self._tree = tree
        self._empty = 0
        self.killed: set[int] = set()
        self.left: tuple[int, ...] = ()

    @property
    def done(self) -> bool:
        return self._empty >= EMPTY_WALKS

    def step(self) -> None:
        living = self._tree.living()
        self._empty = 0 if living else self._empty + 1
        self.left = tuple(living)
        if living:
            self._tree.terminate()
            self.killed.update(living)


class JobTree:
    def __init__(self) -> None:
        """Raises OSError."""
        self.gone = asyncio.Event()  # a job does not end before its handle is closed
        self._loop = asyncio.get_running_loop()
        self._turn = threading.Lock()
        self._held = False
        self._job: Job | None = Job()

    def run(
        self, script: Path, *, cwd: Path, environment: Mapping[str, str], log: Path
    ) -> asyncio.Future[ScriptOutcome]:
        outcome: asyncio.Future[ScriptOutcome] = self._loop.create_future()

        def tell(said: ScriptOutcome) -> None:
            if not outcome.done():
                outcome.set_result(said)

        def body() -> None:
            said = self._carry_out(script, cwd, environment, log)
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the application with it
                self._loop.call_soon_threadsafe(tell, said)

        threading.Thread(target=body, name=f"script-{script.stem}", daemon=True).start()
        return outcome

    def living(self) -> list[int]:
        return [] if self._job is None else self._job.living()

    def ask_to_end(self) -> None:
        """There is no such word on Windows: `stop_prim` has asked."""

    async def hold(self, clock: Clock) -> None:
        with self._turn:  # held for two short calls of the system at most
            self._held = True

    def walk(self) -> JobWalk:
        return JobWalk(self)

    def terminate(self) -> None:
        if self._job is not None:
            self._job.terminate(KILLED)

    async def destroy(self) -> None:
        with self._turn:
            self._held = True
            job, self._job = self._job, None
        if job is not None:
            job.close()

    # -- in the script's thread -----------------------------------------------------------------------------------

    def _carry_out(self, script: Path, cwd: Path, environment: Mapping[str, str], log: Path) -> ScriptOutcome:
        kept: BoundedLog | None = None
        try:
            kept = BoundedLog(log)
            process = self._spawn(script, cwd, environment)
        except OSError as error:
            if kept is not None:
                kept.close()
            return ScriptLost(f"{error.strerror}: {error.filename or script}")
        assert process.stdout is not None
        copying = threading.Thread(target=_copy, args=(process.stdout, kept), name=f"output-{script.stem}", daemon=True)
        copying.start()
        code = process.wait()
        copying.join(_LAST_WORDS_S)
        return ScriptExit(code, kept.tail.decode(errors="replace"))

    def _spawn(self, script: Path, cwd: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Running, in the job. Raises OSError."""
        process = subprocess.Popen(
            HOST.script(script),
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            creationflags=_CREATE_SUSPENDED | subprocess.CREATE_NO_WINDOW,
        )
        try:
            with self._turn:
                if self._held or self._job is None:
                    raise OSError(None, "the application is being killed", str(script))
                self._job.put(process.pid)
                psutil.Process(process.pid).resume()
        except BaseException as error:
            process.kill()  # it has not run a single instruction
            process.wait()
            if isinstance(error, psutil.Error):
                raise OSError(None, str(error), str(script)) from None
            raise
        return process


def _copy(pipe: IO[bytes], log: BoundedLog) -> None:
    """Until nobody has the other end any more."""
    assert hasattr(pipe, "read1")
    with pipe:
        while data := pipe.read1(_READ_BYTES):
            log.write(data)
    log.close()


class JobTrees:
    """`ProcessTrees` on Windows."""

    async def launch(self) -> JobTree:
        return JobTree()

    def leftovers(self, variable: str, value: str) -> list[int]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(*_NOT_OURS_TO_SEE):
                if process.environ().get(variable) == value:
                    found.append(process.pid)
        return found

    def kill(self, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(*_NOT_OURS_TO_SEE):
                psutil.Process(pid).kill()
