"""Which Azure the control plane talks to, from the app settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

PUBLIC_CLOUD: Final = "https://management.azure.com"


class AzureSettingError(ValueError):
    """An app setting is missing or wrong; the message names it."""


@dataclass(frozen=True, slots=True)
class AzureSettings:
    """`client_id`: of the user-assigned identity; None uses the system-assigned one."""

    subscription_id: str
    endpoint: str = PUBLIC_CLOUD
    client_id: str | None = None


def azure_settings(environment: Mapping[str, str]) -> AzureSettings:
    """Reads MIRRORPLANE_SUBSCRIPTION_ID, MIRRORPLANE_ARM_ENDPOINT, AZURE_CLIENT_ID. Raises AzureSettingError."""
    subscription = environment.get("MIRRORPLANE_SUBSCRIPTION_ID", "").strip()
    if not subscription:
        raise AzureSettingError("app setting MIRRORPLANE_SUBSCRIPTION_ID is missing; set it to the subscription's id")
    endpoint = (environment.get("MIRRORPLANE_ARM_ENDPOINT") or PUBLIC_CLOUD).rstrip("/")
    parts = urlsplit(endpoint)
    if parts.scheme != "https" or not parts.hostname or parts.path or parts.query:
        raise AzureSettingError(f"MIRRORPLANE_ARM_ENDPOINT is {endpoint!r}; give an address like {PUBLIC_CLOUD}")
    return AzureSettings(subscription, endpoint, environment.get("AZURE_CLIENT_ID") or None)
