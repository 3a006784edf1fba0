"""An application's view of a mirror on Windows, through the stand-in for WinFsp (`winfsp/mfusepy.py`)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any


class Mount:
    """One connection: one call at a time. Raises OSError with the number WinFsp would have been given."""

    def __init__(self, place: str, timeout_s: float = 60.0) -> None:
        port = int(Path(f"{place}.port").read_text(encoding="ascii"))
        self._line = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._lines = self._line.makefile("rwb")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what was still to be said to an engine that has ended
            self._lines.close()
        self._line.close()

    def call(self, name: str, *arguments: Any) -> Any:
        given = [{"bytes": base64.b64encode(one).decode()} if isinstance(one, bytes) else one for one in arguments]
        self._lines.write(json.dumps({"call": name, "args": given}).encode() + b"\n")
        self._lines.flush()
        line = self._lines.readline()
        if not line:
            raise ConnectionError("the mount has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise OSError(answer["error"], f"{name}{arguments}")
        value = answer["value"]
        return base64.b64decode(value["bytes"]) if isinstance(value, dict) and set(value) == {"bytes"} else value

    def write(self, path: str, data: bytes, offset: int = 0, *, flush: bool = False) -> None:
        """Makes the file if it is not there."""
        try:
            self.call("getattr", path)
        except FileNotFoundError:
            self.call("mknod", path, 0o100666, 0)
        handle = self.call("open", path, os.O_RDWR)
        try:
            assert self.call("write", path, data, offset, handle) == len(data)
            if flush:
                self.call("fsync", path, 0, handle)
        finally:
            self.call("release", path, handle)

    def read(self, path: str, size: int = 1 << 20) -> bytes:
        handle = self.call("open", path, os.O_RDONLY)
        try:
            found = self.call("read", path, size, 0, handle)
            assert isinstance(found, bytes)
            return found
        finally:
            self.call("release", path, handle)

    def names(self, path: str = "/") -> set[str]:
        handle = self.call("opendir", path)
        try:
            return set(self.call("readdir", path, handle)) - {".", ".."}
        finally:
            self.call("releasedir", path, handle)


def content(top: Path) -> dict[str, bytes | None]:
    """Everything below a directory: files with their bytes, directories as None. What only waits for its last handle,
    because this system cannot remove what is open (`mirror.files_gone`), is not there for the mirror."""
    found: dict[str, bytes | None] = {}
    for directory, directories, names in os.walk(top):
        here = Path(directory)
        directories[:] = [name for name in directories if not name.startswith(".mirrorplane-gone-")]
        names = [name for name in names if not name.startswith(".mirrorplane-gone-")]
        found |= {str((here / name).relative_to(top)): None for name in directories}
        found |= {str((here / name).relative_to(top)): (here / name).read_bytes() for name in names}
    return found
