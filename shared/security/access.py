"""Who calls the management API: API tokens, the bootstrap token, and the platform's principal where it is enabled.

- API tokens are `mp_<id>_<secret>`; the id finds the row, the secret is compared with its hash.
- The bootstrap token is known by its hash in the app settings and is Admin, so that the first token can be made.
- `X-MS-CLIENT-PRINCIPAL` is believed only with MIRRORPLANE_EASY_AUTH=enabled: without App Service authentication in
  front, any caller could forge it. Its roles are the Entra app roles Admin, Control and Monitor.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.model.principal import AccessRole, ApiToken, Principal
from shared.security.secret import bearer, hashed, matches, new_secret, new_short_id
from shared.store.ports import Tokens

MAX_PRINCIPAL_CHARS: Final = 32_768
_API_TOKEN: Final = re.compile(r"mp_([0-9a-f]{16})_([0-9a-f]{64})")
_ROLES: Final = {role.value: role for role in AccessRole}


@dataclass(frozen=True)
class AccessRules:
    bootstrap_token_sha256: str | None
    easy_auth: bool


async def create_token(
    tokens: Tokens, *, name: str, role: AccessRole, created_by: str, now: datetime, expires_at: datetime | None
) -> tuple[ApiToken, str]:
    """The stored token and its clear text, which is shown once and never again."""
    token_id, secret = new_short_id(), new_secret()
    token = ApiToken(
        id=token_id,
        name=name,
        role=role,
        secret_sha256=hashed(secret),
        created_at=now,
        created_by=created_by,
        expires_at=expires_at,
    )
    await tokens.create(token)
    return token, f"mp_{token_id}_{secret}"


async def authenticate(
    headers: Mapping[str, str], tokens: Tokens, rules: AccessRules, now: datetime
) -> Principal | None:
    """The caller, or None. `headers` have lower-case names."""
    presented = bearer(headers.get("authorization"))
    if presented is not None:
        if rules.bootstrap_token_sha256 is not None and matches(presented, rules.bootstrap_token_sha256):
            return Principal("bootstrap", "bootstrap token", "bootstrap", frozenset({AccessRole.ADMIN}))
        found = _API_TOKEN.fullmatch(presented)
        if found is not None:
            return await _by_token(found.group(1), found.group(2), tokens, now)
    if rules.easy_auth:
        return platform_principal(headers.get("x-ms-client-principal"))
    return None


async def _by_token(token_id: str, secret: str, tokens: Tokens, now: datetime) -> Principal | None:
    token = await tokens.get(token_id)
    if token is None or not matches(secret, token.secret_sha256):
        return None
    if token.expires_at is not None and now >= token.expires_at:
        return None
    return Principal(token.id, token.name, "token", frozenset({token.role}))


def platform_principal(header: str | None) -> Principal | None:
    """The principal App Service authentication put into the header; None if it is absent or no such document."""
    if not header or len(header) > MAX_PRINCIPAL_CHARS:
        return None
    try:
        body = json.loads(base64.b64decode(header, validate=True))
    except (binascii.Error, UnicodeDecodeError, json.JSONDecodeError):
        return None
    if not isinstance(body, dict) or not isinstance(body.get("claims"), list):
        return None
    claims = [
        (claim["typ"], claim["val"])
        for claim in body["claims"]
        if isinstance(claim, dict) and isinstance(claim.get("typ"), str) and isinstance(claim.get("val"), str)
    ]
    role_types = {"roles", body.get("role_typ")}
    name_types = {"name", "preferred_username", body.get("name_typ")}
    roles = frozenset(_ROLES[value] for kind, value in claims if kind in role_types and value in _ROLES)
    identity = next(
        (
            value
            for kind, value in claims
            if kind in ("oid", "http://schemas.microsoft.com/identity/claims/objectidentifier")
        ),
        None,
    )
    if identity is None:
        return None
    name = next((value for kind, value in claims if kind in name_types), identity)
    return Principal(identity, name, "entra", roles)
