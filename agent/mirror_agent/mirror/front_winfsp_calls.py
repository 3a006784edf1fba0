"""WinFsp's calls: the FUSE 2 interface, by mfusepy's own class, into the operations of the library front."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import mfusepy

from mirror_agent.mirror.front_library_calls import Operations
from mirror_agent.mirror.fuse_abi import Op

if TYPE_CHECKING:
    from mirror_agent.mirror.front_winfsp import WinFspFront


class WinFspOperations(Operations):
    """One mounted root. Who calls, and with which mask, means nothing here."""

    def __init__(self, front: WinFspFront) -> None:
        super().__init__(front)
        self._winfsp = front

    def init_with_config(self, connection: Any, config: Any) -> None:
        context = mfusepy._libfuse.fuse_get_context()
        handle = ctypes.c_void_p(context.contents.fuse)
        self._winfsp.serves(lambda: mfusepy._libfuse.fuse_exit(handle))

    def _ask(self, op: Op, nodeid: int, *parts: bytes | memoryview) -> bytes:
        return self._front.ask(op, nodeid, *parts)

    def _umask(self) -> int:
        return 0

    def chown(self, path: str | None, uid: int, gid: int) -> int:
        raise OSError(errno.ENOSYS, "owners are not kept on Windows")  # WinFsp then goes on without

    @property
    def open_files(self) -> int:
        return len(self._handles)


def server(front: WinFspFront) -> tuple[Callable[[str], None], Callable[[], int]]:
    """(what serves a place until its mount ends, how many files are open)."""
    operations = WinFspOperations(front)

    def serve(place: str) -> None:
        # uid, gid -1: everything belongs to who mounts (LocalSystem); modes let everybody in, as one's own disk does.
        mfusepy.FUSE(operations, place, foreground=True, uid=-1, gid=-1)

    return serve, lambda: operations.open_files
