"""Start processes in control groups and reap every child, as PID 1 must.

PID 1 inherits orphans, so it waits for *any* child and hands the status to whoever asked for that pid; the rest is
dropped. Single thread: a pid is registered before the event loop can reap it.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import resource
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
EXEC_FAILED = 203  # systemd's EXIT_EXEC


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything the child needs between fork and exec."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    cgroup: Path | None = None
    cwd: str = "/"
    user: str = "root"
    group: str = ""
    umask: int = 0o022
    limits: Mapping[str, str] = field(default_factory=dict)
    oom_score_adjust: int | None = None
    nice: int | None = None


class Reaper:
    """Waits for all children; `exited` is the wait status of one of them."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[int]] = {}

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGCHLD, self.reap)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            future = self._waiting.pop(pid, None)
            if future is not None and not future.done():
                future.set_result(status)

    def launch(self, launch: Launch) -> tuple[int, asyncio.Future[int]]:
        """Fork and exec; the pid and a future with its wait status."""
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        output = os.open(launch.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            pid = os.fork()
            if pid == 0:
                _become(launch, output)
        finally:
            os.close(output)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[pid] = future
        return pid, future


def _become(launch: Launch, output: int) -> None:
    """In the child: never returns."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if launch.cgroup is not None:
            (launch.cgroup / "cgroup.procs").write_text("0")
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        _apply_limits(launch)
        account = pwd.getpwnam(launch.user)
        if launch.user != "root" or launch.group:
            gid = account.pw_gid if not launch.group else _gid(launch.group)
            os.setgroups(os.getgrouplist(launch.user, gid))
            os.setgid(gid)
            os.setuid(account.pw_uid)
        os.umask(launch.umask)
        os.chdir(launch.cwd)
        os.execve(launch.argv[0], list(launch.argv), dict(launch.environment))
    except (OSError, KeyError, ValueError) as error:
        os.write(output, f"init: cannot run {launch.argv[0]}: {error}\n".encode())
    finally:
        os._exit(EXEC_FAILED)


def _gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _apply_limits(launch: Launch) -> None:
    for name, value in launch.limits.items():
        soft, _, hard = value.partition(":")
        numbers = [resource.RLIM_INFINITY if text == "infinity" else int(text) for text in (soft, hard or soft)]
        kind: int = getattr(resource, f"RLIMIT_{name}")
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            # This machine's own ceiling; a process cannot raise it without CAP_SYS_RESOURCE.
            numbers = [
                ceiling if number in (resource.RLIM_INFINITY,) or number > ceiling else number for number in numbers
            ]
        resource.setrlimit(kind, (numbers[0], numbers[1]))
    if launch.oom_score_adjust is not None:
        wanted = launch.oom_score_adjust
        try:
            Path("/proc/self/oom_score_adj").write_text(str(wanted))
        except PermissionError:
            os.write(2, f"init: this machine does not let OOMScoreAdjust={wanted} be set\n".encode())
    if launch.nice is not None:
        os.setpriority(os.PRIO_PROCESS, 0, launch.nice)


def send_signal(pid: int, number: int) -> None:
    """Signal a process that may have ended in the meantime."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


class ControlGroup:
    """A cgroup2 directory: the one reliable list of what a service started."""

    def __init__(self, name: str) -> None:
        self.path = CGROUP_ROOT / name

    def create(self) -> None:
        self.path.mkdir(exist_ok=True)

    def pids(self) -> list[int]:
        try:
            return [int(line) for line in (self.path / "cgroup.procs").read_text().split()]
        except FileNotFoundError:
            return []

    @property
    def populated(self) -> bool:
        """True until the last thread is gone; `pids` no longer lists a process that is exiting."""
        try:
            return "populated 1" in (self.path / "cgroup.events").read_text()
        except FileNotFoundError:
            return False

    def signal(self, number: int) -> None:
        for pid in self.pids():
            send_signal(pid, number)

    def kill(self) -> None:
        try:
            (self.path / "cgroup.kill").write_text("1")
        except FileNotFoundError:  # kernel older than 5.14
            while self.pids():
                self.signal(signal.SIGKILL)

    async def wait_empty(self, timeout_s: float) -> bool:
        """True once no process is left."""
        end = asyncio.get_running_loop().time() + timeout_s
        while self.populated:
            if asyncio.get_running_loop().time() >= end:
                return False
            await asyncio.sleep(0.02)
        return True
