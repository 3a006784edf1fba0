"""The lab's control socket: one JSON object a line in, one out. Only root reaches it (directory mode 0700).

Request `{"command": "kill", "arguments": {"node": "demo/a"}}`, answer `{"ok": true, "result": …}` or
`{"ok": false, "error": "sentence"}`. `LabClient` is the other side, for the command line, the demo and tests.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

MAX_LINE_BYTES: Final = 1024 * 1024
CLIENT_TIMEOUT_S: Final = 300.0
Command = Callable[..., Awaitable[Any]]
logger = logging.getLogger(__name__)


class CommandRefused(Exception):
    """The lab could not do it; the message is for the person who asked."""


async def serve_control(path: Path, commands: Mapping[str, Command]) -> asyncio.Server:
    """Listen; each command is called with the request's arguments as keywords."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line:
                writer.write(json.dumps(await _answer(commands, line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError) as error:
            logger.info("control: %r", error)
        finally:
            writer.close()

    return await asyncio.start_unix_server(answer, str(path), limit=MAX_LINE_BYTES)


async def _answer(commands: Mapping[str, Command], line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
        name, arguments = request["command"], request.get("arguments", {})
    except (ValueError, KeyError, TypeError) as error:
        return {"ok": False, "error": f"not a request: {error}"}
    if name not in commands:
        return {"ok": False, "error": f"unknown command {name!r}; there are {', '.join(sorted(commands))}"}
    try:
        return {"ok": True, "result": await commands[name](**arguments)}
    except CommandRefused as error:
        return {"ok": False, "error": str(error)}
    except Exception as error:
        logger.exception("control: %s failed", name)
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}


class LabClient:
    """Talks to a running lab."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def call(self, command: str, *, timeout_s: float = CLIENT_TIMEOUT_S, **arguments: Any) -> Any:
        """Blocking. Raises `CommandRefused`, OSError when the lab is gone."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(self._path))
            connection.sendall(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline()
        if not line:
            raise ConnectionError(f"the lab closed the connection during {command!r}")
        answer = json.loads(line)
        if not answer["ok"]:
            raise CommandRefused(answer["error"])
        return answer["result"]

    async def acall(self, command: str, *, timeout_s: float = CLIENT_TIMEOUT_S, **arguments: Any) -> Any:
        return await asyncio.to_thread(lambda: self.call(command, timeout_s=timeout_s, **arguments))
