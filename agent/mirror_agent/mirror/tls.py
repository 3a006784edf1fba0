"""Mutual TLS 1.3 between the two nodes: who may speak on the mirror stream, and how sockets are set up for it.

Both sides present a certificate of the cluster's own authority; the peer's must carry its SAN DNS name
(`<node>.<clusterId>.mirror`), whatever address it comes from. A context is made for every connection, so a
renewed certificate counts from the next one. Kernel TLS is used where Python and the kernel have it.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any, Final

from mirror_agent.mirror import limits, machine
from mirror_agent.mirror.config import MirrorConfig

_KTLS: Final[int] = getattr(ssl, "OP_ENABLE_KTLS", 0)


class PeerRefusedError(Exception):
    """The other side is not the peer this node was configured with."""


def _context(config: MirrorConfig, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(config.ca_file)
    context.load_cert_chain(config.certificate_file, config.key_file)
    context.options |= _KTLS
    return context


def client_context(config: MirrorConfig) -> ssl.SSLContext:
    context = _context(config, ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = True
    return context


def server_context(config: MirrorConfig) -> ssl.SSLContext:
    context = _context(config, ssl.PROTOCOL_TLS_SERVER)
    # No session is ever resumed, and a ticket would lie unread on the one-way connections.
    context.num_tickets = 0
    return context


def _tune(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Also ends a connection whose receiver keeps its window shut, so not the time after which a peer counts as silent:
    # the stream's own watch judges that by what is heard.
    machine.bound_retransmission(connection, limits.APPLY_STALL_S)


def connect(context: ssl.SSLContext, config: MirrorConfig, address: str) -> ssl.SSLSocket:
    """A verified connection to the peer. Raises OSError (ssl.SSLError is one)."""
    source = None
    if config.listen_address not in ("", "0.0.0.0", "::"):
        source = (config.listen_address, 0)
    raw = socket.create_connection((address, config.port), limits.CONNECT_TIMEOUT_S, source_address=source)
    try:
        _tune(raw)
        raw.settimeout(limits.HANDSHAKE_TIMEOUT_S)
        return context.wrap_socket(raw, server_hostname=config.peer_san)
    except BaseException:
        raw.close()
        raise


def _dns_names(connection: ssl.SSLSocket) -> list[str]:
    certificate: Any = connection.getpeercert() or {}
    return [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]


def accept(context: ssl.SSLContext, config: MirrorConfig, raw: socket.socket) -> ssl.SSLSocket:
    """Verifies an incoming connection. Raises OSError or `PeerRefusedError`; the socket is closed then."""
    try:
        _tune(raw)
        raw.settimeout(limits.HANDSHAKE_TIMEOUT_S)
        connection = context.wrap_socket(raw, server_side=True)
    except BaseException:
        raw.close()
        raise
    names = _dns_names(connection)
    if config.peer_san not in names:
        connection.close()
        raise PeerRefusedError(f"the certificate names {names}, expected {config.peer_san!r}")
    return connection
