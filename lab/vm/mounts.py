"""mount(2) and its relatives through the C library; errors are OSError naming both places."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2
PR_CAPBSET_DROP: Final = 24

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str | Path, target: str | Path, fs_type: str, flags: int = 0, options: str = "") -> None:
    arguments = (os.fsencode(source), os.fsencode(target), fs_type.encode(), ctypes.c_ulong(flags), options.encode())
    _check(_libc.mount(*arguments), f"mount {fs_type} {source} at {target} ({options})")


def bind(source: Path, target: Path, *, read_only: bool = False) -> None:
    """Bind-mount a file or directory; the target is made when absent."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(source, target, "none", MS_BIND)
    if read_only:
        mount("none", target, "none", MS_REMOUNT | MS_BIND | MS_RDONLY)


def unmount(target: str | Path, flags: int = MNT_DETACH) -> None:
    _check(_libc.umount2(os.fsencode(target), flags), f"unmount {target}")


def pivot_root(new_root: Path) -> None:
    """Make `new_root` (a mount point) the root of this mount namespace; the old one is gone afterwards."""
    os.chdir(new_root)
    _check(_libc.pivot_root(b".", b"."), f"pivot_root to {new_root}")
    unmount(".")
    os.chdir("/")


def set_hostname(name: str) -> None:
    data = name.encode()
    _check(_libc.sethostname(data, len(data)), f"sethostname {name}")


def drop_from_bounding_set(capability: int) -> None:
    _check(_libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), f"drop capability {capability}")
