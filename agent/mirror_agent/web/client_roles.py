"""Who is at the other end of a TLS connection to the node: role and name from a client certificate of the cluster's CA.

The TLS layer has already verified the certificate against the cluster's CA and nothing else; here it is only read. The
role is the subject's organisational unit: Admin includes Control includes Monitor. A certificate without exactly one
known role, such as a node's own, may do nothing.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from aiohttp import web

_UNIT: Final = "organizationalUnitName"
_NAME: Final = "commonName"


class ClientRole(IntEnum):
    """Ordered: a higher role may do what a lower one may."""

    MONITOR = 1
    CONTROL = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        return self.name.capitalize()


@dataclass(frozen=True)
class Client:
    """`serial` in upper-case hex, as OpenSSL prints it."""

    name: str
    role: ClientRole | None
    serial: str = ""


_ROLES: Final = {role.word: role for role in ClientRole}


def client_of(request: web.Request) -> Client | None:
    """The caller, or None without a client certificate."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("ssl_object")
    certificate = None if connection is None else connection.getpeercert()
    if not certificate:
        return None
    attributes = [pair for part in certificate.get("subject", ()) for pair in part]
    names = [value for key, value in attributes if key == _NAME]
    units = [value for key, value in attributes if key == _UNIT]
    role = _ROLES.get(units[0]) if len(units) == 1 else None
    return Client(names[0] if names else "unnamed", role, str(certificate.get("serialNumber", "")))


def server_context(certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """TLS 1.3 with the node's certificate; a client may show a certificate, and then it must be of the cluster's CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(cafile=ca)
    return context
