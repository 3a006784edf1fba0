"""The lab's certificate authority: signs what its HTTPS endpoints present; its VMs and its Functions host trust it.

Files below the lab's directory: `ca.pem`, `ca-key.pem` (0600), `trust.pem` (the system's authorities and this one) and,
per server, `<name>.pem` with `<name>-key.pem` (0600). Valid for a week: a lab does not live longer.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME: Final = datetime.timedelta(days=7)
SYSTEM_BUNDLE: Final = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    certificate: Path
    key: Path


class Authority:
    """Made by `create`; one per lab."""

    def __init__(self, directory: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._directory = directory
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, directory: Path, lab_id: str) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Mirrorplane lab {lab_id}")])
        builder = _builder(name, name, key.public_key())
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(usage, critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())
        authority = cls(directory, certificate, key)
        authority.path.write_text(authority.pem)
        _write_key(directory / "ca-key.pem", key)
        system = SYSTEM_BUNDLE.read_text() if SYSTEM_BUNDLE.exists() else ""
        authority.trust.write_text(f"{system}\n{authority.pem}")
        return authority

    @property
    def pem(self) -> str:
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def path(self) -> Path:
        return self._directory / "ca.pem"

    @property
    def trust(self) -> Path:
        """For REQUESTS_CA_BUNDLE and SSL_CERT_FILE: the system's authorities and this one."""
        return self._directory / "trust.pem"

    def issue(self, name: str, address: str) -> ServerCertificate:
        """A server certificate for an IP address."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self._certificate.subject, key.public_key())
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address)), x509.DNSName("localhost")])
        builder = builder.add_extension(alternative, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(signer, critical=False).sign(self._key, hashes.SHA256())
        made = ServerCertificate(self._directory / f"{name}.pem", self._directory / f"{name}-key.pem")
        made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + self.pem.encode())
        _write_key(made.key, key)
        return made


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
