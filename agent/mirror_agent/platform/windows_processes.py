"""`Processes` on Windows, through psutil.

Limits: Windows keeps no sessions of processes: what a custom checker's command left in the background after it ended
itself is not found any more (the application's own processes are in a job object, `app.job_tree`).
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Final

import psutil

assert sys.platform == "win32"

# A thread that waits for a process outlives its listener by so long.
_LISTENING_S: Final = 5.0
# OSError: of a process that is just beginning or ending.
_NOT_OURS_TO_SEE: Final = (psutil.NoSuchProcess, psutil.AccessDenied, OSError)


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
    """A thread waits for the process, until it ends or nobody listens any more."""
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
        while not forgotten.is_set():
            try:
                process.wait(_LISTENING_S)
            except psutil.TimeoutExpired:
                continue
            except _NOT_OURS_TO_SEE:
                pass
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell)
            return

    threading.Thread(target=wait, name=f"death-of-{pid}", daemon=True).start()
    return forgotten.set


def kill_below(root: int) -> None:
    for pid in below(root):
        with contextlib.suppress(*_NOT_OURS_TO_SEE):
            psutil.Process(pid).kill()


def kill_session(leader: int) -> None:
    with contextlib.suppress(*_NOT_OURS_TO_SEE):
        psutil.Process(leader).kill()
