"""Wrapping private keys with a key of the application settings: AES-256-GCM, bound to the cluster they belong to.

The cluster id is the additional data, so a wrapped key copied into another cluster's row does not open.
Replacing the wrapping key: the new one wraps, the previous one still opens, until everything was wrapped anew
(`shared.api.key_care`); then the previous one is taken out of the settings.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION: Final = "v1:"
_NONCE_BYTES: Final = 12


class CannotUnwrap(Exception):
    """The wrapped key is damaged, of another cluster, or wrapped by another wrapping key."""


@dataclass(frozen=True)
class WrappingKeys:
    current: bytes = field(repr=False)
    previous: bytes | None = field(default=None, repr=False)

    @property
    def all(self) -> tuple[bytes, ...]:
        """The current one first."""
        return (self.current,) if self.previous is None else (self.current, self.previous)


def opened(keys: WrappingKeys, wrapped: str, cluster_id: str) -> tuple[bytes, bool]:
    """The secret, and whether the current key opened it. Raises CannotUnwrap."""
    try:
        return unwrap(keys.current, wrapped, cluster_id), True
    except CannotUnwrap:
        if keys.previous is None:
            raise
    return unwrap(keys.previous, wrapped, cluster_id), False


def wrap(wrapping_key: bytes, secret: bytes, cluster_id: str) -> str:
    nonce = os.urandom(_NONCE_BYTES)
    return (
        _VERSION + base64.b64encode(nonce + AESGCM(wrapping_key).encrypt(nonce, secret, cluster_id.encode())).decode()
    )


def unwrap(wrapping_key: bytes, wrapped: str, cluster_id: str) -> bytes:
    """Raises CannotUnwrap."""
    if not wrapped.startswith(_VERSION):
        raise CannotUnwrap(f"the key of cluster {cluster_id} is wrapped in an unknown form; expected {_VERSION}")
    try:
        raw = base64.b64decode(wrapped.removeprefix(_VERSION), validate=True)
        return AESGCM(wrapping_key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], cluster_id.encode())
    except (InvalidTag, binascii.Error, ValueError):
        raise CannotUnwrap(
            f"the key of cluster {cluster_id} does not open; was MIRRORPLANE_WRAPPING_KEY replaced?"
        ) from None
