"""What the executor works with: the control plane's memory, Azure, a clock. All injected."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.api.plane import ControlPlane
from shared.azure.arm import AzureArm, AzureMachines
from shared.azure.ports import Arm, Machines
from shared.azure.session import AzureSession
from shared.azure.settings import AzureSettings
from shared.store.ports import Store


@dataclass(frozen=True)
class Executor:
    """`plane.clock` is the only clock."""

    plane: ControlPlane
    arm: Arm
    machines: Machines

    @property
    def store(self) -> Store:
        return self.plane.store

    def now(self) -> datetime:
        return self.plane.clock()


_executors: Final[weakref.WeakKeyDictionary[Store, Executor]] = weakref.WeakKeyDictionary()


def executor_of(plane: ControlPlane, client_id: str | None) -> Executor:
    """The executor of a control plane; its ARM clients are made at first use and shared by the process."""
    found = _executors.get(plane.store)
    if found is None:
        settings = plane.settings
        session = AzureSession(AzureSettings(settings.subscription_id, settings.arm_endpoint, client_id))
        found = Executor(plane, AzureArm(session), AzureMachines(session))
        _executors[plane.store] = found
    return found
