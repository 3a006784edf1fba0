"""In place of mfusepy and WinFsp, which is a driver and cannot run on Wine: the same classes, and instead of the kernel
a line of JSON over the loopback for each call. Everything of the mirror's front is the real one.

The port is in the file `<place>.port` as long as the mount lives. A request: {"call": operation's name, "args": []},
bytes as {"bytes": base64}. An answer: {"value": ...} or {"error": number}.
"""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

log = logging.getLogger("winfsp")

fuse_version_major, fuse_version_minor = 2, 8
_mounts: dict[int, threading.Event] = {}
_context = threading.local()


class Operations:
    """What mfusepy gives to be derived from."""


def _fuse_get_context() -> Any:
    return SimpleNamespace(contents=SimpleNamespace(fuse=_context.mount, uid=0, gid=0, pid=0, umask=0))


def _fuse_exit(handle: Any) -> None:
    _mounts[handle.value].set()


_libfuse = SimpleNamespace(fuse_get_context=_fuse_get_context, fuse_exit=_fuse_exit)


def encoded(value: Any) -> Any:
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def decoded(value: Any) -> Any:
    return base64.b64decode(value["bytes"]) if isinstance(value, dict) and set(value) == {"bytes"} else value


class FUSE:
    """Serves until `fuse_exit`."""

    def __init__(self, operations: Any, place: str, **options: Any) -> None:
        self.operations = operations
        number = id(self) & 0x7FFF_FFFF
        self._number = number
        _mounts[number] = ended = threading.Event()
        _context.mount = number
        operations.init_with_config(None, None)
        port_file = Path(f"{place}.port")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0.1)
            port_file.write_text(str(listener.getsockname()[1]), encoding="ascii")
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        port_file.unlink()

    def _serve(self, connection: socket.socket) -> None:
        _context.mount = self._number
        with connection, connection.makefile("rwb") as lines:
            for line in lines:
                request = json.loads(line)
                try:
                    value = getattr(self.operations, request["call"])(*map(decoded, request["args"]))
                    value = [entry[0] for entry in value] if request["call"] == "readdir" else value
                    answer = {"value": encoded(value)}
                except OSError as error:
                    answer = {"error": error.errno or 5}
                except Exception:
                    log.exception("operation %s failed", request["call"])
                    answer = {"error": 22}
                try:
                    lines.write(json.dumps(answer).encode() + b"\n")
                    lines.flush()
                except OSError:
                    return
