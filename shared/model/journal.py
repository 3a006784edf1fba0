"""The operators' journal: who asked for what, why, and what became of it. One entry per changing request.

Refused requests of known principals are in it as well. An accepted long request names its operation, which holds the
end of the story.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AwareDatetime, StringConstraints

from shared.model.document import Document

MAX_REASON_CHARS: Final = 500
MAX_TARGET_CHARS: Final = 300


class JournalEntry(Document):
    """`id` is the request's id. `what` is the endpoint's name, with the action of a cluster or an alert after a colon;
    `target` what it was done to as the caller wrote it; `result` `done`, `accepted` or the code of the refusal."""

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
