"""Making, hashing and comparing bearer secrets.

A secret has 256 random bits, so a plain SHA-256 of it needs no salt and no slow hash; comparing is constant-time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

SECRET_BYTES: Final = 32


def new_secret() -> str:
    return secrets.token_hex(SECRET_BYTES)


def new_short_id() -> str:
    """An identity that is not secret: the look-up half of a token."""
    return secrets.token_hex(8)


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(secret: str, sha256_hex: str) -> bool:
    return hmac.compare_digest(hashed(secret), sha256_hex.lower())


def derived(key: bytes, *context: str) -> str:
    """A secret that only the holder of `key` can compute, and always the same one for the same context."""
    message = "\n".join(f"{len(part)}:{part}" for part in context)
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()


def bearer(headers_authorization: str | None) -> str | None:
    """The token of an `Authorization: Bearer …` header, None if there is none."""
    if not headers_authorization:
        return None
    scheme, _, token = headers_authorization.strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
