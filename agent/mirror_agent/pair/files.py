"""What a node of a pair keeps: the authority with its key, the admission that is open, links for people, the facts.

Everything is below `<state>/pair`, mode 0600 in a directory of mode 0700, replaced atomically. Certificate and key of
the authority are one file, so a crash leaves both or none. `agent.json` is written last of all: while it is not there,
the machine is no node, and founding or joining goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mirror_agent.authority import Authority
from mirror_agent.net.identity import AgentFile, store_membership
from mirror_agent.net.node_certificate import authorities_of, issued, store_pair
from mirror_agent.pair.documents import PairFacts, PairModule, configuration
from mirror_agent.paths import SECRET_FILE_MODE, Paths, private_directory, replace_file

_KEY_MARK: Final = b"-----BEGIN PRIVATE KEY-----"


class PairFiles:
    """Locations, and the reading and writing of what is secret."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.directory: Final = paths.state_dir / "pair"

    @property
    def authority(self) -> Path:
        return self.directory / "authority.pem"

    @property
    def admission(self) -> Path:
        return self.directory / "admission.json"

    @property
    def facts(self) -> Path:
        return self.directory / "facts.json"

    @property
    def links(self) -> Path:
        return self.directory / "links"

    @property
    def orders(self) -> Path:
        """What people ordered and the history does not tell yet."""
        return self.directory / "orders"

    @property
    def revoked(self) -> Path:
        """Every certificate this node knows to be revoked; see `revocations`."""
        return self.directory / "revoked.json"

    def write(self, path: Path, content: bytes) -> None:
        private_directory(self.directory)
        private_directory(path.parent)
        replace_file(path, content, SECRET_FILE_MODE)

    def load_authority(self) -> Authority | None:
        """None if this node has none. Raises ValueError for a damaged file."""
        try:
            return authority_of(self.authority.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.authority} is damaged ({error}); copy it from the other node") from None

    def store_authority(self, authority: Authority) -> None:
        self.write(self.authority, authority_pem(authority))

    def load_facts(self) -> PairFacts | None:
        """What was told at the first boot, without its secrets; None on a node that has a control plane."""
        try:
            return PairFacts.model_validate_json(self.facts.read_bytes())
        except FileNotFoundError:
            return None

    def store_facts(self, facts: PairFacts) -> None:
        """The link's secret is kept nowhere but as a hash; the pair's is in the admission while that is open; the
        witness's signature is in agent.json."""
        witness = facts.witness.model_copy(update={"sas": _NO_SECRET})
        kept = facts.model_copy(update={"secret": _NO_SECRET, "link_secret": None, "join": False, "witness": witness})
        self.write(self.facts, kept.model_dump_json(by_alias=True, indent=1).encode() + b"\n")


_NO_SECRET: Final = "0" * 64  # opens nothing: an admission is what is compared with


def authority_pem(authority: Authority) -> bytes:
    """Certificate and key, one after the other."""
    key = authority.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return authority.certificate_pem.encode() + key


def authority_of(content: bytes) -> Authority:
    """Raises ValueError, TypeError."""
    certificate_pem, mark, key_pem = content.partition(_KEY_MARK)
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    key = serialization.load_pem_private_key(mark + key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"the key of an authority is elliptic-curve; found {type(key).__name__}")
    if key.public_key() != certificate.public_key():
        raise ValueError("the authority's key does not belong to its certificate")
    return Authority(certificate, key)


def become_node(
    files: PairFiles,
    facts: PairFacts,
    module: PairModule,
    *,
    certificate_pem: str,
    ca_pem: str,
    key: ec.EllipticCurvePrivateKey,
) -> AgentFile:
    """Write the node's identity, agent.json last. Raises CertificateRefused for a certificate of another key or CA."""
    issued(certificate_pem, authorities_of(ca_pem.encode()), key)
    files.store_facts(facts)
    replace_file(files.paths.ca_certificate, ca_pem.encode(), SECRET_FILE_MODE)
    store_pair(files.paths, certificate_pem, key)
    return store_membership(files.paths, configuration(facts, module))
