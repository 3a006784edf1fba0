"""The mounts of this process on Windows: WinFsp makes them, and takes them away when they end or their process does.

Guarantee: as on Linux, `abort` and `disconnect` wait for nobody, and after them no call of an application reaches the
copy: the mount point is gone, and below it there is nothing (the copy lies beside it, `MirroredPath.copy_directory`),
so an application that lives on gets "path not found" instead of writing beside the mirror.
Limits: a mount is known to the process that serves it. From outside it ends by ending that process. `unmount` knows of
files that are open, not by whom.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Mounted:
    """`end` has the mount end; `open_files` are those applications have open now."""

    path: str
    end: Callable[[], None]
    open_files: Callable[[], int]


_lock: Final = threading.Lock()
_mounts: Final[dict[str, Mounted]] = {}


def begun(mount: Mounted) -> None:
    with _lock:
        _mounts[mount.path] = mount


def ended(path: str) -> None:
    """Its server has returned."""
    with _lock:
        _mounts.pop(path, None)


def mounted(path: str) -> list[Mounted]:
    with _lock:
        found = _mounts.get(path)
    return [] if found is None else [found]


def disconnect(path: str) -> None:
    """Ends our mount on `path`, if there is one."""
    abort(path)


def abort(path: str) -> int:
    found = mounted(path)
    for mount in found:
        mount.end()
    return len(found)


def unmount(path: str) -> None:
    """Raises OSError EBUSY while a file of it is open."""
    for mount in mounted(path):
        count = mount.open_files()
        if count:
            raise OSError(errno.EBUSY, f"{count} files are open", path)
        mount.end()


def holders(path: str) -> list[str]:
    """Windows does not say who has a file open; how many there are is said."""
    return [f"{mount.open_files()} open files" for mount in mounted(path)]
