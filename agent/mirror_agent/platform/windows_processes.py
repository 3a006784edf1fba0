"""`Processes` on Windows, through psutil.

Limits: never run on Windows. Windows keeps no sessions of processes: what a command left in the background after it
ended itself is not found any more (the application's own processes would need a job object for that).
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable

import psutil

assert sys.platform == "win32"

_NOT_OURS_TO_SEE = (psutil.NoSuchProcess, psutil.AccessDenied)


def living() -> list[int]:
    return psutil.pids()


def below(root: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(root).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def command_line(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except _NOT_OURS_TO_SEE:
        return ""


def watch_death(pid: int, died: Callable[[], None]) -> Callable[[], None]:
    """A thread waits for the process; it lives as long as the process does, also when nobody listens any more."""
    import asyncio

    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        raise ProcessLookupError(f"there is no process {pid}") from None
    loop = asyncio.get_running_loop()
    forgotten = threading.Event()

    def tell() -> None:
        if not forgotten.is_set():
            died()

    def wait() -> None:
        with contextlib.suppress(*_NOT_OURS_TO_SEE):
            process.wait()
        if not forgotten.is_set() and not loop.is_closed():
            loop.call_soon_threadsafe(tell)

    threading.Thread(target=wait, name=f"death-of-{pid}", daemon=True).start()
    return forgotten.set


def kill_below(root: int) -> None:
    for pid in below(root):
        with contextlib.suppress(*_NOT_OURS_TO_SEE):
            psutil.Process(pid).kill()


def kill_session(leader: int) -> None:
    with contextlib.suppress(*_NOT_OURS_TO_SEE):
        psutil.Process(leader).kill()
