"""Clusters over HTTP: create or update, read, list, delete, act; and the operations these become.

Nothing long runs here: the record is written conditionally, the operation row and the queue message follow, the
answer goes out. Everything after the record's write can be repeated (see `shared.api.dispatch`).
"""

from __future__ import annotations

import asyncio
import difflib
import re
from typing import Final

from mirror_agent.contract import CommandAction, NodeName
from pydantic import Field

from shared.api.call import Answer, Call, body_of, continuation, continuation_token, model_json, top_parameter
from shared.api.commands import targets
from shared.api.dispatch import cancel, start_action, start_operation
from shared.api.plane import ControlPlane
from shared.api.problem import Problem
from shared.api.views import (
    RETRY_AFTER_S,
    ClusterList,
    Links,
    cluster_view,
    operation_headers,
    operation_view,
)
from shared.api.windows import require_system
from shared.api.wishes import Same, Wish, Write, decide_action, decide_delete, decide_put
from shared.model.authority import ROTATE
from shared.model.cluster import ClusterRecord
from shared.model.cluster_spec import ClusterSpec, brought_elsewhere, check_name
from shared.model.document import ApiModel
from shared.model.operation import Operation
from shared.model.principal import Principal
from shared.model.rollout import UPGRADE
from shared.store.ports import Changed, Exists, TooLarge, Versioned

MAX_ATTEMPTS: Final = 5  # lost races against the reconciler and other callers
_OPERATION_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class ActionRequest(ApiModel):
    """Optional body of an action."""

    node: NodeName | None = None
    reason: str = Field(default="", max_length=500)


async def put_cluster(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    name = _name(call.route["name"])
    spec = body_of(call, ClusterSpec)
    for target, reason in brought_elsewhere(spec, plane.settings.subscription_id):
        raise Problem("InvalidField", reason, target)
    wish = wish_of(plane, caller, call)
    for _ in range(MAX_ATTEMPTS):
        found = await plane.store.clusters.get(name)
        existing = None if found is None else found.value
        await _check_named(plane, wish, existing)
        if existing is None:
            require_system(plane.settings, spec)
        decision = decide_put(name, existing, spec, wish, plane.new_id())
        if isinstance(decision, Same):
            if decision.operation is not None:
                await start_operation(plane.store, decision.record, plane.clock())
            return await _cluster_answer(plane, decision.record, 200, at_work=decision.operation is not None)
        written = await _write(plane, decision, found)
        if written is not None:
            await start_operation(plane.store, written, plane.clock())
            return await _cluster_answer(plane, written, 201 if decision.created else 200, at_work=True)
    raise Problem("OperationInProgress", f"cluster {name!r} is being changed by others; try again")


async def get_cluster(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    record = await named_cluster(plane, call.route["name"])
    return await _cluster_answer(plane, record, 200, at_work=False)


async def list_clusters(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    top = top_parameter(call)
    page = await plane.store.clusters.page(continuation(call, "clusters"), top)
    links, now = _links(plane), plane.clock()
    states = await asyncio.gather(*(plane.store.node_states.of_cluster(entry.value.id) for entry in page.items))
    views = tuple(cluster_view(entry.value, state, links, now) for entry, state in zip(page.items, states, strict=True))
    following = None
    if page.next is not None:
        token = continuation_token("clusters", page.next)
        following = links.to("clusters", **{"top": str(top), "continue": token})
    body = model_json(ClusterList(value=views))
    del body["nextLink"]
    return Answer(200, body if following is None else {**body, "nextLink": following})


async def delete_cluster(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    name = _name(call.route["name"])
    wish = wish_of(plane, caller, call)
    for _ in range(MAX_ATTEMPTS):
        found = await plane.store.clusters.get(name)
        if found is None:
            return Answer(204)
        await _check_named(plane, wish, found.value)
        decision = decide_delete(found.value, wish)
        if isinstance(decision, Same):
            return operation_answer(plane, await start_operation(plane.store, decision.record, plane.clock()))
        written = await _write(plane, decision, found)
        if written is not None:
            operation = await start_operation(plane.store, written, plane.clock())
            if decision.replaces is not None:
                await cancel(plane.store, decision.replaces.id, plane.clock(), by=operation.id)
            return operation_answer(plane, operation)
    raise Problem("OperationInProgress", f"cluster {name!r} is being changed by others; try again")


async def act_on_cluster(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    """`POST clusters/{name}:{action}`; a rotation of the authority is `shared.api.rotation`'s."""
    text, separator, word = call.route["nameAndAction"].partition(":")
    actions = [action.value for action in CommandAction]
    valid = [*actions, ROTATE, UPGRADE]
    if not separator or word not in actions:
        raise Problem(
            "UnknownAction",
            f"{word!r} is no action of a cluster; POST clusters/NAME:ACTION with one of {', '.join(valid)}"
            f"{_nearest(word, valid)}",
        )
    request = body_of(call, ActionRequest) if call.body else ActionRequest()
    action = CommandAction(word)
    wish = wish_of(plane, caller, call)
    for _ in range(MAX_ATTEMPTS):
        found = await _found(plane, text)
        last = found.value.action
        current = None if last is None else await plane.store.operations.get(last.id)
        if wish.named and last is not None and last.id == wish.operation_id and current is not None:
            return operation_answer(plane, current.value)
        await _check_named(plane, wish, None)
        decision = decide_action(
            found.value, None if current is None else current.value, wish, action, request.node, request.reason
        )
        if isinstance(decision, Same):
            if decision.operation is None:
                raise AssertionError("an action that is the same has an operation")
            operation = await start_action(plane.store, decision.record, decision.operation, plane.clock())
            return operation_answer(plane, operation)
        states = await plane.store.node_states.of_cluster(found.value.id)
        targets(found.value, action, request.node, states)  # or says why not
        written = await _write(plane, decision, found)
        if written is not None and written.action is not None:
            return operation_answer(plane, await start_action(plane.store, written, written.action, plane.clock()))
    raise Problem("ActionInProgress", f"cluster {text!r} is being changed by others; try again")


async def get_operation(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    found = None
    if _OPERATION_ID.fullmatch(call.route["id"]):
        found = await plane.store.operations.get(call.route["id"])
    if found is None:
        raise Problem("OperationNotFound", f"there is no operation {call.route['id']!r}")
    headers = {} if found.value.is_final else {"Retry-After": str(RETRY_AFTER_S)}
    return Answer(200, model_json(operation_view(found.value), without_none=True), headers)


def _nearest(word: str, valid: list[str]) -> str:
    close = difflib.get_close_matches(word, valid, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _name(text: str) -> str:
    try:
        return check_name(text)
    except ValueError as error:
        raise Problem("InvalidName", str(error), "name") from None


async def _found(plane: ControlPlane, text: str) -> Versioned[ClusterRecord]:
    """The cluster of that name; a text that can be no name has no cluster. Raises Problem."""
    try:
        found = await plane.store.clusters.get(check_name(text))
    except ValueError:
        found = None
    if found is None:
        raise Problem("ClusterNotFound", f"there is no cluster {text!r}")
    return found


async def named_cluster(plane: ControlPlane, text: str) -> ClusterRecord:
    return (await _found(plane, text)).value


def wish_of(plane: ControlPlane, caller: Principal, call: Call) -> Wish:
    named = call.headers.get("operation-id")
    if named is not None and not _OPERATION_ID.fullmatch(named):
        raise Problem("InvalidParameter", "the header Operation-Id must be a UUID in lower case", "Operation-Id")
    return Wish(
        principal=f"{caller.kind}:{caller.id}",
        operation_id=named or plane.new_id(),
        named=named is not None,
        now=plane.clock(),
        if_match=call.headers.get("if-match"),
        if_none_match=call.headers.get("if-none-match"),
    )


async def _check_named(plane: ControlPlane, wish: Wish, existing: ClusterRecord | None) -> None:
    """An operation id that the caller chose must be new, unless it is the one at work here."""
    if not wish.named or (existing is not None and existing.operation.id == wish.operation_id):
        return
    if await plane.store.operations.get(wish.operation_id) is not None:
        raise Problem(
            "OperationIdReused", f"Operation-Id {wish.operation_id!r} was used for another request", "Operation-Id"
        )


async def _write(plane: ControlPlane, decision: Write, found: Versioned[ClusterRecord] | None) -> ClusterRecord | None:
    """The record as written, None if somebody else was first (decide again)."""
    try:
        if found is None:
            return (await plane.store.clusters.create(decision.record)).value
        return (await plane.store.clusters.replace(decision.record, found.etag)).value
    except TooLarge as error:
        raise Problem("ClusterTooLarge", f"the cluster does not fit into the store: {error}", "application") from None
    except (Exists, Changed):
        current = await plane.store.clusters.get(decision.record.name)
        # The SDK repeats a write whose answer was lost; then it is our own write that stands in the way.
        if current is not None and current.value == decision.record:
            return current.value
        return None


async def _cluster_answer(plane: ControlPlane, record: ClusterRecord, status: int, *, at_work: bool) -> Answer:
    links = _links(plane)
    view = cluster_view(record, await plane.store.node_states.of_cluster(record.id), links, plane.clock())
    headers = {"ETag": record.etag}
    if at_work:
        headers |= operation_headers(links, record.operation)
    return Answer(status, model_json(view), headers)


def operation_answer(plane: ControlPlane, operation: Operation) -> Answer:
    headers = operation_headers(_links(plane), operation)
    if not operation.is_final:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return Answer(202, model_json(operation_view(operation), without_none=True), headers)


def _links(plane: ControlPlane) -> Links:
    return Links(plane.settings.public_url)
