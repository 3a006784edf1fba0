"""The certificate authority of a cluster and the certificates of its nodes.

Here, because a pair without a control plane has its authority on its nodes; the control plane issues by the same code.
ECDSA P-256. Extensions are those that strict verification demands (Python >= 3.13 sets VERIFY_X509_STRICT: key
usage, subject and authority key identifiers, critical basic constraints). The names of a certificate are set here and
never taken from the request: a node proves possession of a key, nothing else.
Limits: no revocation lists (a node's credential and its peer's decision end a node; revoked certificates of people
travel to the nodes in heartbeat answers); a node certificate is valid for `NODE_VALIDITY` and renewed by its node.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mirror_agent.contract import NodeName

AUTHORITY_VALIDITY: Final = timedelta(days=3650)
NODE_VALIDITY: Final = timedelta(days=730)
BACKDATED: Final = timedelta(hours=1)  # a node whose clock is behind must still accept what was issued just now


class RequestRefused(ValueError):
    """The certificate request is no request, not signed by its key, or of a kind we do not issue for."""


@dataclass(frozen=True)
class Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def certificate_pem(self) -> str:
        return _pem(self.certificate)

    @property
    def key_bytes(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def new_authority(cluster: str, cluster_id: str, now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Mirrorplane"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{cluster} {cluster_id}"),
            # Two authorities of a cluster, old and new, must not have one name.
            x509.NameAttribute(NameOID.SERIAL_NUMBER, secrets.token_hex(8)),
        ]
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key.public_key(), now, AUTHORITY_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def load_authority(certificate_pem: str, key_bytes: bytes) -> Authority:
    key = serialization.load_der_private_key(key_bytes, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"the key of an authority is elliptic-curve; found {type(key).__name__}")
    return Authority(x509.load_pem_x509_certificate(certificate_pem.encode()), key)


def verified_public_key(csr_pem: str) -> ec.EllipticCurvePublicKey:
    """The public key of a request that proves possession of its private key. Raises RequestRefused."""
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RequestRefused(f"csrPem is no certificate request in PEM form: {error}") from None
    if not signed:
        raise RequestRefused("csrPem is not signed by the key it holds")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RequestRefused("csrPem must hold an elliptic-curve key on P-256 (prime256v1)")
    return key


def public_key_sha256(key: ec.EllipticCurvePublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def certificate_sha256(certificate: x509.Certificate) -> str:
    """As nodes report it."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def node_dns_name(node: NodeName, cluster_id: str) -> str:
    """The name by which the peer recognises a node, whatever its addresses."""
    return f"{node}.{cluster_id}.mirror"


def issue_node_certificate(
    authority: Authority,
    key: ec.EllipticCurvePublicKey,
    *,
    cluster: str,
    cluster_id: str,
    node: NodeName,
    addresses: Sequence[str],
    now: datetime,
    host_names: Sequence[str] = (),
) -> str:
    """PEM of a certificate for both directions of mutual TLS, naming the node, its addresses, and its host names."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{cluster}-{node}")])
    names: list[x509.GeneralName] = [x509.DNSName(node_dns_name(node, cluster_id))]
    names += [x509.DNSName(name) for name in dict.fromkeys(host_names)]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in dict.fromkeys(addresses)]
    builder = (
        _builder(subject, authority.certificate.subject, key, now, NODE_VALIDITY)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return _pem(leaf_extensions(builder, authority, key).sign(authority.key, hashes.SHA256()))


def leaf_extensions(
    builder: x509.CertificateBuilder, authority: Authority, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """What strict verification wants of every certificate that signs nothing."""
    issuer = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, validity: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + validity)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
