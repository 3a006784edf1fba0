"""Supervise one unit: start, watch, restart, stop, with systemd's words for the states.

Follows systemd.service(5): after the main process ends, what is left in the control group is killed (KillMode
control-group or mixed) before a restart; Restart= decides by exit status; more than StartLimitBurst starts within
StartLimitIntervalSec end in `failed` with result `start-limit-hit`. Not done: dependencies, ordering, sandboxing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from lab.vm.guest import fstab
from lab.vm.guest.life_signs import LifeSigns
from lab.vm.guest.processes import ControlGroup, Launch, Reaper, send_signal
from lab.vm.guest.unitfile import Command, Unit, UnitError, expand_variables

LOG_DIRECTORY = Path("/var/log")
BASE_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
CLEAN_SIGNALS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE})
FINAL_KILL_TIMEOUT_S = 10.0


class Service:
    """`start` and `stop` return when the unit has got there; `result` says why it failed."""

    def __init__(self, unit: Unit, reaper: Reaper, say: Callable[[str], None]) -> None:
        self.unit = unit
        self.state = "inactive"
        self.result = "success"
        self.main_pid = 0
        self._exit_status: int | None = None
        self._reaper = reaper
        self._say = say
        self._group = ControlGroup(unit.name)
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._stopping = False
        self._starts: deque[float] = deque()
        self._signs = LifeSigns(unit, lambda: self.main_pid)

    # --- orders ------------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Raises `UnitError` when the unit ends up failed instead of active."""
        if self._task is None or self._task.done():
            self._stopping = False
            self._settled.clear()
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self.unit.name)
        await self._settled.wait()
        if self.state == "failed":
            raise UnitError(f"Job for {self.unit.name} failed: {self.result}; see {self.log}")

    async def stop(self) -> None:
        self._stopping = True
        task = self._task
        if task is None or task.done():
            if self.state == "failed":
                self.state = "inactive"
            return
        if self.state == "auto-restart":
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.state = "inactive"
            return
        self.state = "deactivating"
        began = asyncio.get_running_loop().time()
        for command in self.unit.stop:
            await self._helper(command, self.unit.timeout_stop_s)
        self._ask_to_end()
        if not await self._ended_by(task, began + self.unit.timeout_stop_s):
            waited_s = asyncio.get_running_loop().time() - began
            self._say(f"{self.unit.name}: stop timed out after {waited_s:.0f} s, killing")
            self._kill_all()
            await asyncio.wait({task}, timeout=FINAL_KILL_TIMEOUT_S)

    async def _ended_by(self, task: asyncio.Task[None], end: float) -> bool:
        """Whether the service ended by `end` (the loop's time), or by the later time it asked for meanwhile."""
        while (remaining := self._signs.stop_until(end) - asyncio.get_running_loop().time()) > 0:
            done, _ = await asyncio.wait({task}, timeout=None if remaining == float("inf") else remaining)
            if done:
                return True
        return task.done()

    @property
    def log(self) -> Path:
        return LOG_DIRECTORY / f"{self.unit.name.removesuffix('.service')}.log"

    # --- life --------------------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while True:
            now = asyncio.get_running_loop().time()
            if self._too_many_starts(now):
                self._settle("failed", "start-limit-hit")
                return
            self.state, self.result, self._exit_status = "activating", "success", None
            try:
                failed = await self._one_life()
            except (OSError, UnitError) as error:
                self._say(f"{self.unit.name}: {error}")
                failed, self.result = True, f"resources ({error})"
            if self._stopping or not self._restart_wanted(failed):
                stays = self.unit.remain_after_exit and not failed and not self._stopping
                self._settle(
                    "active" if stays else "failed" if failed and not self._stopping else "inactive", self.result
                )
                return
            self.state = "auto-restart"
            self._settled.set()
            self._say(f"{self.unit.name}: {self.result}; restart in {self.unit.restart_s:g} s")
            await asyncio.sleep(self.unit.restart_s)

    def _settle(self, state: str, result: str) -> None:
        self.state, self.result = state, result
        self._settled.set()
        if state == "failed":
            self._say(f"{self.unit.name}: failed with result {result!r}")

    def _too_many_starts(self, now: float) -> bool:
        interval = self.unit.start_limit_interval_s
        if interval <= 0 or self.unit.start_limit_burst <= 0:
            return False
        while self._starts and now - self._starts[0] > interval:
            self._starts.popleft()
        if len(self._starts) >= self.unit.start_limit_burst:
            return True
        self._starts.append(now)
        return False

    async def _one_life(self) -> bool:
        """From the first command to the last process gone; True if it failed."""
        self._group.create()
        environment = self._environment()
        for path in self.unit.requires_mounts:
            absent = fstab.unmounted_for(path)
            if absent is not None:
                self.result = f"dependency ({absent} is not mounted)"
                return True
        self._make_directories()
        for command in self.unit.start_before:
            if not await self._helper(command, self.unit.timeout_start_s) and not command.ignore_failure:
                self.result = "exit-code"
                return True
        self._signs = LifeSigns(self.unit, lambda: self.main_pid)
        environment |= self._signs.open()
        failed = False
        try:
            for command in self.unit.start:
                failed = await self._main_process(command, environment)
                if failed and not command.ignore_failure:
                    break
        finally:
            self.main_pid = 0
            self._signs.close()
        if self.unit.kill_mode in {"control-group", "mixed"} and self._group.populated:
            self._group.signal(signal.SIGTERM if self.unit.kill_mode == "control-group" else signal.SIGKILL)
            if not await self._group.wait_empty(self.unit.timeout_stop_s):
                self._kill_all()
                await self._group.wait_empty(FINAL_KILL_TIMEOUT_S)
        for command in self.unit.stop_after:
            await self._helper(command, self.unit.timeout_stop_s)
        for name in self.unit.runtime_directories:
            shutil.rmtree(f"/run/{name}", ignore_errors=True)
        return failed and not self._stopping

    def _make_directories(self) -> None:
        owner, group = self.unit.user, self.unit.group or None
        for name in self.unit.runtime_directories:
            path = Path("/run") / name
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(self.unit.runtime_directory_mode)
            shutil.chown(path, owner, group)
        for name in self.unit.state_directories:
            path = Path("/var/lib") / name
            path.mkdir(parents=True, exist_ok=True)
            shutil.chown(path, owner, group)

    async def _main_process(self, command: Command, environment: Mapping[str, str]) -> bool:
        self.main_pid, exited = self._reaper.launch(self._launch(command, environment))
        watching: asyncio.Task[None] | None = None
        match self.unit.kind:
            case "notify":
                if not await self._await_ready(exited):
                    self.result = "timeout"
                    self._kill_all()
            case "oneshot":
                pass
            case _:
                self._now_active()
        if self.unit.kind == "notify" and self._signs.ready.is_set():
            self._now_active()
        if self.state == "active" and self.unit.watchdog_s > 0:
            watching = asyncio.get_running_loop().create_task(self._watchdog(self.main_pid))
        if self.state == "active":
            for after in self.unit.start_after:
                await self._helper(after, self.unit.timeout_start_s)
        status = await exited
        if watching is not None:
            watching.cancel()
        return self._judge(status)

    def _now_active(self) -> None:
        if not self._stopping:
            self.state = "active"
        self._settled.set()

    def _judge(self, status: int) -> bool:
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number in CLEAN_SIGNALS and self.result == "success":
                return False
            if self.result == "success":
                self.result = f"signal ({signal.Signals(number).name})"
            return True
        code = os.WEXITSTATUS(status)
        if code in self.unit.success_statuses and self.result == "success":
            return False
        if self.result == "success":
            self.result, self._exit_status = f"exit-code ({code})", code
        return True

    def _restart_wanted(self, failed: bool) -> bool:
        if failed and self._exit_status in self.unit.restart_prevent_statuses:
            return False
        match self.unit.restart:
            case "always":
                return True
            case "on-failure":
                return failed
            case "on-success":
                return not failed
            case "on-abnormal" | "on-abort":
                return failed and not self.result.startswith("exit-code")
            case _:
                return False

    # --- helpers of a life -------------------------------------------------------------------------------------------
    def _environment(self) -> dict[str, str]:
        environment = {**BASE_ENVIRONMENT, **self.unit.environment}
        for line in self.unit.environment_files:
            optional, path = line.startswith("-"), Path(line.removeprefix("-"))
            if optional and not path.exists():
                continue
            for row in path.read_text().splitlines():
                name, equals, value = row.strip().partition("=")
                if equals and not name.startswith("#"):
                    environment[name] = value.strip().strip("\"'")
        if self.unit.user == "root":
            environment.setdefault("HOME", "/root")
        environment["USER"] = environment["LOGNAME"] = self.unit.user
        return environment

    def _launch(self, command: Command, environment: Mapping[str, str]) -> Launch:
        unit = self.unit
        return Launch(
            argv=expand_variables(command.argv, environment),
            environment=environment,
            log=self.log,
            cgroup=self._group.path,
            cwd=unit.working_directory.removeprefix("-"),
            user=unit.user,
            group=unit.group,
            umask=unit.umask,
            limits=unit.limits,
            oom_score_adjust=unit.oom_score_adjust,
            nice=unit.nice,
        )

    async def _helper(self, command: Command, timeout_s: float) -> bool:
        environment = {**self._environment(), "MAINPID": str(self.main_pid)}
        pid, exited = self._reaper.launch(self._launch(command, environment))
        try:
            status = await asyncio.wait_for(exited, None if timeout_s == float("inf") else timeout_s)
        except TimeoutError:
            send_signal(pid, signal.SIGKILL)
            self._say(f"{self.unit.name}: {command.argv[0]} killed after {timeout_s:g} s")
            return False
        return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0

    def _ask_to_end(self) -> None:
        number = getattr(signal, self.unit.kill_signal)
        if self.unit.kill_mode == "control-group":
            self._group.signal(number)
        elif self.main_pid and self.unit.kill_mode != "none":
            send_signal(self.main_pid, number)

    def _kill_all(self) -> None:
        if self.unit.kill_mode in {"control-group", "mixed"}:
            self._group.kill()
        elif self.main_pid:
            send_signal(self.main_pid, signal.SIGKILL)

    # --- sd_notify(3), WatchdogSec= -----------------------------------------------------------------------------------
    async def _await_ready(self, exited: asyncio.Future[int]) -> bool:
        ready = asyncio.get_running_loop().create_task(self._signs.ready.wait())
        timeout = None if self.unit.timeout_start_s == float("inf") else self.unit.timeout_start_s
        exited.add_done_callback(lambda _: ready.cancel())
        await asyncio.wait({ready}, timeout=timeout)
        ready.cancel()
        return self._signs.ready.is_set() or exited.done()

    async def _watchdog(self, pid: int) -> None:
        """SIGABRT to a main process that hangs, after TimeoutStopSec= SIGKILL; a stop has a time-out of its own."""
        await self._signs.expired()
        if self._stopping:
            return
        self.result = "watchdog"
        self._say(f"{self.unit.name}: watchdog timeout, aborting process {pid}")
        # One that is stopped takes no signal but SIGKILL before it is continued; systemd does the same.
        for number in (signal.SIGABRT, signal.SIGCONT):
            send_signal(pid, number)
        await asyncio.sleep(self.unit.timeout_stop_s)
        self._kill_all()
