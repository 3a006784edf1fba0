"""The operating system of this node. This is the one place that asks which one it is."""

from __future__ import annotations

import sys
from typing import Final

from mirror_agent.platform.port import FenceFailed, Host, Layout, Processes, Room, Stranger

if sys.platform == "win32":
    from mirror_agent.platform import windows, windows_processes

    HOST: Final[Host] = windows
    PROCESSES: Final[Processes] = windows_processes
else:
    from mirror_agent.platform import posix, posix_processes

    HOST: Final[Host] = posix
    PROCESSES: Final[Processes] = posix_processes

__all__ = ["HOST", "PROCESSES", "FenceFailed", "Host", "Layout", "Processes", "Room", "Stranger"]
