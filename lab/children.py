"""Start child processes that cannot outlive the lab.

Each child gets PR_SET_PDEATHSIG=SIGKILL, so the kernel ends it when its parent thread dies, even by SIGKILL. That
covers the direct child only; what a child forks is caught by the lab's control group (see lab.fabric.cgroups).
The parent *thread* counts: start children from the main thread (asyncio does), never from a pool thread.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent_pid: int) -> None:
    """Run in the child between fork and exec. `parent_pid` 0: the parent cannot be checked (another pid namespace)."""
    if _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        os._exit(126)
    if parent_pid and os.getppid() != parent_pid:
        os._exit(126)


def child_preparation(also: Callable[[], None] | None = None) -> Callable[[], None]:
    """A `preexec_fn` for subprocess: dies with this process, plus `also` (enter a namespace, a control group)."""
    parent_pid = os.getpid()

    def prepare() -> None:
        die_with_parent(parent_pid)
        if also is not None:
            also()

    return prepare


async def start_child(
    argv: Sequence[str],
    *,
    log: Path | None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    also: Callable[[], None] | None = None,
) -> asyncio.subprocess.Process:
    """Start `argv` in a session of its own, output appended to `log` (None: discarded)."""
    target = os.open(
        log if log is not None else os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
    )
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=child_preparation(also),
        )
    finally:
        os.close(target)


async def stop_child(process: asyncio.subprocess.Process, *, grace_s: float) -> None:
    """SIGTERM, then SIGKILL after `grace_s`; returns when it is gone."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), timeout=grace_s)
    except TimeoutError:
        process.kill()
        await process.wait()
