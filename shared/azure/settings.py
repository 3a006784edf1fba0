"""Which Azure the control plane talks to. Read and checked with all other app settings in `shared.settings`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PUBLIC_CLOUD: Final = "https://management.azure.com"


@dataclass(frozen=True, slots=True)
class AzureSettings:
    """`client_id`: of the user-assigned identity; None uses the system-assigned one."""

    subscription_id: str
    endpoint: str = PUBLIC_CLOUD
    client_id: str | None = None
