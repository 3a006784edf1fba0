"""Instead of a Unix socket: a port of the loopback, and a secret in the file that stands where the socket would.

Guarantee: the file lies in a directory only SYSTEM and the administrators can read (`windows.make_private`), so who
knows the secret is one of them; it is replaced as a whole. Both sides show it: the caller says the secret, the agent
answers with what only the secret's owner can say, so that a program which happens to hold the port of an agent that is
gone is not taken for one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from mirror_agent.platform.port import Stranger

if TYPE_CHECKING:
    import asyncio

    from mirror_agent.platform.port import Accept

_HOST: Final = "127.0.0.1"
_SECRET_BYTES: Final = 32
_CALLER: Final = "caller"
_AGENT: Final = "agent"
_WORD_BYTES: Final = 2 * _SECRET_BYTES + 1  # in hexadecimal, and the end of the line
_INTRODUCTION_S: Final = 5.0
_SHARED_S: Final = 1.0
Answer = TypeVar("Answer")


async def serve_local(path: Path, accept: Accept, *, limit: int) -> asyncio.Server:
    """`path` gets the port and the secret; its directory is private already."""
    import asyncio

    if await asyncio.to_thread(_answers, path):
        raise RuntimeError(f"another agent answers by {path}; stop it first: sc.exe stop mirrorplane-agent")
    server = await asyncio.start_server(accept, _HOST, 0, limit=limit)
    port = server.sockets[0].getsockname()[1]
    _introduce(path, port)
    return server


def _answers(path: Path) -> bool:
    try:
        connect_local(path, 1.0).close()
    except (FileNotFoundError, ConnectionError, TimeoutError):
        return False
    return True


def _introduce(path: Path, port: int) -> None:
    temporary = path.with_name(f"{path.name}.new")
    with open(temporary, "w", encoding="ascii") as stream:
        json.dump({"port": port, "secret": secrets.token_hex(_SECRET_BYTES)}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    _patiently(lambda: temporary.replace(path))


def _patiently(step: Callable[[], Answer]) -> Answer:
    """Windows refuses for as long as another process reads a file that is replaced, or replaces one that is read."""
    end = time.monotonic() + _SHARED_S
    while True:
        try:
            return step()
        except PermissionError:
            if time.monotonic() >= end:
                raise
            time.sleep(_SHARED_S / 20)


def _introduction(path: Path) -> tuple[int, str]:
    """Raises FileNotFoundError, PermissionError, and ConnectionRefusedError for a file that says nothing."""
    try:
        said = json.loads(path.read_text(encoding="ascii"))
        return int(said["port"]), str(said["secret"])
    except (ValueError, KeyError, TypeError):
        raise ConnectionRefusedError(None, f"{path} names no port") from None


def _word(secret: str, who: str) -> bytes:
    return hmac.new(secret.encode(), who.encode(), hashlib.sha256).hexdigest().encode() + b"\n"


def listen_local(path: Path) -> socket.socket:
    """As `serve_local`: the directory of `path` is private already."""
    listener = socket.create_server((_HOST, 0), backlog=1)
    _introduce(path, listener.getsockname()[1])
    return listener


def accept_local(path: Path, listening: socket.socket) -> socket.socket:
    """Whoever knows the secret; others are hung up on."""
    while True:
        connection, _ = listening.accept()
        secret = _introduction(path)[1]
        try:
            connection.settimeout(_INTRODUCTION_S)
            if hmac.compare_digest(_read_word(connection), _word(secret, _CALLER)):
                connection.sendall(_word(secret, _AGENT))
                connection.settimeout(None)
                return connection
        except OSError:  # he fell silent, or went away
            pass
        connection.close()


def _read_word(connection: socket.socket) -> bytes:
    said = b""
    while len(said) < _WORD_BYTES and (data := connection.recv(_WORD_BYTES - len(said))):
        said += data
    return said


async def local_caller(path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Whoever knows the secret could read the file: SYSTEM or an administrator."""
    import asyncio

    secret = _introduction(path)[1]
    try:
        said = await reader.readexactly(_WORD_BYTES)
    except asyncio.IncompleteReadError:
        said = b""
    if not hmac.compare_digest(said, _word(secret, _CALLER)):
        who = "somebody without the secret"
        raise Stranger(who, "only administrators may talk to the agent; use an elevated prompt")
    writer.write(_word(secret, _AGENT))
    await writer.drain()
    return "administrator"


def connect_local(path: Path, timeout_s: float) -> socket.socket:
    try:
        port, secret = _patiently(lambda: _introduction(path))
    except PermissionError:
        raise PermissionError(f"{path} is for administrators; use an elevated prompt") from None
    connection = socket.create_connection((_HOST, port), timeout_s)
    try:
        connection.sendall(_word(secret, _CALLER))
        if not hmac.compare_digest(_read_word(connection), _word(secret, _AGENT)):
            raise ConnectionRefusedError(None, f"what answers on port {port} is not the program that wrote {path}")
    except BaseException:
        connection.close()
        raise
    return connection
