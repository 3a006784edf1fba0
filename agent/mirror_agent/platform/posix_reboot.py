"""Restarting a Linux machine at once, without syncing: the strike of a node that fences itself (`node.fence`).

First by the kernel's own key, then by the system call. Limits: needs a writable /proc/sysrq-trigger or CAP_SYS_BOOT;
`fence_impediment` says if neither is there.
Sources: kernel documentation, admin-guide/sysrq ("b: will immediately reboot the system without syncing or unmounting
your disks"; the file is open to root whatever kernel.sysrq says); reboot(2): in a pid namespace it ends its PID 1.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mirror_agent.platform.port import FenceFailed

_SYSRQ: Final = Path("/proc/sysrq-trigger")
_SYSRQ_PATIENCE_S: Final = 1.0
_RB_AUTOBOOT: Final = 0x01234567
_CAP_SYS_BOOT: Final = 22


def restart_machine(
    trigger: Path = _SYSRQ,
    reboot: Callable[[], None] | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Blocks. Raises `FenceFailed` with what both said."""
    said: list[str] = []
    try:
        trigger.write_text("b")
        wait(_SYSRQ_PATIENCE_S)  # a kernel that obeys never gets here
        said.append(f"{trigger} had no effect")
    except OSError as error:
        said.append(f"{trigger}: {error.strerror or error}")
    try:
        (_reboot if reboot is None else reboot)()
        wait(_SYSRQ_PATIENCE_S)
        said.append("reboot(2) had no effect")
    except OSError as error:
        said.append(f"reboot(2): {error.strerror or error}")
    raise FenceFailed("; ".join(said))


def _reboot() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.reboot(_RB_AUTOBOOT) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fence_impediment(trigger: Path = _SYSRQ, status: Path = Path("/proc/self/status")) -> str:
    """Why this node could not restart its machine; "" if it could."""
    if os.access(trigger, os.W_OK) or _effective(status) >> _CAP_SYS_BOOT & 1:
        return ""
    return (
        f"{trigger} is not writable and the agent lacks CAP_SYS_BOOT: an application that cannot be killed would stay; "
        "run the agent by its own service unit"
    )


def _effective(status: Path) -> int:
    """The effective capabilities of this process."""
    for line in status.read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
