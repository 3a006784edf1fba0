"""The front on Windows: the library front, mounted and ended by WinFsp.

What is acknowledged when is `front_library`'s, and so the same as everywhere. What differs is the mount: its place must
not exist before (the copy lies beside it), and WinFsp makes it, and takes it away when the server ends. So an
application that outlives the mirror meets "path not found", never the directory below.

Names: an application may spell them as it likes (`Paths.alike`); what is done to the copy has the stored spelling.
Owners, modes, attributes of files (hidden, read-only) and extended attributes are not kept; asking for owners and modes
is refused, attributes are ignored by WinFsp before we are asked.
Limits: never run: WinFsp is a driver, and Wine has none. WinFsp does not tell FUSE servers of FILE_FLAG_WRITE_THROUGH:
such writes are on both nodes when they return, as all are in `strict`, but flushed to disk by FlushFileBuffers only.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

from mirror_agent.mirror import mounts_windows
from mirror_agent.mirror.files_names import folded
from mirror_agent.mirror.front_library import LibraryFront
from mirror_agent.mirror.front_paths import Paths

if sys.platform != "win32":
    raise ImportError("mirror_agent.mirror.front_winfsp is for Windows")


class WinFspFront(LibraryFront):
    """One mounted root."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """As `Front`."""
        super().__init__(*arguments, **settings)
        self.paths = Paths(self, alike=folded)
        self._end: Callable[[], None] | None = None

    def _library(self) -> Callable[[str], None]:
        try:
            from mirror_agent.mirror.front_winfsp_calls import server
        except (ImportError, OSError) as error:  # mfusepy looks for WinFsp's library when it is imported
            raise OSError(errno.ENOSYS, f"{error}: install WinFsp and mirror-agent[fuse-library]") from None
        serve, open_files = server(self)

        def served(place: str) -> None:
            mounts_windows.begun(mounts_windows.Mounted(place, self.end, open_files))
            try:
                serve(place)
            finally:
                mounts_windows.ended(place)

        return served

    def _place(self) -> str:
        """A drive letter, or a directory that is not there: an empty one is removed, anything else is not ours."""
        path = self.root.path
        if not path.endswith(":") and os.path.lexists(path):
            try:
                os.rmdir(path)
            except OSError as error:
                raise OSError(
                    errno.EEXIST, f"{path} holds files that are not in the mirror ({error}); move them away"
                ) from None
        return path

    def serves(self, end: Callable[[], None]) -> None:
        """Called by the library's initialisation, with what ends it."""
        self._end = end
        self.began()

    def end(self) -> None:
        """From any thread, never waits. Before it has begun it cannot be ended: `mount` waits for that."""
        if self._end is not None:
            self._end()
