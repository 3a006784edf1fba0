"""Everything an endpoint may use, put together by `shared.composition`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from shared.api.probe import Prober
from shared.settings import Settings
from shared.store.ports import Store


@dataclass(frozen=True)
class ControlPlane:
    """`clock` is aware UTC. `new_id` makes identities of clusters, operations and requests (UUID texts)."""

    settings: Settings
    store: Store
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    prober: Prober
