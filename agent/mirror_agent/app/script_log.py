"""Output of one run of a script: a file of bounded size, one older part beside it, and the last lines in memory.

Standard library only: the reaper imports it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MAX_LOG_BYTES: Final = 1024 * 1024
TAIL_BYTES: Final = 2048
# Windows has no O_CLOEXEC (no descriptor of Python's is inherited there) and knows text files.
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class BoundedLog:
    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self.tail = b""
        self._size = 0
        self._file: int | None = os.open(path, _FLAGS, 0o600)

    def write(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-TAIL_BYTES:]
        try:
            if self._file is None or self._size + len(data) > MAX_LOG_BYTES:
                self._file = self._turn()
            self._size += os.write(self._file, data)
        except OSError as error:
            # A full disk costs the log, not the application: the end of the output stays in `tail`.
            self.tail = (self.tail + f"\n[log not written: {error}]\n".encode())[-TAIL_BYTES:]

    def _turn(self) -> int:
        """The next file; closed before it is renamed, as Windows wants it."""
        self._shut()
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        opened = os.open(self._path, _FLAGS, 0o600)
        self._size = 0
        return opened

    def close(self) -> None:
        self._shut()

    def _shut(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
