"""The Event Grid webhook `/runtime/webhooks/eventgrid`: both validation handshakes, both event schemas.

Guarantee: the events of one delivery are all run, in parallel, before it is answered; 202 only if every one
succeeded, else 500, after which Event Grid sends the whole delivery again (so functions must be idempotent).
Event Grid schema: `aeg-event-type` SubscriptionValidation, Notification, Unsubscribe. CloudEvents 1.0: OPTIONS with
WebHook-Request-Origin (abuse protection of the webhook specification), then structured (application/cloudevents+json,
or -batch+json) or binary (`ce-*` headers) deliveries; for these the `aeg-event-type` header may be missing.
Limits: the CloudEvents handshake follows the specification and was not compared with the current extension.
"""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from lab.functions_host import protos
from lab.functions_host.bindings import Function
from lab.functions_host.exchange import Request, Response, answer_json, answer_text
from lab.functions_host.execution import Execution
from lab.functions_host.worker import Failed

PATH: Final = "/runtime/webhooks/eventgrid"
ALLOWED_RATE: Final = "*"
MAX_EVENTS: Final = 5_000  # Event Grid's own limit of events in a batch


class BadDelivery(Exception):
    """The request is not a delivery Event Grid would make; the text says why."""


async def handle(request: Request, function: Function, execution: Execution) -> Response:
    """`request` is authorised and names `function`, which has an Event Grid trigger."""
    if request.method == "OPTIONS":
        return _allow_origin(request)
    if request.method != "POST":
        return answer_text(405, "Event Grid delivers with POST", {"Allow": "POST, OPTIONS"})
    kind = request.header("aeg-event-type").lower()
    try:
        match kind:
            case "subscriptionvalidation":
                return _validate(request)
            case "unsubscribe":
                return Response(202)
            case "notification":
                return await _deliver(events_of(request), function, execution)
            case "" if _is_cloud_event(request):
                return await _deliver(events_of(request), function, execution)
            case _:
                raise BadDelivery(
                    f"aeg-event-type {kind!r} is none of SubscriptionValidation, Notification, Unsubscribe"
                )
    except BadDelivery as error:
        return answer_text(400, str(error))


def _allow_origin(request: Request) -> Response:
    origin = request.header("webhook-request-origin")
    if not origin:
        return answer_text(400, "WebHook-Request-Origin is missing")
    headers = {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": ALLOWED_RATE, "Allow": "POST, OPTIONS"}
    return Response(200, tuple(headers.items()))


def _validate(request: Request) -> Response:
    body = _parse(request.body)
    event = body[0] if isinstance(body, list) and body else body
    try:
        code = event["data"]["validationCode"]
    except (KeyError, TypeError, IndexError):
        raise BadDelivery("a SubscriptionValidation event has data.validationCode") from None
    return answer_json(200, {"validationResponse": code})


def _is_cloud_event(request: Request) -> bool:
    return bool(request.header("ce-specversion")) or request.media_type().startswith("application/cloudevents")


def events_of(request: Request) -> list[dict[str, Any]]:
    """The events of one delivery, each as the JSON object the function gets. Raises BadDelivery."""
    if request.header("ce-specversion"):
        return [_binary_event(request)]
    body = _parse(request.body)
    events = body if isinstance(body, list) else [body]
    if not all(isinstance(event, dict) for event in events):
        raise BadDelivery("a delivery is a JSON object or an array of objects")
    if len(events) > MAX_EVENTS:
        raise BadDelivery(f"a delivery holds at most {MAX_EVENTS} events, got {len(events)}")
    return events


def _binary_event(request: Request) -> dict[str, Any]:
    """CloudEvents HTTP binding 3.1: attributes in `ce-*` headers, percent-encoded; the body is the data."""
    event: dict[str, Any] = {}
    for name, value in request.headers:
        if name.lower().startswith("ce-"):
            event[name.lower().removeprefix("ce-")] = unquote(value)
    media_type = request.media_type()
    if media_type:
        event["datacontenttype"] = request.header("content-type")
    if not request.body:
        return event
    if media_type == "application/json" or media_type.endswith("+json"):
        event["data"] = _parse(request.body)
    elif media_type.startswith("text/"):
        event["data"] = request.body.decode("utf-8", errors="replace")
    else:
        event["data_base64"] = base64.b64encode(request.body).decode()
    return event


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise BadDelivery(f"the body is not JSON: {error}") from None


async def _deliver(events: Sequence[Mapping[str, Any]], function: Function, execution: Execution) -> Response:
    outcomes = await asyncio.gather(
        *(execution.run(function, protos.TypedData(json=json.dumps(event)), {}, "eventgrid") for event in events)
    )
    failures = [outcome.message for outcome in outcomes if isinstance(outcome, Failed)]
    if failures:
        return answer_text(500, f"{len(failures)} of {len(outcomes)} events failed: {failures[0]}")
    return Response(202)
