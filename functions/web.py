"""Between azure.functions and the API: a request becomes a call, an answer becomes a response. Nothing is decided."""

from __future__ import annotations

import json
import uuid
from urllib.parse import unquote, urlsplit

import azure.functions as func

from shared.api.call import Answer, Call
from shared.api.endpoint import Endpoint, serve
from shared.api.endpoints import ENDPOINTS
from shared.composition import control_plane


def new_blueprint() -> func.Blueprint:
    """azure.functions ships no types for this constructor; this is the one place that says so."""
    return func.Blueprint()  # type: ignore[no-untyped-call]


async def respond(name: str, request: func.HttpRequest) -> func.HttpResponse:
    """Serve the endpoint of that name."""
    return await respond_with(ENDPOINTS[name], request)


async def respond_with(endpoint: Endpoint, request: func.HttpRequest) -> func.HttpResponse:
    call = Call(
        method=request.method.upper(),
        path=urlsplit(request.url).path,
        headers={key.lower(): value for key, value in request.headers.items()},
        route={key: unquote(value) for key, value in request.route_params.items()},  # the host leaves %2F encoded
        query=dict(request.params),
        body=request.get_body() or b"",
        request_id=str(uuid.uuid4()),
    )
    return _response(await serve(control_plane, endpoint, call))


def _response(answer: Answer) -> func.HttpResponse:
    match answer.body:
        case None:
            return func.HttpResponse(status_code=answer.status, headers=dict(answer.headers))
        case bytes():
            content = answer.body
        case _:
            content = json.dumps(answer.body, ensure_ascii=False, separators=(",", ":")).encode()
    return func.HttpResponse(
        content, status_code=answer.status, headers=dict(answer.headers), mimetype=answer.content_type
    )
