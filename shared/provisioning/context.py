"""What a reconcile tick works with: memory, Azure, settings, clock, limits. All injected; nothing is global."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from shared.azure.ports import Arm
from shared.provisioning.limits import Limits
from shared.provisioning.windows_artifacts import WindowsArtifacts
from shared.store.ports import Store


class AgentWheelMissing(Exception):
    """No node can be booted without the agent."""


@dataclass(frozen=True)
class AgentWheel:
    """The agent package that nodes fetch at their first boot."""

    path: Path

    @cached_property
    def sha256(self) -> str:
        """Raises AgentWheelMissing."""
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as error:
            raise AgentWheelMissing(
                f"the agent wheel {self.path} cannot be read ({error.strerror}); set MIRRORPLANE_AGENT_WHEEL"
            ) from error


@dataclass(frozen=True)
class Context:
    store: Store
    arm: Arm
    subscription_id: str
    public_url: str
    control_plane_addresses: tuple[str, ...]
    agent_wheel: Path | None
    clock: Callable[[], datetime]
    windows: WindowsArtifacts | None = None
    """What Windows nodes download; None: this control plane makes none."""
    limits: Limits = field(default_factory=Limits)
