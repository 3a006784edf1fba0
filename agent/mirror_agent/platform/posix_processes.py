"""`Processes` on Linux."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable

from mirror_agent.app.processes import all_processes, descendants, signal_all

assert sys.platform != "win32"


def living() -> list[int]:
    return [stat.pid for stat in all_processes().values() if stat.alive]


def below(root: int) -> list[int]:
    return [stat.pid for stat in descendants(root)]


def command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return stream.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def watch_death(pid: int, died: Callable[[], None]) -> Callable[[], None]:
    import asyncio

    descriptor = os.pidfd_open(pid)
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, died)

    def forget() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)

    return forget


def kill_below(root: int) -> None:
    signal_all(descendants(root), signal.SIGKILL)


def kill_session(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
