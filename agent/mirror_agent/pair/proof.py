"""What two nodes prove to each other with the pair's secret, before either has a certificate the other knows.

Every proof is an HMAC-SHA256 under the secret over its purpose, the cluster and the SHA-256 of the certificate that the
admitting node presents on this very TLS connection. A man in the middle has to present a certificate of his own, so the
two ends compute different proofs; he cannot make one, because the secret itself never travels.
Limits: as strong as the secret, which has over 120 random bits (two GUIDs of the template, or `new_secret`); a
guessable one could be searched for offline by whoever asked for one proof.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MIN_SECRET_CHARS: Final = 32
NONCE_CHARS: Final = 64
_KEY_BYTES: Final = 32
_SEAL_NONCE_BYTES: Final = 12
_SEAL: Final = "mirrorplane pair seal 1"
_PROOF: Final = "mirrorplane pair proof 1"


class SealBroken(ValueError):
    """The sealed text is not of this conversation, or was changed."""


@dataclass(frozen=True)
class Conversation:
    """What both ends know of one admission; `server_sha256` is the certificate on the wire as each of them sees it."""

    cluster_id: str
    node: str
    server_sha256: str
    asker_nonce: str
    answerer_nonce: str

    def proof(self, secret: str, purpose: str, *parts: str) -> str:
        """`purpose` keeps a proof of one step from being one of another."""
        return hmac.new(secret.encode(), _joined(_PROOF, purpose, *self._parts, *parts), hashlib.sha256).hexdigest()

    def proves(self, given: str, secret: str, purpose: str, *parts: str) -> bool:
        """Constant in time."""
        return hmac.compare_digest(given.encode(), self.proof(secret, purpose, *parts).encode())

    def seal(self, secret: str, content: bytes) -> str:
        """Base64 of what only this conversation under this secret opens."""
        nonce = secrets.token_bytes(_SEAL_NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher(secret).encrypt(nonce, content, _joined(*self._parts))).decode()

    def open(self, secret: str, sealed: str) -> bytes:
        """Raises SealBroken."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            nonce, text = raw[:_SEAL_NONCE_BYTES], raw[_SEAL_NONCE_BYTES:]
            return self._cipher(secret).decrypt(nonce, text, _joined(*self._parts))
        except (InvalidTag, ValueError) as error:
            raise SealBroken(f"the sealed authority cannot be opened ({type(error).__name__})") from None

    @property
    def _parts(self) -> tuple[str, ...]:
        return self.cluster_id, self.node, self.server_sha256, self.asker_nonce, self.answerer_nonce

    def _cipher(self, secret: str) -> AESGCM:
        salt = hashlib.sha256(_joined(self.asker_nonce, self.answerer_nonce)).digest()
        return AESGCM(HKDF(hashes.SHA256(), _KEY_BYTES, salt, _SEAL.encode()).derive(secret.encode()))


def new_nonce() -> str:
    return secrets.token_hex(NONCE_CHARS // 2)


def new_secret() -> str:
    return secrets.token_hex(32)


def sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _joined(*parts: str) -> bytes:
    """Unambiguous: every part with its length."""
    return "\n".join(f"{len(part.encode())}:{part}" for part in parts).encode()
