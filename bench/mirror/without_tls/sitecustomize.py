"""Takes the encryption out of one mirror engine, so that its cost can be measured.

The engine has no switch for this, and must not have one. Python imports a module of this name at its start; the
benchmark puts this directory into PYTHONPATH of the engines it compares with, and of nothing else.

Limits: there is no authentication either. Only for two engines inside the benchmark's own namespaces.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any, Self

from mirror_agent.mirror import limits, tls
from mirror_agent.mirror.config import MirrorConfig


class PlainSocket(socket.socket):
    """A socket with the part of `ssl.SSLSocket` that the stream uses."""

    @classmethod
    def adopt(cls, connection: socket.socket) -> Self:
        timeout_s = connection.gettimeout()
        plain = cls(fileno=connection.detach())
        plain.settimeout(timeout_s)
        return plain

    def pending(self) -> int:
        return 0


def connect(_context: ssl.SSLContext, config: MirrorConfig, address: str) -> Any:
    source = (config.listen_address, 0)
    raw = socket.create_connection((address, config.port), limits.CONNECT_TIMEOUT_S, source_address=source)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return PlainSocket.adopt(raw)


def accept(_context: ssl.SSLContext, _config: MirrorConfig, raw: socket.socket) -> Any:
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.settimeout(limits.HANDSHAKE_TIMEOUT_S)
    return PlainSocket.adopt(raw)


# Not the types the engine declares, which is the point.
vars(tls).update(connect=connect, accept=accept)
