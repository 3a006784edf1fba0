"""Certificates for people: made at the moment of the download, handed over as PKCS#12 under a password made with it.

The subject's organisational unit is the role (what the nodes read, `mirror_agent.web.client_roles`), the common name
the person. The private key exists in this process for the length of one request and nowhere else. Used by the control
plane and by the nodes of a pair without one.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mirror_agent.authority import BACKDATED, Authority, leaf_extensions

# Read aloud and typed into an import dialogue: no 0/O, no 1/l. 20 of 32 signs are 100 bits.
_SIGNS: Final = "23456789abcdefghijkmnpqrstuvwxyz"
_PASSWORD_SIGNS: Final = 20
_GROUP: Final = 5


@dataclass(frozen=True)
class ClientFile:
    """`serial` in upper-case hex without leading zeros, as OpenSSL prints it."""

    serial: str
    expires_at: datetime
    pkcs12: bytes = field(repr=False)
    password: str = field(repr=False)


def make_client_file(
    authority: Authority, *, name: str, role: str, cluster: str, now: datetime, validity: timedelta
) -> ClientFile:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"Mirrorplane {cluster}"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + validity)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    certificate = leaf_extensions(builder, authority, key.public_key()).sign(authority.key, hashes.SHA256())
    password = new_password()
    content = pkcs12.serialize_key_and_certificates(
        f"{name} ({role}) {cluster}".encode(),
        key,
        certificate,
        [authority.certificate],
        serialization.BestAvailableEncryption(password.encode()),
    )
    return ClientFile(f"{certificate.serial_number:X}", now + validity, content, password)


def new_password() -> str:
    signs = "".join(secrets.choice(_SIGNS) for _ in range(_PASSWORD_SIGNS))
    return "-".join(signs[start : start + _GROUP] for start in range(0, len(signs), _GROUP))
