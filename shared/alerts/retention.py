"""What alerting keeps and for how long: resolved alerts a year, dead letters and finished deliveries 90 days.

Each run takes bounded bites and goes on at the next, like all retention.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from shared.api.plane import ControlPlane

ALERTS_KEPT: Final = timedelta(days=365)
LETTERS_KEPT: Final = timedelta(days=90)
SILENCES_KEPT: Final = timedelta(days=30)  # after their end


async def remove_old_alerts(plane: ControlPlane, now: datetime, limit: int) -> int:
    """Returns how many rows went. Raises StoreError."""
    store = plane.store.alerting
    removed = await store.alerts.purge_history((now - ALERTS_KEPT).date(), limit)
    removed += await store.deliveries.purge_done((now - LETTERS_KEPT).date(), limit)
    removed += await store.dead_letters.purge(now - LETTERS_KEPT, limit)
    for silence in await store.silences.all():
        if now - silence.until > SILENCES_KEPT:
            await store.silences.delete(silence.id)
            removed += 1
    return removed
