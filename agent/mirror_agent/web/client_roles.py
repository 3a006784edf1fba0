"""Who is at the other end of a TLS connection to the node: role and name from a client certificate of the cluster's CA.

The TLS layer has already verified the certificate against the cluster's CA and nothing else; here it is only read. The
role is the subject's organisational unit: Admin includes Control includes Monitor. A certificate without exactly one
known role may do nothing. One exception: the other node, known by the name in its certificate, may pass on what a
person asked of it, and says in whose name; it has checked that person's certificate as this node would have. That adds
no power to a node: it serves the same data, and both obey the same witness record.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from aiohttp import web

_UNIT: Final = "organizationalUnitName"
_NAME: Final = "commonName"
# What the passing node says of the person.
_CALLER: Final = "Mirrorplane-Caller"
_CALLER_ROLE: Final = "Mirrorplane-Caller-Role"
_CALLER_SERIAL: Final = "Mirrorplane-Caller-Serial"


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
    """`serial` of the person's certificate, in upper-case hex as OpenSSL prints it; `through`: the certificate name of
    the node that passed the request on, "" for a person who came directly."""

    name: str
    role: ClientRole | None
    serial: str = ""
    through: str = ""

    @property
    def shown(self) -> str:
        """For the history: who, as what, which way."""
        role = self.role.word if self.role else "no role"
        return f"{self.name} ({role})" + (f" through {self.through}" if self.through else "")

    @property
    def principal(self) -> str:
        """The certificate, by what a revocation names."""
        return f"certificate:{self.serial}"


_ROLES: Final = {role.word: role for role in ClientRole}


def client_of(request: web.Request, peer_name: str = "") -> Client | None:
    """The caller, or None without a client certificate. `peer_name`: the DNS name in the other node's certificate."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("ssl_object")
    certificate = None if connection is None else connection.getpeercert()
    if not certificate:
        return None
    attributes = [pair for part in certificate.get("subject", ()) for pair in part]
    names = [value for key, value in attributes if key == _NAME]
    units = [value for key, value in attributes if key == _UNIT]
    name = names[0] if names else "unnamed"
    if peer_name and _is_node(certificate, peer_name):
        return _passed_on(request.headers, name)
    role = _ROLES.get(units[0]) if len(units) == 1 else None
    return Client(name, role, str(certificate.get("serialNumber", "")))


def passed_on_headers(client: Client) -> dict[str, str]:
    """What a node says to the other one of a person whose request it passes on."""
    assert client.role is not None, "only who has a role is passed on"
    return {_CALLER: quote(client.name), _CALLER_ROLE: client.role.word, _CALLER_SERIAL: client.serial}


def _passed_on(headers: Mapping[str, str], node: str) -> Client:
    """A node that speaks for nobody, or for somebody without a known role, may do nothing."""
    name = unquote(headers.get(_CALLER, ""))
    role = _ROLES.get(headers.get(_CALLER_ROLE, ""))
    if not name or role is None:
        return Client(node, None)
    return Client(name, role, headers.get(_CALLER_SERIAL, ""), node)


def _is_node(certificate: Mapping[str, Any], dns_name: str) -> bool:
    return ("DNS", dns_name) in certificate.get("subjectAltName", ())


def server_context(certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """TLS 1.3 with the node's certificate; a client may show a certificate, and then it must be of the cluster's CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(cafile=ca)
    return context
