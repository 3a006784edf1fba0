"""Repair of what a crash left: operations and actions whose message or commands were lost. Level-triggered."""

from __future__ import annotations

from typing import Final

from shared.api.dispatch import repair_cluster
from shared.api.plane import ControlPlane
from shared.api.rotation import advance_rotation
from shared.structured_log import Log

PAGE: Final = 100
log = Log("mirrorplane.repair")


async def repair_fleet(plane: ControlPlane) -> int:
    """Finds operations and actions that a crash or a lost message left behind; returns how many were repaired."""
    repaired = 0
    after: str | None = None
    while True:
        page = await plane.store.clusters.page(after, PAGE)
        for entry in page.items:
            words = await repair_cluster(plane.store, entry.value, plane.clock())
            if words:
                log.warning("repaired", cluster=entry.value.name, what=words)
            repaired += len(words)
            if entry.value.trust is not None and entry.value.trust.rotation is not None:
                await advance_rotation(plane, entry.value)
        after = page.next
        if after is None:
            return repaired
