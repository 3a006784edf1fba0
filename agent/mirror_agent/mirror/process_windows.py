"""The engine as a process of Windows: it ends with its supervisor.

The supervisor's job object ends it as well (`platform`); the wait here holds where there is none, and the end of the
control line is the third. Its mounts end with it, so nothing has to be left behind in order.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
from typing import Final

if sys.platform != "win32":
    raise ImportError("mirror_agent.mirror.process_windows is for Windows")

log: Final = logging.getLogger(__name__)

_SYNCHRONIZE: Final = 0x100000
_INFINITE: Final = 0xFFFF_FFFF
_ENDED: Final = 1


def prepare(parent: int | None) -> None:
    """Raises SystemExit when the supervisor is gone already."""
    if parent is None:
        return
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.OpenProcess.restype = ctypes.c_void_p
    kernel.WaitForSingleObject.argtypes = [ctypes.c_void_p, ctypes.c_ulong]
    handle = kernel.OpenProcess(_SYNCHRONIZE, False, parent)
    if not handle:
        raise SystemExit("the supervisor ended before the engine began")

    def watch() -> None:
        kernel.WaitForSingleObject(handle, _INFINITE)
        log.warning("the supervisor ended: ending")
        os._exit(_ENDED)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def orphaned(parent: int | None) -> bool:
    """Whose mounts would stay behind if nobody disconnected them: here nobody's do."""
    return True
