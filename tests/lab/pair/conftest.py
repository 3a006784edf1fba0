"""A lab without a control plane, and a place on its Internet with the agent's wheel and the module."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab.authority import Authority
from lab.cloud import Cloud
from lab.demo.cluster import application
from lab.serve import serve_app
from lab.wheels import agent_wheel

TOKEN = "sig=artifacts"


@dataclass(frozen=True)
class Place:
    cloud: Cloud
    parameters: dict[str, Any]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with Cloud(tmp_path / "lab", with_functions=False) as cloud:
        wheel, module = agent_wheel(), json.dumps({"application": application("ledger")}).encode()
        contents = {wheel.name: wheel.read_bytes(), "module.json": module}

        async def fetched(request: web.Request) -> web.Response:
            if request.query_string != TOKEN or request.match_info["name"] not in contents:
                return web.Response(status=403)
            return web.Response(body=contents[request.match_info["name"]])

        site = web.Application()
        site.router.add_get("/artifacts/{name}", fetched)
        runner, url = await serve_app(site, cloud.address, 0, _tls(cloud))
        try:
            yield Place(
                cloud,
                {
                    "artifactsLocation": f"{url}/artifacts",
                    "artifactsSasToken": f"?{TOKEN}",
                    "wheelName": wheel.name,
                    "wheelSha256": hashlib.sha256(contents[wheel.name]).hexdigest(),
                    "moduleSha256": hashlib.sha256(module).hexdigest(),
                    "adminAddresses": [f"{cloud.address}/32"],
                    "clientAddresses": ["Internet"],
                    "adminPassword": "a-Long-Password-1",
                },
            )
        finally:
            await runner.cleanup()


def _tls(cloud: Cloud) -> ssl.SSLContext:
    """Of the authority that the lab's machines trust."""
    key = serialization.load_pem_private_key((cloud.directory / "ca-key.pem").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = x509.load_pem_x509_certificate(cloud.info.ca.read_bytes())
    made = Authority(cloud.directory, certificate, key).issue("artifacts", cloud.address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    return context
