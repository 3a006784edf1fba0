"""Which credential a one-time link belongs to."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from shared.model.client_credential import ClientCredential
from shared.security.secret import matches
from shared.store.ports import Credentials, Versioned

_LINK: Final = re.compile(r"mpc_([0-9a-f-]{36})_([0-9a-f]{16})_([0-9a-f]{64})")


def link_token(cluster_id: str, credential_id: str, secret: str) -> str:
    return f"mpc_{cluster_id}_{credential_id}_{secret}"


async def find_link(credentials: Credentials, token: str, now: datetime) -> Versioned[ClientCredential] | None:
    """The credential an unexpired, unrevoked link belongs to, used or not; None for any other text."""
    found = _LINK.fullmatch(token)
    if found is None:
        return None
    cluster_id, credential_id, secret = found.groups()
    stored = await credentials.client(cluster_id, credential_id)
    if stored is None or not matches(secret, stored.value.secret_sha256):
        return None
    gone = stored.value.revoked_at is not None or now >= stored.value.link_expires_at
    return None if gone else stored
