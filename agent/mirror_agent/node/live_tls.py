"""TLS contexts of a running agent that follow the node's certificate: a renewed one counts from the next handshake.

A server keeps listening with the context it was started with; that context hands every handshake on to the present one
(certificate, key and trusted authorities), before anything was agreed. Connections that stand are left alone.
No session tickets: a resumed session would carry a certificate that is not checked again.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mirror_agent.net.peer import tls_context
from mirror_agent.paths import Paths
from mirror_agent.web.client_roles import server_context

_READS: Final = 3


def read_steadily(make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """OpenSSL opens the one file once for the certificate and once for the key; between the two it may be replaced.
    Then they do not match, and are read again. Raises ssl.SSLError when they never do."""
    for left in range(_READS - 1, -1, -1):
        try:
            return make()
        except ssl.SSLError:
            if not left:
                raise
    raise AssertionError("unreachable")


class FollowingContext:
    """`context` is for the listening socket."""

    def __init__(self, make: Callable[[], ssl.SSLContext]) -> None:
        self._make = make
        self._present = read_steadily(make)
        self._present.num_tickets = 0
        self.context = self._present
        self.context.sni_callback = self._hand_on

    def reload(self) -> None:
        """Raises OSError (ssl.SSLError is one); the present one stays then."""
        fresh = read_steadily(self._make)
        fresh.num_tickets = 0
        self._present = fresh

    def _hand_on(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._present


class NodeTls:
    """The agent's servers and clients. The engine, another process, reads the files for each connection."""

    def __init__(self, paths: Paths) -> None:
        files = (paths.node_certificate, paths.node_certificate, paths.ca_certificate)
        self._peers = FollowingContext(lambda: _peer(files, server=True))
        self._console = FollowingContext(lambda: server_context(*files))
        self._make_client = lambda: _peer(files, server=False)
        self._client = read_steadily(self._make_client)

    @property
    def peer_server(self) -> ssl.SSLContext:
        return self._peers.context

    @property
    def console(self) -> ssl.SSLContext:
        return self._console.context

    def peer_client(self) -> ssl.SSLContext:
        """For the next connection to the peer."""
        return self._client

    def reload(self) -> None:
        """Raises OSError; what was read before stays in use then."""
        client = read_steadily(self._make_client)
        self._peers.reload()
        self._console.reload()
        self._client = client


def _peer(files: tuple[Path, Path, Path], *, server: bool) -> ssl.SSLContext:
    certificate, key, ca = files
    return tls_context(server=server, certificate=certificate, key=key, ca=ca)
