"""The engine as a process of Linux: it ends with its supervisor, and memory and descriptors are kept for it."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
from pathlib import Path
from typing import Final

from mirror_agent.mirror import syscalls

log: Final = logging.getLogger(__name__)


def prepare(parent: int | None) -> None:
    """Raises SystemExit when the supervisor is gone already."""
    if parent is not None:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit("the supervisor ended before the engine began")
    try:
        # The engine writes on behalf of those who wait for it: its own allocations must not wait for its own pages.
        syscalls.prctl(syscalls.PR_SET_IO_FLUSHER, 1)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise
        log.warning("PR_SET_IO_FLUSHER is not available: %s", error)
    try:
        # An engine killed for memory takes the application's directory with it.
        Path("/proc/self/oom_score_adj").write_text("-900", encoding="ascii")
    except OSError as error:
        log.warning("oom_score_adj cannot be lowered: %s", error)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0)


def orphaned(parent: int | None) -> bool:
    """The supervisor is gone, or there never was one."""
    return parent is None or os.getppid() != parent
