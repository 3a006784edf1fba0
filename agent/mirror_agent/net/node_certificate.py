"""The node's certificate, its private key and the authorities it trusts: checked, kept on disk, read again.

Key and certificate are one file (`node.pem`), replaced by one rename: after a crash at any moment both are the old ones
or both the new ones. The trusted authorities are a file of their own that always holds the issuer of the certificate,
whatever is asked for: it grows before a new certificate is written and shrinks after it, so no order of the control
plane and no crash leaves a node that its own trust would refuse.
Limits: MAX_TRUSTED_AUTHORITIES; what is checked here is the node's own side, the peer's is its own business.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mirror_agent.contract import MAX_TRUSTED_AUTHORITIES, CertificateReport
from mirror_agent.paths import SECRET_FILE_MODE, Paths, replace_file

_KEY_MARK: Final = b"PRIVATE KEY-----"


class CertificateRefused(ValueError):
    """What the control plane sent does not fit this node; the message says which part of it."""


@dataclass(frozen=True)
class NodeCertificate:
    """A certificate with the authorities trusted beside it, the issuer among them."""

    certificate: x509.Certificate
    issuer: x509.Certificate
    trusted: tuple[x509.Certificate, ...]

    @property
    def issuer_sha256(self) -> str:
        return fingerprint(self.issuer)

    @property
    def begins(self) -> datetime:
        return self.certificate.not_valid_before_utc

    @property
    def ends(self) -> datetime:
        return self.certificate.not_valid_after_utc

    def report(self, failure: str = "") -> CertificateReport:
        return CertificateReport(
            serial=f"{self.certificate.serial_number:X}",
            expires_utc=self.ends.isoformat(),
            issuer_sha256=self.issuer_sha256,
            trusted_sha256=tuple(sorted(fingerprint(authority) for authority in self.trusted)),
            failure=failure,
        )


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def authorities_of(ca_pem: bytes) -> tuple[x509.Certificate, ...]:
    """The authorities of a bundle, each once. Raises CertificateRefused."""
    try:
        found = x509.load_pem_x509_certificates(ca_pem)
    except ValueError as error:
        raise CertificateRefused(f"the control plane sent no usable authority: {error}") from None
    once = tuple({fingerprint(authority): authority for authority in found}.values())
    if len(once) > MAX_TRUSTED_AUTHORITIES:
        raise CertificateRefused(f"{len(once)} authorities; {MAX_TRUSTED_AUTHORITIES} are possible at a time")
    for authority in once:
        if not _may_issue(authority):
            raise CertificateRefused(f"{authority.subject.rfc4514_string()} is no certificate of an authority")
    return once


def issued(
    certificate_pem: str, authorities: tuple[x509.Certificate, ...], key: ec.EllipticCurvePrivateKey
) -> NodeCertificate:
    """The certificate, if it is for this key and issued by one of the authorities. Raises CertificateRefused."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    except ValueError as error:
        raise CertificateRefused(f"the control plane sent no usable certificate: {error}") from None
    if certificate.public_key() != key.public_key():
        raise CertificateRefused("the control plane's certificate is for another key than this node's; enrol again")
    return _with_issuer(certificate, authorities)


def fits(found: NodeCertificate, dns_name: str, now: datetime) -> NodeCertificate:
    """`found`, if the peer will recognise it by `dns_name` and it holds at `now`. Raises CertificateRefused."""
    try:
        names = found.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns_names = names.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        dns_names = []
    if dns_name not in dns_names:
        raise CertificateRefused(f"the certificate is for {dns_names}; the peer expects {dns_name!r}")
    if not found.begins <= now < found.ends:
        raise CertificateRefused(
            f"the certificate holds from {found.begins.isoformat()} to {found.ends.isoformat()}, "
            f"and this node's clock says {now.isoformat()}; set the clock"
        )
    return found


def load_node_certificate(paths: Paths) -> NodeCertificate:
    """What is on disk. Raises OSError, or CertificateRefused when the files do not belong together."""
    certificate = x509.load_pem_x509_certificate(paths.node_certificate.read_bytes())
    return _with_issuer(certificate, authorities_of(paths.ca_certificate.read_bytes()))


def store_pair(paths: Paths, certificate_pem: str, key: ec.EllipticCurvePrivateKey) -> None:
    """Certificate and key in one step; its authority must be in the trusted ones already."""
    plain = serialization.NoEncryption()
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    replace_file(paths.node_certificate, certificate_pem.rstrip("\n").encode() + b"\n" + key_pem, SECRET_FILE_MODE)


def store_trust(paths: Paths, wanted: tuple[x509.Certificate, ...], used: NodeCertificate) -> NodeCertificate:
    """Trust `wanted`, and in any case the issuer of the certificate in use. Raises CertificateRefused, OSError."""
    trusted = joined(wanted, (used.issuer,))
    content = b"".join(authority.public_bytes(serialization.Encoding.PEM) for authority in trusted)
    replace_file(paths.ca_certificate, content, SECRET_FILE_MODE)
    return NodeCertificate(used.certificate, used.issuer, trusted)


def joined(first: tuple[x509.Certificate, ...], second: tuple[x509.Certificate, ...]) -> tuple[x509.Certificate, ...]:
    """Both, each authority once. Raises CertificateRefused when they are too many."""
    once = tuple({fingerprint(authority): authority for authority in (*first, *second)}.values())
    if len(once) > MAX_TRUSTED_AUTHORITIES:
        raise CertificateRefused(f"{len(once)} authorities; {MAX_TRUSTED_AUTHORITIES} are possible at a time")
    return once


def settle_files(paths: Paths) -> None:
    """A node enrolled by an earlier agent has its key in a file of its own: put both into one."""
    content = paths.node_certificate.read_bytes()
    if _KEY_MARK not in content:
        joint = content.rstrip(b"\n") + b"\n" + paths.node_key.read_bytes()
        replace_file(paths.node_certificate, joint, SECRET_FILE_MODE)


def _with_issuer(certificate: x509.Certificate, authorities: tuple[x509.Certificate, ...]) -> NodeCertificate:
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return NodeCertificate(certificate, authority, authorities)
    raise CertificateRefused("the node certificate is not issued by the cluster's CA, nor by another trusted one")


def _may_issue(authority: x509.Certificate) -> bool:
    try:
        return authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False
