"""The App Service managed-identity endpoint, and the tokens it gives.

`ManagedIdentityCredential` finds it through IDENTITY_ENDPOINT and IDENTITY_HEADER, as in a function app on Azure
(learn.microsoft.com: "How to use managed identities for App Service", REST protocol 2019-08-01), unmodified. A token is
a JWT signed with the lab's key (HS256), so it stays valid over a restart of the lab and needs no table. ARM checks
signature, audience and expiry; roles are not modelled: whoever has the identity may do everything in the subscription.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from lab.serve import serve_app

API_VERSION = "2019-08-01"
LIFETIME_S = 24 * 3600  # what App Service gives
KEY_BYTES = 32


class TokenRefused(Exception):
    """Why a bearer token is not accepted; `code` is ARM's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    expires_on: int  # seconds since the epoch
    resource: str


class TokenIssuer:
    def __init__(self, key: bytes, *, tenant_id: str = "", clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._tenant_id = tenant_id
        self._clock = clock

    @classmethod
    def from_file(cls, path: Path) -> TokenIssuer:
        """The lab's signing key; made (0600) at the first call."""
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
        return cls(path.read_bytes())

    def issue(self, resource: str, client_id: str, *, lifetime_s: int = LIFETIME_S) -> Token:
        now = int(self._clock())
        claims = {
            "aud": resource,
            "iss": f"https://sts.windows.net/{self._tenant_id}/",
            "appid": client_id,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime_s,
        }
        head = _encode(json.dumps({"typ": "JWT", "alg": "HS256"}).encode())
        payload = _encode(json.dumps(claims).encode())
        return Token(f"{head}.{payload}.{_encode(self._sign(f'{head}.{payload}'))}", now + lifetime_s, resource)

    def check(self, text: str, audiences: frozenset[str]) -> dict[str, Any]:
        """The claims of a valid token. Raises `TokenRefused`."""
        parts = text.split(".")
        if len(parts) != 3 or not hmac.compare_digest(parts[2], _encode(self._sign(f"{parts[0]}.{parts[1]}"))):
            raise TokenRefused("InvalidAuthenticationToken", "The access token is invalid.")
        claims: dict[str, Any] = json.loads(_decode(parts[1]))
        if claims["exp"] <= self._clock():
            raise TokenRefused("ExpiredAuthenticationToken", "The access token expiry is in the past.")
        if claims["aud"].rstrip("/") not in {audience.rstrip("/") for audience in audiences}:
            raise TokenRefused(
                "InvalidAuthenticationTokenAudience",
                f"The access token has been obtained for wrong audience or resource '{claims['aud']}'.",
            )
        return claims

    def _sign(self, text: str) -> bytes:
        return hmac.new(self._key, text.encode(), hashlib.sha256).digest()


class IdentityEndpoint:
    """Answers the credential: user-assigned identities by `client_ids`, the app's own one without a client id."""

    def __init__(
        self, issuer: TokenIssuer, *, header: str, client_ids: frozenset[str], system_client_id: str = ""
    ) -> None:
        self._issuer = issuer
        self._header = header
        self._client_ids = client_ids
        self._system_client_id = system_client_id

    def app(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/msi/token", self._token)
        return application

    async def _token(self, request: web.Request) -> web.Response:
        if not hmac.compare_digest(request.headers.get("X-IDENTITY-HEADER", "").encode(), self._header.encode()):
            return _refuse(401, "The X-IDENTITY-HEADER is missing or wrong.")
        if request.query.get("api-version") != API_VERSION:
            return _refuse(400, f"The api-version must be {API_VERSION}.")
        resource = request.query.get("resource", "")
        if not resource:
            return _refuse(400, "The query parameter 'resource' is required.")
        client_id = request.query.get("client_id", self._system_client_id)
        if client_id not in self._client_ids | {self._system_client_id} or not client_id:
            return _refuse(400, "No managed identity was found for the specified ClientId/ResourceId/PrincipalId.")
        token = self._issuer.issue(resource, client_id)
        return web.json_response(
            {
                "access_token": token.text,
                "expires_on": str(token.expires_on),
                "resource": resource,
                "token_type": "Bearer",
                "client_id": client_id,
            }
        )


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"statusCode": status, "message": message}, status=status)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def serve_identity(endpoint: IdentityEndpoint, host: str, port: int) -> tuple[web.AppRunner, str]:
    """(runner, value for IDENTITY_ENDPOINT). Plain HTTP, as the platform's own endpoint on a loopback address."""
    runner, base = await serve_app(endpoint.app(), host, port)
    return runner, f"{base}/msi/token"
