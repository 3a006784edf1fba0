"""The engine's end of the control socket: one supervisor, JSON lines, every command in a thread of its own.

The end of the stream means the supervisor is gone: the mounts are aborted and the process ends, because nobody is left
to keep the node's promises. The line is only for this process's parent (`HOST.listen_local`: a Unix socket, on Windows
a port of the loopback with a secret).
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mirror_agent.mirror import limits
from mirror_agent.mirror.engine import Engine
from mirror_agent.mirror.status import MirrorError
from mirror_agent.platform import HOST

log: Final = logging.getLogger(__name__)

_LINE_BYTES_MAX: Final = 64 * limits.KIB
_COMMANDS: Final = (
    "become_primary",
    "become_replica",
    "reattach",
    "require_peer",
    "release",
    "set_epoch",
    "seal",
    "drain",
    "abort",
    "verify",
    "verify_stop",
    "resync",
)


class ControlServer:
    """Serves one connection and returns from `serve` when it ends or `exit` was asked for."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._listening = HOST.listen_local(self._path)
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._write_lock = threading.Lock()
        self._connection: socket.socket | None = None

    def changed(self) -> None:
        self._changed.set()

    def serve(self, engine: Engine) -> None:
        connection = HOST.accept_local(self._path, self._listening)
        self._listening.close()
        self._connection = connection
        pusher = threading.Thread(target=self._push, args=(engine,), name="control-status", daemon=True)
        pusher.start()
        with connection.makefile("rb") as lines:
            while line := lines.readline(_LINE_BYTES_MAX):
                message = json.loads(line)
                if message["call"] == "exit":
                    engine.abort()
                    self._send({"id": message["id"], "ok": True})
                    break
                worker = threading.Thread(target=self._carry_out, args=(engine, message), daemon=True)
                worker.start()
        self._ended.set()
        pusher.join()

    def _carry_out(self, engine: Engine, message: dict[str, Any]) -> None:
        number, name = message.pop("id"), message.pop("call")
        answer: dict[str, Any] = {"id": number, "ok": True}
        try:
            if name not in _COMMANDS:
                raise MirrorError(f"{name!r} is no command; there are {', '.join(_COMMANDS)}")
            command: Callable[..., None] = getattr(engine, name)
            command(**message)
        except (MirrorError, OSError) as error:
            log.warning("%s failed: %s", name, error)
            answer = {"id": number, "error": str(error)}
        except Exception as error:  # the supervisor must get an answer to every call
            log.exception("%s failed", name)
            answer = {"id": number, "error": f"{name}: internal error: {error!r}"}
        # The status that belongs to the answer goes first, so the caller never acts on an older one.
        self._send({"status": engine.status().to_dict()})
        self._send(answer)

    def _push(self, engine: Engine) -> None:
        while not self._ended.is_set():
            try:
                self._send({"status": engine.status().to_dict()})
            except Exception:  # one broken figure must not make the supervisor believe the last one for ever
                log.exception("the status cannot be told; ending this process")
                assert self._connection is not None
                self._connection.shutdown(socket.SHUT_RDWR)
                return
            self._changed.wait(limits.STATUS_S)
            self._changed.clear()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._connection is not None
        with self._write_lock:
            try:
                self._connection.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                self._ended.set()  # the reading side sees the end as well and ends the process
