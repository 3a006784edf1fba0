"""The managed-identity credential of azure-identity, unmodified, up to an ARM call with the synchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential
from azure.mgmt.resource.resources import ResourceManagementClient

from lab.identity import IdentityEndpoint, TokenIssuer, TokenRefused, serve_identity
from tests.lab.arm.bodies import GROUP, SUBSCRIPTION
from tests.lab.arm.conftest import Lab

CLIENT_ID = "7c1f6c3a-0000-4000-8000-000000000001"


@pytest.fixture
async def platform(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """The environment a function app sees."""
    endpoint = IdentityEndpoint(lab.issuer, header="secret-header", client_ids=frozenset({CLIENT_ID}))
    runner, url = await serve_identity(endpoint, "127.0.0.1", 0)
    monkeypatch.setenv("IDENTITY_ENDPOINT", url)
    monkeypatch.setenv("IDENTITY_HEADER", "secret-header")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(lab.ca))
    yield lab
    await runner.cleanup()


def call_arm(url: str, client_id: str) -> str:
    with (
        ManagedIdentityCredential(client_id=client_id) as credential,
        ResourceManagementClient(credential, SUBSCRIPTION, base_url=url) as client,
    ):
        return str(client.resource_groups.get(GROUP).name)


async def test_the_credential_works_as_in_a_function_app(platform: Lab) -> None:
    assert await asyncio.to_thread(call_arm, platform.url, CLIENT_ID) == GROUP


async def test_an_unknown_identity_gets_no_token(platform: Lab) -> None:
    with pytest.raises((ClientAuthenticationError, CredentialUnavailableError)):
        await asyncio.to_thread(call_arm, platform.url, "7c1f6c3a-0000-4000-8000-00000000dead")


async def test_a_wrong_header_gets_no_token(platform: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "guess")
    with pytest.raises((ClientAuthenticationError, CredentialUnavailableError)):
        await asyncio.to_thread(call_arm, platform.url, CLIENT_ID)


def test_tokens_survive_a_restart_of_the_lab_and_end_at_their_time(tmp_path: Path) -> None:
    audience = frozenset({"https://management.azure.com"})
    token = TokenIssuer.from_file(tmp_path / "key").issue("https://management.azure.com/", "app")
    again = TokenIssuer.from_file(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert again.check(token.text, audience)["appid"] == "app"
    later = TokenIssuer((tmp_path / "key").read_bytes(), clock=lambda: token.expires_on + 1.0)
    with pytest.raises(TokenRefused):
        later.check(token.text, audience)
    with pytest.raises(TokenRefused):
        TokenIssuer(b"x" * 32).check(token.text, audience)
