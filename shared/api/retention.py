"""What is removed when: days of history, finished operations, and everything a deleted cluster left.

Each run takes bounded bites and goes on at the next; being skipped, doubled or killed only delays it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from shared.alerts.retention import remove_old_alerts
from shared.api.journal import JOURNAL_KEPT_DAYS
from shared.api.plane import ControlPlane
from shared.settings import DEFAULT_RETENTION_DAYS
from shared.store.ports import FLEET
from shared.structured_log import Log

OPERATIONS_KEPT: Final = timedelta(days=30)  # the guidelines ask for 24 hours at least
KEPT_DAYS: Final = DEFAULT_RETENTION_DAYS
VERDICTS_KEPT_DAYS: Final = 90  # few rows, and what a post-mortem asks for
MAX_ROWS_PER_RUN: Final = 5000  # per table family; a node writes 8,640 heartbeats a day, a run is hourly
MAX_PROBE_ROWS_PER_RUN: Final = 50_000  # of all clusters together; a cluster writes 2,880 a day, a run is hourly
PAGE: Final = 100
log = Log("mirrorplane.retention")


async def remove_expired(plane: ControlPlane) -> dict[str, int]:
    """Returns how many rows of each kind went."""
    now = plane.clock()
    oldest = now.date() - timedelta(days=plane.settings.retention_days)
    removed = {"days": 0, "probes": 0, "verdicts": 0, "events": 0, "operations": 0, "deletedClusters": 0}
    oldest_turn = now.date() - timedelta(days=max(VERDICTS_KEPT_DAYS, plane.settings.retention_days))
    live: set[str] = set()
    after: str | None = None
    while True:
        page = await plane.store.clusters.page(after, PAGE)
        for entry in page.items:
            live.add(entry.value.id)
            removed["days"] += await plane.store.retention.purge_days(
                entry.value.id, entry.value.nodes, oldest, MAX_ROWS_PER_RUN
            )
            removed["verdicts"] += await plane.store.retention.purge_turns(
                entry.value.id, oldest_turn, MAX_ROWS_PER_RUN
            )
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
    removed["verdicts"] += await plane.store.retention.purge_turns(FLEET, oldest_turn, MAX_ROWS_PER_RUN)
    removed["probes"] = await plane.store.retention.purge_probes(oldest, MAX_PROBE_ROWS_PER_RUN)
    removed["events"] = await plane.store.retention.purge_events(oldest, MAX_ROWS_PER_RUN)
    removed["operations"] = await plane.store.operations.purge_finished(now - OPERATIONS_KEPT, MAX_ROWS_PER_RUN)
    journal_before = now.date() - timedelta(days=JOURNAL_KEPT_DAYS)
    removed["journal"] = await plane.store.journal.purge(journal_before, MAX_ROWS_PER_RUN)
    removed["alerts"] = await remove_old_alerts(plane, now, MAX_ROWS_PER_RUN)
    log.info("retention", **removed)
    return removed
