"""The operators' journal: every changing request of a known principal leaves one entry; and reading it. What people
order on the nodes comes with their reports (`node_orders`).

The entry is written after the request was answered inside, whatever the answer; a journal that cannot be written does
not turn a change that happened into an error: the failure is logged with the request's id, which is in the log line of
the request as well. Bodies are not kept, only the reason a caller gave: `reason` in the body, or the header
`mirrorplane-reason` where a request has no such field.
"""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Final

from mirror_agent.contract import NodeName
from pydantic import AwareDatetime

from shared.api.call import Answer, Call, continuation_token, model_json, top_parameter
from shared.api.plane import ControlPlane
from shared.api.timeline import RANGE, Source, walk, window_of
from shared.api.views import Links
from shared.model.document import ApiModel
from shared.model.journal import MAX_REASON_CHARS, MAX_TARGET_CHARS, JournalEntry
from shared.model.principal import Principal
from shared.store.keys import reverse_ticks
from shared.store.ports import Page, StoreError
from shared.structured_log import Log

JOURNAL_KEPT_DAYS: Final = 400
REASON_HEADER: Final = "mirrorplane-reason"
_CLUSTER: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
MAX_NAME_CHARS: Final = 200
MAX_ACTION_CHARS: Final = 40
_SEARCHED_PAGE: Final = 1000
log = Log("mirrorplane.journal")


class JournalEntryView(ApiModel):
    id: str
    at: AwareDatetime
    principal: str
    principal_name: str
    what: str
    target: str
    cluster: str | None = None
    reason: str
    status: int
    result: str
    operation_id: str | None = None
    node: NodeName | None = None
    message: str = ""


class JournalList(ApiModel):
    value: tuple[JournalEntryView, ...]
    next_link: str | None = None


async def note(plane: ControlPlane, principal: Principal, what: str, call: Call, answer: Answer) -> None:
    """Never raises what storage raises."""
    entry = entry_of(plane, principal, what, call, answer)
    try:
        await plane.store.journal.append(entry)
    except StoreError as error:
        log.failure("journal_not_written", error, request=call.request_id, what=entry.what, principal=entry.principal)


def entry_of(plane: ControlPlane, principal: Principal, what: str, call: Call, answer: Answer) -> JournalEntry:
    target, action = _target(call)
    of_cluster = "name" in call.route or "nameAndAction" in call.route
    cluster = target if of_cluster and _CLUSTER.fullmatch(target) else None
    refused = answer.headers.get("x-ms-error-code")
    goes_on = answer.headers.get("Operation-Id")
    return JournalEntry(
        id=call.request_id,
        at=plane.clock(),
        principal=f"{principal.kind}:{principal.id}",
        principal_name=_kept(principal.name, MAX_NAME_CHARS),
        what=f"{what}:{_kept(action, MAX_ACTION_CHARS)}" if action else what,
        target=_kept(target, MAX_TARGET_CHARS),
        cluster=cluster,
        reason=_reason(call),
        status=answer.status,
        result=refused or ("accepted" if goes_on else "done"),
        operation_id=goes_on,
        client_request_id=call.headers.get("x-ms-client-request-id", "")[:128] or None,
    )


async def list_journal(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    """Newest first; with `cluster` only the entries about that one."""
    cluster = call.query.get("cluster")

    async def read(day: date, after: str | None, limit: int) -> Page[JournalEntry]:
        page = await plane.store.journal.page(day, after, limit if cluster is None else _SEARCHED_PAGE)
        if cluster is None:
            return page
        return Page(tuple(entry for entry in page.items if entry.cluster == cluster), page.next)

    source = Source(read, at=lambda entry: entry.at, seek=reverse_ticks)
    found, following = await walk(call, "journal", source, window_of(call, plane.clock(), JOURNAL_KEPT_DAYS))
    body = model_json(JournalList(value=tuple(view(entry) for entry in found)))
    body.pop("nextLink")
    if following is not None:
        kept = {name: call.query[name] for name in (*RANGE, "cluster") if name in call.query}
        token = continuation_token("journal", following)
        links = Links(plane.settings.public_url)
        body["nextLink"] = links.to("journal", **kept, top=str(top_parameter(call)), **{"continue": token})
    return Answer(200, body)


def view(entry: JournalEntry) -> JournalEntryView:
    return JournalEntryView(**{name: getattr(entry, name) for name in JournalEntryView.model_fields})


def _target(call: Call) -> tuple[str, str]:
    """What the path names, and the action behind its colon."""
    for text in call.route.values():
        target, _, action = text.partition(":")
        return target, action
    return "", ""


def _kept(text: str, limit: int) -> str:
    """One line that can be stored: half a surrogate pair, which JSON may bring, becomes a question mark."""
    return " ".join(text.encode("utf-8", "replace").decode().split())[:limit]


def _reason(call: Call) -> str:
    given = call.headers.get(REASON_HEADER, "")
    try:
        body = json.loads(call.body) if call.body else None
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict) and isinstance(body.get("reason"), str):
        given = body["reason"]
    return _kept(given, MAX_REASON_CHARS)
