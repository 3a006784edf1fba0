"""What a platform event says about one thing, reduced to the newest word: the memory of the Event Grid handlers.

Events arrive twice, late and in any order. A fact is therefore kept per (cluster, kind, subject) with its `order`, and
of two facts the greater order stays (`newer`): the same set of events leaves the same facts, however it arrived.
`at` is Azure's time of the event, used only to order events of one sender about one thing.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from pydantic import AwareDatetime

from shared.model.document import Document


class EventFactKind(StrEnum):
    RESOURCE_HEALTH = "resource-health"
    ANNOTATION = "annotation"
    RESOURCE = "resource"  # the last change of a VM or load balancer: written, deleted, deallocated, started…
    SCHEDULED_EVENT = "scheduled-event"
    AZURE_ALERT = "azure-alert"
    RAISED = "raised"  # a condition another part of the control plane asked to be told


class EventFact(Document):
    """`value` is the kind's own word (`Unavailable`, `delete`, `Fired`…). `open`: it may need somebody's attention.
    `rank` goes before time: a scheduled event that ended stays ended whatever arrives later. `received_at` is our time
    of the arrival that made it the newest word."""

    cluster: str
    kind: EventFactKind
    subject: str
    value: str
    open: bool
    at: AwareDatetime
    received_at: AwareDatetime
    rank: int = 0
    event_id: str
    resource: str = ""
    node: str | None = None
    sentence: str = ""
    customer_initiated: bool = False
    severity: str = ""

    @property
    def key(self) -> str:
        joined = "\n".join(f"{len(part)}:{part}" for part in (self.kind.value, self.subject))
        return hashlib.sha256(joined.encode()).hexdigest()[:32]

    @property
    def order(self) -> tuple[int, float, str]:
        """Total and the same for everybody; the id only breaks ties of one instant."""
        return (self.rank, self.at.timestamp(), self.event_id)


def newer(one: EventFact, other: EventFact) -> EventFact:
    """The fact that stays: commutative, associative, idempotent."""
    return max(one, other, key=lambda fact: fact.order)
