"""Everything an endpoint may use, put together by `shared.composition`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from shared.alerts.courier import Courier
from shared.api.probe import Prober
from shared.audit.platform import BlindPlatform, Platform
from shared.azure.ports import Arm, BlindArm
from shared.console.board import Board
from shared.settings import Settings
from shared.store.ports import Store


def _age_from_now() -> Callable[[], float]:
    began_s = time.monotonic()
    return lambda: time.monotonic() - began_s


@dataclass(frozen=True)
class ControlPlane:
    """`clock` is aware UTC. `new_id` makes identities of clusters, operations and requests (UUID texts).
    `platform` is Azure's own view of a cluster, asked where the cheap facts leave doubt. A `courier` without channels
    tells nobody: alerts are raised and shown all the same. `process_age_s` judges a plane that never audited."""

    settings: Settings
    store: Store
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    prober: Prober
    arm: Arm = field(default_factory=BlindArm)
    platform: Platform = field(default_factory=BlindPlatform)
    courier: Courier = field(default_factory=Courier)
    board: Board = field(default_factory=Board)
    process_age_s: Callable[[], float] = field(default_factory=_age_from_now)
