"""The namespaces the whole benchmark lives in, so that nothing of it can stay behind.

Guarantee: daemons, mounts, loop devices, network namespaces and relays exist only inside one pid and one mount
namespace. Their first process ends when this one does, however it does (pdeathsig), and the kernel then kills
every process inside and takes every mount with it. What is on the disk is one empty directory, removed at the end and,
after a SIGKILL, by the next run.

Limits: needs root. Ctrl-C and SIGTERM end the run at once; there is no partial result.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from bench.mirror.commands import BenchError

_PREFIX: Final = "mirrorplane-bench-"
_END_S: Final = 30.0


@dataclass(frozen=True)
class Outcome:
    """How the inside ended, and the processor time of all its processes."""

    returncode: int
    cpu_s: float


class Base:
    """The empty directory the inside mounts its memory file system on; locked as long as this process or the first one
    inside lives (both hold the descriptor)."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix=_PREFIX)
        os.chmod(self.path, 0o755)  # PostgreSQL runs as a user of its own
        self.lock_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self.lock_fd, fcntl.LOCK_EX)

    def remove(self) -> None:
        os.close(self.lock_fd)
        os.rmdir(self.path)


def remove_stale() -> None:
    """Directories of runs that were killed. The lock matters: rmdir of a mount point in another mount namespace is
    allowed and detaches it there, with loop devices that nobody could free any more."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.rmdir()
        except BlockingIOError:
            continue  # a benchmark is running in it
        finally:
            os.close(fd)


def enclosed(module: str, arguments: Sequence[str]) -> Outcome:
    """Runs `python -m module BASE arguments...` as first process of fresh namespaces; BASE is an empty directory."""
    if os.geteuid() != 0:
        raise BenchError("the benchmark needs root (namespaces, mounts, FUSE): sudo make bench")
    remove_stale()
    base = Base()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    inside: subprocess.Popen[bytes] | None = None

    def on_signal(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(f"signal {number}")

    previous = signal.signal(signal.SIGTERM, on_signal)
    try:
        inside = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig=KILL", "--"),
                *("unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"),
                *(sys.executable, "-m", module, base.path, *arguments),
            ],
            # The terminal's Ctrl-C is for this process alone; it ends the inside as a whole.
            start_new_session=True,
            pass_fds=(base.lock_fd,),
        )
        returncode = inside.wait()
    finally:
        if inside is not None and inside.poll() is None:
            _end(inside)
        signal.signal(signal.SIGTERM, previous)
        base.remove()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Outcome(returncode, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _end(unshare: subprocess.Popen[bytes]) -> None:
    """Kills `unshare`, and by that the first process inside, which has ended when all others in its namespace have."""
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
    first = [os.pidfd_open(int(child)) for child in children]
    unshare.kill()
    unshare.wait()
    for fd in first:
        if not select.select([fd], [], [], _END_S)[0]:
            print(f"bench: a process inside does not end within {_END_S:.0f} s", file=sys.stderr)
        os.close(fd)
