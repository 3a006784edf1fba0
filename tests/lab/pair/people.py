"""What a person does with the outputs of the deployment, in a browser: names are resolved as Azure's DNS would."""

from __future__ import annotations

import base64
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12


class Names(AbstractResolver):
    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=self._names[host], port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        """Nothing is open."""


def stranger() -> ssl.SSLContext:
    """A browser that was told to go on although it does not know the authority."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass
class Browser:
    names: dict[str, str]
    tls: ssl.SSLContext

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self.tls, resolver=Names(self.names), force_close=True)
        self.session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def get(self, url: str) -> tuple[int, str]:
        async with self.session.get(url) as answer:
            return answer.status, await answer.text()

    async def redeem(self, link: str) -> tuple[int, dict[str, Any]]:
        """What the page behind the link does when its button is pressed."""
        parts = urlsplit(link)
        token = parts.fragment.removeprefix("/credential/")
        url = f"https://{parts.netloc}/pair/v1/credential-downloads"
        async with self.session.post(url, headers={"Authorization": f"Bearer {token}"}) as answer:
            document: dict[str, Any] = await answer.json()
            return answer.status, document


def imported(files: dict[str, Any], directory: Path) -> ssl.SSLContext:
    """Certificate and authority imported as the page says: names are checked from now on."""
    key, certificate, _ = pkcs12.load_key_and_certificates(
        base64.b64decode(files["pkcs12"]), files["password"].encode()
    )
    assert key is not None
    assert certificate is not None
    both = directory / "person.pem"
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    both.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    context = ssl.create_default_context(cadata=files["caPem"])
    context.load_cert_chain(both)
    return context
