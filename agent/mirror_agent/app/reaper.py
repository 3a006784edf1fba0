"""The runner child: a small process of its own below which every process of the application lives.

Problem: when a daemon's parent ends, the kernel gives the daemon to init, and nobody can name "the application" any
more; and when the supervisor is killed, its application would go on writing without anybody watching.
Guarantee: this process is a subreaper (PR_SET_CHILD_SUBREAPER), so orphans of the application become its children. It
runs the scripts it is told, one at a time or more, reaps everything, and copies output to a log of bounded size. When
the supervisor is gone (its end of the socket is closed, which the kernel does for a killed process too) it kills every
process below it, until none is left, and ends. SIGTERM and SIGINT are ignored: only the supervisor decides.
Limits: killed itself by SIGKILL it cannot clean up; it asks the OOM killer to be spared, the supervisor notices at once
and finds what is left by a mark in the environment. Work that a script hands to another service (systemctl start) is
not below it. One thread, standard library only, so that it starts fast and stays small.

Wire (JSON lines): `{"op": "run", "id", "argv", "cwd", "env", "log"}` → `{"event": spawned, failed or exited, "id", …}`.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from mirror_agent.app.processes import KillWalk
from mirror_agent.app.script_log import BoundedLog

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
MAX_FRAME_BYTES: Final = 1024 * 1024
_READ_BYTES: Final = 64 * 1024
_READS_AT_ONCE: Final = 16
_SPARED: Final = b"-900"
# Ours, and the two that Python itself ignores: a script expects the defaults.
_CHANGED_SIGNALS: Final = (
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGPIPE,
    signal.SIGXFSZ,
)
_KILL_STEP_S: Final = 0.02
_KILL_PATIENCE_S: Final = 120.0


class ScriptLog(BoundedLog):
    """What comes out of a pipe."""

    def __init__(self, path: Path, pipe: int) -> None:
        super().__init__(path)
        self.pipe = pipe

    def drain(self) -> bool:
        """Copy what is there, but no more than a share, so that a flood leaves time for signals; False at the end."""
        for _ in range(_READS_AT_ONCE):
            try:
                data = os.read(self.pipe, _READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.write(data)
        return True

    def close(self) -> None:
        os.close(self.pipe)
        super().close()


class Reaper:
    def __init__(self, control: socket.socket, supervisor: int) -> None:
        self._control = control
        self._supervisor = supervisor
        self._selector = selectors.DefaultSelector()
        self._logs: dict[int, ScriptLog] = {}
        self._runs: dict[int, tuple[int, ScriptLog]] = {}
        self._received = b""

    def serve(self) -> None:
        """Until the supervisor is gone; then until nothing of the application is left."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGCONT):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._control.setblocking(False)
        self._selector.register(self._control, selectors.EVENT_READ, "control")
        self._selector.register(wake_read, selectors.EVENT_READ, "signal")
        while os.getppid() == self._supervisor:
            for key, _ in self._selector.select():
                match key.data:
                    case "control":
                        if not self._commands():
                            self._end_all()
                            return
                    case "signal":
                        os.read(wake_read, 4096)
                    case _:
                        self._output(key.fd)
            self._reap()
        self._end_all()

    def _commands(self) -> bool:
        try:
            data = self._control.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if not data or len(self._received) > MAX_FRAME_BYTES:
            return False
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._run(json.loads(line))
        return True

    def _run(self, frame: dict[str, Any]) -> None:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read_end, False)
        log: ScriptLog | None = None
        try:
            log = ScriptLog(Path(frame["log"]), read_end)
            pid = _spawn(frame["argv"], frame["cwd"], frame["env"], write_end)
        except OSError as error:
            if log is None:
                os.close(read_end)
            else:
                log.close()
            self._send({"event": "failed", "id": frame["id"], "error": f"{error.strerror}: {error.filename}"})
            return
        finally:
            os.close(write_end)
        self._logs[read_end] = log
        self._runs[pid] = (frame["id"], log)
        self._selector.register(read_end, selectors.EVENT_READ, "output")
        self._send({"event": "spawned", "id": frame["id"], "pid": pid})

    def _output(self, descriptor: int) -> None:
        log = self._logs.get(descriptor)
        if log is not None and not log.drain():
            self._selector.unregister(descriptor)
            del self._logs[descriptor]
            log.close()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            run = self._runs.pop(pid, None)
            if run is not None:
                number, log = run
                if self._logs.get(log.pipe) is log:
                    self._output(log.pipe)
                tail = log.tail.decode(errors="replace")
                self._send({"event": "exited", "id": number, "code": os.waitstatus_to_exitcode(status), "tail": tail})

    def _end_all(self) -> None:
        walk = KillWalk(os.getpid())
        deadline = time.clock_gettime(time.CLOCK_BOOTTIME) + _KILL_PATIENCE_S
        while not walk.done and time.clock_gettime(time.CLOCK_BOOTTIME) < deadline:
            walk.step()
            self._reap()
            time.sleep(_KILL_STEP_S)

    def _send(self, event: dict[str, object]) -> None:
        data = json.dumps(event).encode() + b"\n"
        try:
            self._control.setblocking(True)
            self._control.sendall(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise
            return  # the supervisor is gone; the main loop sees the closed socket next
        finally:
            self._control.setblocking(False)


def _spawn(argv: list[str], cwd: str, environment: dict[str, str], output: int) -> int:
    """fork and exec; an error of the child before exec is raised here as the OSError it was."""
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.chdir(cwd)
            null = os.open("/dev/null", os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.umask(0o022)
            _oom_score(b"0")
            signal.set_wakeup_fd(-1)
            for number in _CHANGED_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            os.execve(argv[0], argv, environment)
        except OSError as error:
            os.write(error_write, f"{error.errno} {error.filename or cwd}".encode())
        finally:
            os._exit(127)
    os.close(error_write)
    with os.fdopen(error_read, "rb") as stream:
        report = stream.read().decode(errors="replace")
    if report:
        code, _, place = report.partition(" ")
        os.waitpid(pid, 0)
        raise OSError(int(code), os.strerror(int(code)), place)
    return pid


def _oom_score(value: bytes) -> None:
    """Best effort: a container may forbid to ask for being spared."""
    try:
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(descriptor, value)
    except PermissionError:
        return
    finally:
        os.close(descriptor)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


def main() -> None:
    """`reaper FD SUPERVISOR_PID`."""
    descriptor, supervisor = int(sys.argv[-2]), int(sys.argv[-1])
    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    # SIGCONT, not SIGKILL: it wakes us even when stopped, and then we end the application before ourselves.
    _prctl(PR_SET_PDEATHSIG, signal.SIGCONT)
    _oom_score(_SPARED)
    Reaper(control, supervisor).serve()


if __name__ == "__main__":
    main()
