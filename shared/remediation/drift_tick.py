"""The slow round over the fleet that looks for drift, a few clusters at each run.

A cluster is looked at again after `PERIOD`, sooner if something was found; what was found stands in its remediation
row and, when it changed, in the timeline. Repair is asked of the reconciler under an id made of what was found and of
the generation, so the same drift found twice while it is being repaired makes one operation. Drift that nobody is going
to repair raises the alert `drift`, at every look anew; the first look without it clears it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from shared.alerts.raising import clear_alert, raise_alert
from shared.model.cluster import SETTLED, ClusterRecord
from shared.model.remediation import Deviation, RemediationRecord
from shared.remediation.commands import REQUESTED_BY
from shared.remediation.context import Executor
from shared.remediation.drift import DriftUnknown, find_drift, judge
from shared.remediation.journal import drift_event
from shared.remediation.policy import policy_of
from shared.remediation.rules import sentence
from shared.remediation.update import ask_reconciler
from shared.store.keys import digest
from shared.store.ports import Changed, Exists, StoreError, Versioned
from shared.structured_log import Log

PERIOD: Final = timedelta(minutes=15)
PERIOD_WITH_DRIFT: Final = timedelta(minutes=3)  # whoever mends it wants to see the alert go
MAX_PER_RUN: Final = 50  # some 17 reads each; ARM allows a subscription 250 and refills 25 a second
PAGE: Final = 100
ALERT: Final = "drift"
ALERT_SUBJECT: Final = "resources"
# What is repaired, or is as it should be, is nothing to tell anybody; "drift-waits" is over when its reason is.
_CALM: Final = frozenset({"as-wanted", "drift-repaired", "drift-waits"})
log = Log("mirrorplane.remediation")


async def check_drift_of_fleet(executor: Executor) -> int:
    """Returns how many clusters were compared. Raises StoreError if the clusters cannot be listed."""
    compared = 0
    after: str | None = None
    while compared < MAX_PER_RUN:
        page = await executor.store.clusters.page(after, PAGE)
        for entry in page.items:
            record = entry.value
            if compared >= MAX_PER_RUN or record.state not in SETTLED or not record.ever_succeeded:
                continue
            try:
                compared += await check_drift(executor, record)
            except StoreError as error:
                log.failure("drift_failed", error, cluster=record.name)
        after = page.next
        if after is None:
            break
    return compared


async def check_drift(executor: Executor, cluster: ClusterRecord, *, period: timedelta = PERIOD) -> bool:
    """Whether the cluster was compared. Raises StoreError."""
    now = executor.now()
    stored = await executor.store.remediations.get(cluster.id)
    before = (
        RemediationRecord(cluster_id=cluster.id, cluster=cluster.name, generation=cluster.generation)
        if stored is None
        else stored.value
    )
    due = min(period, PERIOD_WITH_DRIFT) if before.drift else period
    if before.drift_checked_at is not None and now - before.drift_checked_at < due:
        return False
    if before.open_action is not None:
        return False  # a VM that is being replaced is no drift
    settings = executor.plane.settings
    try:
        found = await find_drift(
            executor.arm,
            cluster,
            subscription_id=settings.subscription_id,
            control_plane_addresses=settings.control_plane_addresses,
        )
    except DriftUnknown as error:
        log.info("drift_unknown", cluster=cluster.name, why=str(error))
        return True
    await _conclude(executor, cluster, stored, before, found, now)
    return True


async def _conclude(
    executor: Executor,
    cluster: ClusterRecord,
    stored: Versioned[RemediationRecord] | None,
    before: RemediationRecord,
    found: tuple[Deviation, ...],
    now: datetime,
) -> None:
    rule, text = judge(found, cluster, policy_of(cluster, now), now)
    if rule == "drift-repaired" and found == before.drift and cluster.operation.requested_by == REQUESTED_BY:
        # Our own repair was the last operation and the same is there again: repeating it would change nothing.
        names = ", ".join(entry.resource for entry in found)
        rule, text = "drift-returns", sentence("drift-returns", names=names)
    record = before.model_copy(update={"drift": found, "drift_checked_at": now})
    try:
        await executor.store.remediations.put(record, None if stored is None else stored.etag)
    except (Exists, Changed):
        return  # written meanwhile; the next run compares again
    if found != before.drift:
        log.info("drift", cluster=cluster.name, rule=rule, sentence=text)
        key = digest(rule, now.isoformat(), *(entry.resource for entry in found))
        await executor.store.events.record(drift_event(record, rule, text, f"{cluster.id}-{key}", now))
    if rule in _CALM:
        await clear_alert(executor.plane, cluster.name, ALERT, ALERT_SUBJECT, now)
    else:
        await raise_alert(executor.plane, cluster.name, ALERT, ALERT_SUBJECT, text, now)
    if rule == "drift-repaired":
        parts = [f"{entry.resource}:{entry.kind}" for entry in found]
        key = digest(cluster.id, cluster.operation.id, *parts)
        await ask_reconciler(executor.plane, cluster.name, cluster.id, f"drift-{key}", text)
