"""The SDK clients, made when first needed, and the one way a call to them is run.

Importing azure-mgmt-network costs 0.2 to 1.8 s and up to 325 MB while compiling, so nothing here imports an SDK at
module level, and of the HTTP functions only the dry run of a PUT reaches this code. The synchronous clients run on
threads: the synchronous transport honours REQUESTS_CA_BUNDLE and the proxy settings of the platform, and no call
outlives its deadlines.
The SDK's own retries are off: when to try again is decided by the reconciler, across processes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from shared.azure.faults import ArmError, Fault, FaultKind, kind_of_answer
from shared.azure.settings import AzureSettings

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.core.exceptions import HttpResponseError
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.network import NetworkManagementClient
    from azure.mgmt.resource.resources import ResourceManagementClient

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 20.0
# Both, and room for the token: past this a call is abandoned and counts as transient.
CALL_DEADLINE_S: Final = 40.0


class AzureSession:
    """Clients of one subscription. `credential` None: the managed identity of the function app.

    Calls run on several threads: a client is made once, under a lock, and its transport is opened there too (the SDK's
    transport opens itself at the first request and does so twice when two threads come first together).
    """

    def __init__(self, settings: AzureSettings, credential: TokenCredential | None = None) -> None:
        self.settings = settings
        self._given = credential
        self._making = threading.RLock()
        self._made: dict[str, Any] = {}

    @property
    def credential(self) -> TokenCredential:
        if self._given is not None:
            return self._given
        return cast("TokenCredential", self._once("credential", self._make_credential))

    @property
    def network(self) -> NetworkManagementClient:
        return cast("NetworkManagementClient", self._once("network", self._make_network))

    @property
    def compute(self) -> ComputeManagementClient:
        return cast("ComputeManagementClient", self._once("compute", self._make_compute))

    @property
    def resource(self) -> ResourceManagementClient:
        return cast("ResourceManagementClient", self._once("resource", self._make_resource))

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        with self._making:
            if name not in self._made:
                made = make()
                self._made[name] = made.__enter__() if hasattr(made, "__enter__") else made
            return self._made[name]

    def _make_credential(self) -> TokenCredential:
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=self.settings.client_id)

    def _make_network(self) -> NetworkManagementClient:
        from azure.mgmt.network import NetworkManagementClient

        return NetworkManagementClient(self.credential, self.settings.subscription_id, **self._options())

    def _make_compute(self) -> ComputeManagementClient:
        from azure.mgmt.compute import ComputeManagementClient

        return ComputeManagementClient(self.credential, self.settings.subscription_id, **self._options())

    def _make_resource(self) -> ResourceManagementClient:
        from azure.mgmt.resource.resources import ResourceManagementClient

        return ResourceManagementClient(self.credential, self.settings.subscription_id, **self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "base_url": self.settings.endpoint,
            "retry_total": 0,
            "connection_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
        }

    async def call(self, function: Callable[[], T]) -> T:
        """Runs one SDK call on a thread. Raises ArmError."""
        try:
            async with asyncio.timeout(CALL_DEADLINE_S):
                return await asyncio.to_thread(_translated, function)
        except TimeoutError:
            raise ArmError(
                Fault(FaultKind.TRANSIENT, "CallTimedOut", f"no answer of ARM within {CALL_DEADLINE_S:.0f} s")
            ) from None

    def close(self) -> None:
        with self._making:
            for made in self._made.values():
                made.close()
            self._made.clear()


def _translated(function: Callable[[], T]) -> T:
    from azure.core.exceptions import (
        AzureError,
        ClientAuthenticationError,
        HttpResponseError,
        ServiceRequestError,
        ServiceResponseError,
    )

    try:
        return function()
    except (ServiceRequestError, ServiceResponseError) as error:
        raise ArmError(Fault(FaultKind.TRANSIENT, type(error).__name__, str(error))) from error
    except ClientAuthenticationError as error:
        # Also what the credential raises when the identity endpoint does not answer: there is no status then.
        status = error.status_code or 401
        raise ArmError(_fault(error, status)) from error
    except HttpResponseError as error:
        raise ArmError(_fault(error, error.status_code or 0)) from error
    except AzureError as error:
        raise ArmError(Fault(FaultKind.TRANSIENT, type(error).__name__, str(error))) from error


def _fault(error: HttpResponseError, status: int) -> Fault:
    detail = error.error
    code = (detail.code if detail is not None else None) or error.reason or type(error).__name__
    message = (detail.message if detail is not None else None) or error.message
    headers = getattr(error.response, "headers", None) or {}  # absent when there was no answer
    wait_s = retry_after_s(headers.get("Retry-After"))
    return Fault(kind_of_answer(status, code), code, message, status, wait_s)


def retry_after_s(value: object) -> float | None:
    """Retry-After in seconds; ARM sends whole seconds, never a date."""
    text = str(value).strip() if value is not None else ""
    return float(text) if text.isdigit() else None
