"""The operating system of this node. This is the one place that asks which one it is."""

from __future__ import annotations

import sys
from typing import Final

from mirror_agent.platform.port import FenceFailed, Host, Layout, Room, Stranger

if sys.platform == "win32":
    from mirror_agent.platform import windows

    HOST: Final[Host] = windows
else:
    from mirror_agent.platform import posix

    HOST: Final[Host] = posix

__all__ = ["HOST", "FenceFailed", "Host", "Layout", "Room", "Stranger"]
