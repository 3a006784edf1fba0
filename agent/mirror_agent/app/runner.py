"""The application of a node: started and stopped by its restart scripts, and killed for certain.

Problem: before the other node may serve, every process of the application must be dead here, daemons that forked twice
included; and the application must not outlive its supervisor.
Guarantee: `Stopped` and `Killed` are said only when no process below the runner child (see `reaper`) is left; what the
kernel does not let go of is named in `StopFailed` and `Survived`. The runner child ends with the supervisor and takes
the application with it. What an earlier runner child could not clean up (it was killed itself) is found by a mark in
the environment and killed before the next start.
Limits: work that a script hands to another service (`systemctl start …`) is not below the runner child; its `stop_prim`
must stop it, and the mirror front takes its files away in any case. A process that clears its environment *and* whose
runner child was killed by SIGKILL is not found; under systemd, the service's cgroup still holds it.
The agent's unit wants `KillMode=mixed`, so that a stop of the service reaches the supervisor and not the application.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mirror_agent.app.module import PREPARE, START_PRIM, STOP_PRIM, Module, install
from mirror_agent.app.outcomes import (
    Killed,
    KillOutcome,
    Prepared,
    PrepareFailed,
    PrepareOutcome,
    Started,
    StartFailed,
    StartOutcome,
    StopFailed,
    StopOutcome,
    Stopped,
    Survived,
)
from mirror_agent.app.process_tree import ProcessTree, ScriptExit, ScriptLost, ScriptOutcome
from mirror_agent.app.side_thread import SideThread
from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import Application, ApplicationState, NodeName
from mirror_agent.eventlog import RecordEvent
from mirror_agent.paths import NODE_PATHS, Paths, private_directory
from mirror_agent.platform import HOST
from mirror_agent.platform.application import TREES
from mirror_agent.redaction import redact_text

RUN_MARK: Final = "MIRRORPLANE_RUN"
PREPARE_TIMEOUT_S: Final = 600.0
KILL_DEADLINE_S: Final = 1.0
KEPT_LOGS: Final = 20
_SWEEP_DEADLINE_S: Final = 3.0
_POLL_S: Final = 0.01
_SAID_CHARS: Final = 300
_ON_REQUEST: Final = "killed on request"


class ApplicationRunner:
    """One application on one node. All methods belong to one event loop."""

    def __init__(
        self,
        application: Application,
        module_dir: Path,
        node: NodeName,
        log: RecordEvent,
        *,
        paths: Paths = NODE_PATHS,
        clock: Clock = BOOT_CLOCK,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        """`on_lost` is called when the runner child ends by itself: the application is gone with it."""
        self._application = application
        self._module_dir = module_dir
        self._node = node
        self._log = log
        self._log_dir = paths.log_dir
        self._clock = clock
        self._on_lost = on_lost
        self._state = ApplicationState.STOPPED
        self._module: Module | None = None
        self._tree: ProcessTree | None = None
        self._watch: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()
        self._abort = asyncio.Event()
        self._abort_reason = ""
        self._epoch = 0
        self._role = ""
        self._sweeper = SideThread("leftovers")

    @property
    def state(self) -> ApplicationState:
        return self._state

    @property
    def environment(self) -> Mapping[str, str]:
        """What scripts and custom checkers of the current run see, without the mark that makes them the application."""
        return {
            **HOST.script_environment(),
            **self._application.environment,
            "MODULE_DIR": str(self._module_dir),
            "MODULE_NODE": self._node,
            "MODULE_EPOCH": str(self._epoch),
            "MODULE_ROLE": self._role,
        }

    def processes(self) -> list[int]:
        """Living processes of the application; some milliseconds."""
        return [] if self._tree is None else self._tree.living()

    async def prepare(self) -> PrepareOutcome:
        """Write the module files and run `prepare` once per content; call it on both nodes before the first start."""
        async with self._busy:
            self._begin()
            return await self._prepare()

    async def start(self, *, epoch: int, role: str) -> StartOutcome:
        """Run `start_prim`; on failure nothing of the application is left running."""
        async with self._busy:
            if self._state not in (ApplicationState.STOPPED, ApplicationState.FAILED):
                return StartFailed(f"the application is {self._state.value}; stop it first")
            began = self._clock.now_s()
            self._begin()
            self._epoch, self._role = epoch, role
            self._state = ApplicationState.STARTING
            self._log("application.starting", epoch=epoch, role=role)
            reason = await self._try_start()
            if reason is None:
                self._state = ApplicationState.RUNNING
                duration = self._clock.now_s() - began
                self._log("application.started", epoch=epoch, role=role, duration_s=round(duration, 3))
                return Started(duration)
            survivors = self._survivors(await self._kill())
            on_request = self._abort_reason == _ON_REQUEST and not survivors
            self._state = ApplicationState.STOPPED if on_request else ApplicationState.FAILED
            self._log("application.start-failed", epoch=epoch, role=role, reason=reason, survivors=list(survivors))
            return StartFailed(reason, survivors)

    async def stop(self, *, force: bool) -> StopOutcome:
        """`stop_prim`, then SIGTERM for what it left, then SIGKILL at `stop_timeout_s`; `force` kills at once.

        A start under way is broken off by SIGKILL: half an application has no orderly stop.
        """
        if self._state is ApplicationState.STARTING or force:
            outcome = await self.kill_now()
            if isinstance(outcome, Survived):
                return StopFailed(_survived(outcome.pids), outcome.pids)
            return Stopped(graceful=outcome.count == 0, reason="killed at once" if outcome.count else "was not running")
        async with self._busy:
            if self._tree is None or self._state is not ApplicationState.RUNNING:
                return await self._killed("was not running")
            self._begin()
            self._state = ApplicationState.STOPPING
            self._log("application.stopping", epoch=self._epoch)
            deadline = self._clock.now_s() + self._application.stop_timeout_s
            said = await self._run(STOP_PRIM, self._application.stop_timeout_s)
            script_ok = isinstance(said, ScriptExit) and said.code == 0
            left = await self._wait_empty(deadline) if script_ok else self.processes()
            reason = "stop_prim returned 0" if script_ok else self._failure(STOP_PRIM, said)
            if not left:
                reason += "; no process is left"
            return await self._killed(reason, graceful=script_ok and not left)

    async def kill_now(self, *, deadline_s: float = KILL_DEADLINE_S) -> KillOutcome:
        """SIGKILL to every process of the application, whatever is under way; see `Survived`."""
        self._break_off(_ON_REQUEST)
        outcome = await self._kill(deadline_s)
        if self._state is not ApplicationState.STARTING:  # a start under way settles the state itself
            self._state = ApplicationState.STOPPED if isinstance(outcome, Killed) else ApplicationState.FAILED
        return outcome

    async def close(self) -> None:
        """Kill whatever is left and end the runner child."""
        await self.kill_now()

    def _begin(self) -> None:
        self._abort = asyncio.Event()
        self._abort_reason = ""

    def _break_off(self, reason: str) -> None:
        """Whatever is under way ends without waiting for its script."""
        self._abort_reason = reason
        self._abort.set()

    async def _prepare(self) -> PrepareOutcome:
        try:
            private_directory(self._log_dir)
            self._module = await asyncio.to_thread(install, self._application, self._module_dir)
        except OSError as error:
            return PrepareFailed(f"the module files cannot be written: {error}; free or repair {self._module_dir}")
        if self._module.is_prepared:
            return Prepared(ran=False)
        if self._application.prepare:
            self._log("application.preparing", content=self._module.content_hash[:12])
            reason = await self._launch()
            if reason is None:
                said = await self._run(PREPARE, PREPARE_TIMEOUT_S)
                reason = None if isinstance(said, ScriptExit) and said.code == 0 else self._failure(PREPARE, said)
            survivors = self._survivors(await self._kill())
            if reason is not None or survivors:
                reason = reason or f"prepare left processes that cannot be killed: {list(survivors)}"
                self._log("application.prepare-failed", reason=reason)
                return PrepareFailed(reason)
        await asyncio.to_thread(self._module.remember_prepared)
        return Prepared(ran=bool(self._application.prepare))

    async def _try_start(self) -> str | None:
        """None, or why the application did not start."""
        prepared = await self._prepare()
        if isinstance(prepared, PrepareFailed):
            return prepared.reason
        reason = await self._launch()
        if reason is not None:
            return reason
        said = await self._run(START_PRIM, self._application.start_timeout_s)
        if isinstance(said, ScriptExit) and said.code == 0:
            return self._abort_reason or None
        return self._failure(START_PRIM, said)

    async def _launch(self) -> str | None:
        """A fresh runner child, after the leftovers of an earlier one are gone; None, or why not."""
        if survivors := self._survivors(await self._kill()):
            return _survived(survivors)
        try:
            await self._sweep()
            if self._abort.is_set():
                return self._abort_reason
            tree = await TREES.launch()
        except (OSError, TimeoutError) as error:
            return f"no runner child: {error}"
        if self._abort.is_set():
            await tree.destroy()
            return self._abort_reason
        self._tree = tree
        self._watch = asyncio.create_task(self._notice_loss(tree), name="runner-child-watch")
        return None

    async def _run(self, name: str, timeout_s: float) -> ScriptOutcome | None:
        """The end of a script, or None when it took longer."""
        assert self._module is not None, "the module is installed by start and prepare"
        assert self._tree is not None
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        log = self._log_dir / f"{self._application.name}-{stamp}-{name}.log"
        _forget_old_logs(self._log_dir, self._application.name)
        environment = {**self.environment, RUN_MARK: str(self._module_dir)}
        done = self._tree.run(self._module.script(name), cwd=self._module_dir, environment=environment, log=log)
        aborted = asyncio.create_task(self._abort.wait())
        either: set[asyncio.Future[Any]] = {done, aborted}
        try:
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            aborted.cancel()
        said = done.result() if done.done() else None
        # A kill is quick: the runner child may be gone by the time this is asked, and that is not the reason.
        if self._abort.is_set() and not isinstance(said, ScriptExit):
            return ScriptLost(self._abort_reason)
        return said

    def _failure(self, name: str, said: ScriptOutcome | None) -> str:
        match said:
            case None:
                return f"{name} did not return in time"
            case ScriptLost(reason):
                return f"{name}: {reason}"
            case ScriptExit(code, tail):
                how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
                end = redact_text(tail.strip())[-_SAID_CHARS:]
                return f"{name} {how}" + (f": {end}" if end else f"; it printed nothing, see {self._log_dir}")

    async def _wait_empty(self, deadline: float) -> list[int]:
        """SIGTERM to what the stop script left; the processes that are there at the deadline."""
        tree = self._tree
        if tree is None:
            return []
        left = tree.living()
        if left and not self._abort.is_set():
            tree.ask_to_end()
        while left and self._clock.now_s() < deadline and not self._abort.is_set():
            await self._clock.sleep(_POLL_S)
            left = tree.living()
        return left

    async def _killed(self, reason: str, *, graceful: bool = True) -> StopOutcome:
        outcome = await self._kill()
        match outcome:
            case Survived(pids):
                self._state = ApplicationState.FAILED
                reason = f"{reason}; {_survived(pids)}"
                self._log("application.stop-failed", reason=reason, survivors=list(pids))
                return StopFailed(reason, pids)
            case Killed(count):
                self._state = ApplicationState.STOPPED
                graceful = graceful and count == 0
                reason += f"; {count} processes were killed" if count else ""
                self._log("application.stopped", reason=reason, graceful=graceful)
                return Stopped(graceful, reason)

    async def _kill(self, deadline_s: float = KILL_DEADLINE_S) -> KillOutcome:
        """Hold the runner child still, so that nothing new starts; kill all below it; then the child."""
        began = self._clock.now_s()
        tree = self._tree
        if tree is None:
            return Killed(0, 0.0)
        await tree.hold(self._clock)
        walk = tree.walk()
        while True:
            walk.step()
            if walk.done or self._clock.now_s() - began > deadline_s:
                break
            await self._clock.sleep(_POLL_S)
        duration = self._clock.now_s() - began
        if not walk.done:
            self._log("application.kill-incomplete", survivors=list(walk.left), duration_s=round(duration, 3))
            return Survived(walk.left, duration)
        if self._tree is tree:  # a second kill at the same time may have been faster
            self._tree = None
            if self._watch is not None:
                self._watch.cancel()
        await tree.destroy()
        if walk.killed:
            self._log("application.killed", count=len(walk.killed), duration_s=round(duration, 3))
        return Killed(len(walk.killed), duration)

    async def _notice_loss(self, tree: ProcessTree) -> None:
        await tree.gone.wait()
        if self._tree is not tree:
            return
        self._tree = None
        await tree.destroy()
        reason = "the runner child has ended by itself; every process it had is being killed"
        try:
            await self._sweep()
        except (OSError, TimeoutError) as error:
            reason += f" (not verified: {error})"
        self._break_off(reason)
        if self._state is not ApplicationState.STARTING:
            self._state = ApplicationState.FAILED
        self._log("application.runner-lost", reason=reason)
        if self._on_lost is not None:
            self._on_lost(reason)

    async def _sweep(self) -> None:
        """Kill what carries our mark but has no runner child any more; TimeoutError when some do not die."""
        deadline = self._clock.now_s() + _SWEEP_DEADLINE_S
        mark = str(self._module_dir)
        while left := await self._sweeper.call(lambda: TREES.leftovers(RUN_MARK, mark), deadline_s=_SWEEP_DEADLINE_S):
            if self._clock.now_s() > deadline:
                raise TimeoutError(f"processes of an earlier run do not die: {left}")
            self._log("application.leftovers", pids=left)
            TREES.kill(left)
            await self._clock.sleep(_POLL_S)

    @staticmethod
    def _survivors(outcome: KillOutcome) -> tuple[int, ...]:
        return outcome.pids if isinstance(outcome, Survived) else ()


def _survived(pids: tuple[int, ...]) -> str:
    return f"the kernel still holds {list(pids)} after SIGKILL; abort the file system they wait for and stop again"


def _forget_old_logs(directory: Path, name: str) -> None:
    logs = sorted(entry for entry in os.listdir(directory) if entry.startswith(f"{name}-") and ".log" in entry)
    for entry in logs[: max(0, len(logs) - KEPT_LOGS + 1)]:
        (directory / entry).unlink(missing_ok=True)
