"""The operators' journal: who asked for what, why, and what became of it. One entry per changing request.

Refused requests of known principals are in it as well. An accepted long request names its operation, which holds the
end of the story.
"""

from __future__ import annotations

from typing import Annotated, Final

from mirror_agent.contract import NodeName
from pydantic import AwareDatetime, Field, StringConstraints

from shared.model.document import Document

MAX_REASON_CHARS: Final = 500
MAX_TARGET_CHARS: Final = 300
# The result of the entry that stands for orders a node had no room to keep.
LOST: Final = "lost"


class JournalEntry(Document):
    """`id` is the request's id. `what` is the endpoint's name, with the action of a cluster or an alert after a colon;
    `target` what it was done to as the caller wrote it; `result` `done`, `accepted` or the code of the refusal.

    Of an order given on a node (its console, mirrorctl): `what` is `node_order:<action>`, `node` where it was given,
    `at` when that was by the node's clock, `message` what the node said; `result` may also be `refused`, `failed` or
    `unknown`."""

    id: str
    at: AwareDatetime
    principal: str
    principal_name: str
    what: str
    target: Annotated[str, StringConstraints(max_length=MAX_TARGET_CHARS)] = ""
    cluster: str | None = None
    reason: Annotated[str, StringConstraints(max_length=MAX_REASON_CHARS)] = ""
    status: int
    result: str
    operation_id: str | None = None
    client_request_id: str | None = None
    node: NodeName | None = None
    message: Annotated[str, StringConstraints(max_length=MAX_REASON_CHARS)] = ""


class RecordedOrder(Document):
    """A number of a series, the time under which it stands in the journal, and how many before it never came."""

    number: Annotated[int, Field(ge=1)]
    at: AwareDatetime
    missing: int = 0


class OrderSeries(Document):
    """How far a series of a node's orders has been taken in. `latest`: of the newest post, which may come again."""

    id: str
    through: int = 0
    latest: tuple[RecordedOrder, ...] = ()


class NodeOrders(Document):
    """What was taken in of a node's orders, the newest series last."""

    cluster_id: str
    node: NodeName
    series: tuple[OrderSeries, ...] = ()
