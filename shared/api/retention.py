"""What is removed when: days of history, finished operations, and everything a deleted cluster left.

Each run takes bounded bites and goes on at the next; being skipped, doubled or killed only delays it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from shared.api.plane import ControlPlane
from shared.structured_log import Log

KEPT_DAYS: Final = 7
OPERATIONS_KEPT: Final = timedelta(days=30)  # the guidelines ask for 24 hours at least
MAX_ROWS_PER_RUN: Final = 5000  # per table family; a node writes 17,280 heartbeats a day, a run is hourly
PAGE: Final = 100
log = Log("mirrorplane.retention")


async def remove_expired(plane: ControlPlane) -> dict[str, int]:
    """Returns how many rows of each kind went."""
    now = plane.clock()
    oldest = now.date() - timedelta(days=KEPT_DAYS)
    removed = {"days": 0, "events": 0, "operations": 0, "deletedClusters": 0}
    live: set[str] = set()
    after: str | None = None
    while True:
        page = await plane.store.clusters.page(after, PAGE)
        for entry in page.items:
            live.add(entry.value.id)
            removed["days"] += await plane.store.retention.purge_days(entry.value.id, oldest, MAX_ROWS_PER_RUN)
        after = page.next
        if after is None:
            break
    for cluster_id in await plane.store.clusters.deleted():
        if cluster_id in live:
            raise AssertionError(f"cluster {cluster_id} is noted as deleted and lives")
        count = await plane.store.retention.purge_cluster(cluster_id, MAX_ROWS_PER_RUN)
        removed["deletedClusters"] += count
        if count == 0:
            await plane.store.clusters.forget_deleted(cluster_id)
    removed["events"] = await plane.store.retention.purge_events(oldest, MAX_ROWS_PER_RUN)
    removed["operations"] = await plane.store.operations.purge_finished(now - OPERATIONS_KEPT, MAX_ROWS_PER_RUN)
    log.info("retention", **removed)
    return removed
