"""The mounts over the replicated directories, on Linux (`mounts_linux`) and on Windows (`mounts_windows`)."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from mirror_agent.mirror.mounts_windows import Mounted, abort, disconnect, holders, mounted, unmount
else:
    from mirror_agent.mirror.mounts_linux import (
        FS_TYPE,
        FUSECTL,
        HOLDERS_NAMED_MAX,
        SOURCE,
        Mounted,
        abort,
        disconnect,
        holders,
        mount_front,
        mounted,
        unmount,
    )

__all__ = ["Mounted", "abort", "disconnect", "holders", "mounted", "unmount"]
if sys.platform != "win32":
    __all__ += ["FS_TYPE", "FUSECTL", "HOLDERS_NAMED_MAX", "SOURCE", "mount_front"]
