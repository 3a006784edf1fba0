"""What people ordered on a node, past the control plane, becomes entries of the operators' journal.

A node numbers its orders, sends them with its reports and repeats them until it is told that they are recorded. Each
becomes one entry: before the entries are written, it is kept under which time they stand, so that the same order
gets the same row however often it comes. In order: a later order never stands before an earlier one of its node.
The time is the node's own, between the cluster's creation and now; a clock that is wrong beyond that is not believed.
Numbers that never came (the node had no room for them) leave one entry that says how many.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mirror_agent.contract import HeartbeatPost, OrderNote

from shared.api.plane import ControlPlane
from shared.model.cluster import ClusterRecord
from shared.model.journal import LOST, JournalEntry, NodeOrders, OrderSeries, RecordedOrder
from shared.model.principal import NodePrincipal
from shared.store.ports import Changed, Exists, StoreError
from shared.structured_log import Log

MAX_ATTEMPTS: Final = 5
# A node that begins a new series has told everything of the old one; only a post that comes late may be of it.
SERIES_KEPT: Final = 4
_STEP: Final = timedelta(microseconds=1)
_STATUS: Final = {"succeeded": 200, "accepted": 202, "refused": 409, "failed": 500, "unknown": 504}
_RESULT: Final = {"succeeded": "done"}
log = Log("mirrorplane.orders")


@dataclass(frozen=True)
class Taken:
    """`orders` to keep, and what `placed` to write; `orders` is None where nothing is new."""

    orders: NodeOrders | None
    placed: tuple[tuple[OrderNote, RecordedOrder], ...]


async def record_orders(
    plane: ControlPlane, caller: NodePrincipal, record: ClusterRecord, post: HeartbeatPost, now: datetime
) -> int | None:
    """Through which number the orders of this post are in the journal; None: it brought none, or storage refused, and
    the node repeats them."""
    if not post.orders:
        return None
    try:
        placed = await _placed(plane, caller, record, post, now)
        if placed is None:
            log.warning("orders_contended", cluster=caller.cluster, node=caller.node)
            return None
        for note, where in placed:
            for entry in entries_of(caller, post.order_series, note, where):
                await plane.store.journal.append(entry)
    except StoreError as error:
        log.failure("orders_not_recorded", error, cluster=caller.cluster, node=caller.node)
        return None
    return max(note.number for note in post.orders)


async def _placed(
    plane: ControlPlane, caller: NodePrincipal, record: ClusterRecord, post: HeartbeatPost, now: datetime
) -> tuple[tuple[OrderNote, RecordedOrder], ...] | None:
    for _ in range(MAX_ATTEMPTS):
        current = await plane.store.journal.orders(caller.cluster_id, caller.node)
        before = NodeOrders(cluster_id=caller.cluster_id, node=caller.node) if current is None else current.value
        taken = take_in(before, post.order_series, post.orders, record.created_at, now)
        if taken.orders is None:
            return taken.placed
        try:
            await plane.store.journal.put_orders(taken.orders, None if current is None else current.etag)
        except (Exists, Changed):
            continue
        return taken.placed
    return None


def take_in(
    before: NodeOrders, series_id: str, notes: tuple[OrderNote, ...], created_at: datetime, now: datetime
) -> Taken:
    """Pure. What came before and is not of the newest post is in the journal: the node has been told so."""
    others = tuple(series for series in before.series if series.id != series_id)
    series = next((series for series in before.series if series.id == series_id), OrderSeries(id=series_id))
    known = {entry.number: entry for entry in series.latest}
    last_at = max((entry.at for one in before.series for entry in one.latest), default=created_at)
    through, placed = series.through, []
    for note in sorted(notes, key=lambda note: note.number):
        if note.number <= series.through:
            where = known.get(note.number)
        else:
            said = datetime.fromisoformat(note.at_utc)
            at = max(said if created_at <= said <= now else now, last_at + _STEP)
            where = RecordedOrder(number=note.number, at=at, missing=note.number - through - 1)
            through, last_at = note.number, at
        if where is not None:
            placed.append((note, where))
    if through == series.through:
        return Taken(None, tuple(placed))
    moved = OrderSeries(id=series_id, through=through, latest=tuple(where for _, where in placed))
    kept = (*others, moved)[-SERIES_KEPT:]
    return Taken(before.model_copy(update={"series": kept}), tuple(placed))


def entries_of(caller: NodePrincipal, series_id: str, note: OrderNote, where: RecordedOrder) -> list[JournalEntry]:
    """Pure."""
    place = f"{caller.cluster}/{caller.node}"
    identity = f"{caller.cluster_id}-{caller.node}-{series_id}"
    entry = JournalEntry(
        id=f"{identity}-{note.number}",
        at=where.at,
        principal=note.principal or f"node:{place}",
        principal_name=note.who,
        what=f"node_order:{note.action}",
        target=place,
        cluster=caller.cluster,
        reason=note.reason,
        status=403 if note.code else _STATUS[note.outcome],
        result=note.code or _RESULT.get(note.outcome, note.outcome),
        node=caller.node,
        message=note.message,
    )
    if not where.missing:
        return [entry]
    told = (
        f"{where.missing} earlier orders are in the history of the node only (mirrorctl history): it had no room left"
    )
    gap = JournalEntry(
        id=f"{identity}-before-{note.number}",
        at=where.at,
        principal=f"node:{place}",
        principal_name=f"node {caller.node}",
        what="node_order:orders given up",
        target=place,
        cluster=caller.cluster,
        status=507,
        result=LOST,
        node=caller.node,
        message=told,
    )
    return [gap, entry]
