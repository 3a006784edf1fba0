"""An ARM endpoint over loopback HTTPS and the vendor's unmodified asynchronous clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.mgmt.compute.aio import ComputeManagementClient
from azure.mgmt.network.aio import NetworkManagementClient
from azure.mgmt.resource.resources.aio import ResourceManagementClient

from lab.arm.core import Timing
from lab.arm.events import ResourceEvent
from lab.arm.server import serve_arm
from lab.arm.service import ArmService
from lab.identity import TokenIssuer
from tests.lab.arm.bodies import GROUP, LOCATION, SUBSCRIPTION
from tests.lab.arm.certificates import make_tls
from tests.lab.arm.null_provider import NullProvider

QUICK = Timing(write_s=0.01, delete_s=0.01, machine_s=0.01, action_s=0.01, retry_after_s=None)
LAB_KEY = "a-lab-key-for-tests"


class LabCredential:
    """An asynchronous TokenCredential over the lab's issuer."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self._issuer = issuer

    async def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        token = self._issuer.issue(scopes[0].removesuffix("/.default"), "test")
        return AccessToken(token.text, token.expires_on)

    async def close(self) -> None:
        """Nothing to close."""

    async def __aenter__(self) -> LabCredential:
        return self

    async def __aexit__(self, *_details: object) -> None:
        """Nothing to close."""


@dataclass
class Lab:
    service: ArmService
    provider: NullProvider
    issuer: TokenIssuer
    url: str
    ca: Path
    events: list[ResourceEvent] = field(default_factory=list)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    network: Any = None
    compute: Any = None
    resources: Any = None

    async def open(self) -> None:
        options: dict[str, Any] = {
            "base_url": self.url,
            "connection_verify": str(self.ca),
            "polling_interval": 0.02,
            "retry_backoff_factor": 0.02,
        }
        credential = LabCredential(self.issuer)
        enter = self.stack.enter_async_context
        self.network = await enter(NetworkManagementClient(credential, SUBSCRIPTION, **options))
        self.compute = await enter(ComputeManagementClient(credential, SUBSCRIPTION, **options))
        self.resources = await enter(ResourceManagementClient(credential, SUBSCRIPTION, **options))


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def empty_lab(tls_files: tuple[Any, Path]) -> AsyncIterator[Lab]:
    context, ca = tls_files
    provider, events = NullProvider(), list[ResourceEvent]()
    service = ArmService(subscription_id=SUBSCRIPTION, provider=provider, timing=QUICK, emit=events.append)
    issuer = TokenIssuer(b"k" * 32)
    runner, url = await serve_arm(service, "127.0.0.1", 0, context, issuer=issuer, lab_key=LAB_KEY)
    lab = Lab(service, provider, issuer, url, ca, events)
    try:
        await lab.open()
        yield lab
    finally:
        await lab.stack.aclose()
        await service.close()
        await runner.cleanup()


@pytest.fixture
async def lab(empty_lab: Lab) -> Lab:
    """With the resource group."""
    await empty_lab.resources.resource_groups.create_or_update(GROUP, {"location": LOCATION, "tags": {"own": "yes"}})
    return empty_lab
